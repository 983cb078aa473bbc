"""LoRA weights for CogVideoX on a pipeline with the adapter."""

import pytest
import torch
from safetensors.torch import save_file

OPTIONS = {"num_inference_steps": 2, "guidance_scale": 3.0, "seed": 0, "output_type": "latent"}
NAMES = [f"transformer_blocks.{block}.attn1.{layer}" for block in range(3) for layer in ("to_q", "to_k", "to_v")]


def latents(pipeline, reference, **changes):
    return pipeline("a man smiles", [reference], **OPTIONS, **changes).frames


@pytest.fixture(scope="module")
def lora():
    """Factors of rank 4 for the attention of all blocks, adapted or not."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: (0.2 * torch.randn(4, 32, generator=generator), 0.2 * torch.randn(32, 4, generator=generator))
        for name in NAMES
    }


@pytest.fixture
def lora_folder(lora, tmp_path):
    state = {}
    for name, (down, up) in lora.items():
        state[f"transformer.{name}.lora_A.weight"], state[f"transformer.{name}.lora_B.weight"] = down, up
    save_file(state, tmp_path / "pytorch_lora_weights.safetensors")
    return tmp_path


def test_lora_is_the_sum_of_the_weights_and_leaves_the_adapter_alone(make_pipeline, reference, lora, lora_folder):
    pytest.importorskip("peft")
    pipeline, merged = make_pipeline(), make_pipeline()
    plain = latents(pipeline, reference)
    for name, (down, up) in lora.items():
        merged.transformer.get_submodule(name).weight.data += up @ down
    expected = latents(merged, reference)
    assert (expected - plain).abs().max() > 0.1

    adapter = {name: value.clone() for name, value in pipeline.transformer.adapter_state_dict().items()}
    pipeline.load_lora_weights(lora_folder)
    torch.testing.assert_close(latents(pipeline, reference), expected, rtol=0, atol=1e-4)
    after = pipeline.transformer.adapter_state_dict()
    assert after.keys() == adapter.keys() and all(torch.equal(after[name], adapter[name]) for name in adapter)

    assert torch.equal(latents(pipeline, reference, attention_kwargs={"scale": 0.0}), plain)
    pipeline.fuse_lora()
    torch.testing.assert_close(latents(pipeline, reference), expected, rtol=0, atol=1e-4)
    pipeline.unfuse_lora()
    pipeline.unload_lora_weights()
    torch.testing.assert_close(latents(pipeline, reference), plain, rtol=0, atol=1e-4)


def test_lora_can_be_trained_beside_the_adapter(make_pipeline, reference):
    peft = pytest.importorskip("peft")
    pipeline = make_pipeline()
    plain = latents(pipeline, reference)
    pipeline.transformer.add_adapter(peft.LoraConfig(r=2, target_modules=["attn1.to_q", "attn1.to_v"]))
    trained = {name for name, parameter in pipeline.transformer.named_parameters() if parameter.requires_grad}
    assert len(trained) == 3 * 2 * 2 and all("lora" in name for name in trained)
    assert torch.equal(latents(pipeline, reference), plain)  # a fresh LoRA adds nothing
