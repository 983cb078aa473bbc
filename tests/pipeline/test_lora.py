"""LoRA weights for CogVideoX on a pipeline with the adapter."""

import pytest
import torch
from safetensors.torch import save_file

from magicmirror.errors import WeightsError
from magicmirror.pipeline.memory_forecast import MemoryPlan
from magicmirror.pipeline.placement import apply_plan

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


@pytest.mark.parametrize("plan", [MemoryPlan("resident", frees_text_encoder=True), MemoryPlan("group")])
def test_the_networks_stay_where_they_are_when_lora_is_loaded(make_pipeline, reference, lora_folder, plan):
    pytest.importorskip("peft")
    plain, moved = make_pipeline(), make_pipeline()
    apply_plan(moved, plan, torch.device("cpu"))
    hooks = [getattr(part, "_hf_hook", None) for part in moved.components.values()]
    for pipeline in (plain, moved):
        pipeline.load_lora_weights(lora_folder)
    assert [getattr(part, "_hf_hook", None) for part in moved.components.values()] == hooks
    assert (moved.text_encoder_hook is not None) == plan.frees_text_encoder
    assert torch.equal(latents(moved, reference), latents(plain, reference))


def test_lora_of_the_base_by_the_end_of_names_leaves_the_adapter_alone(make_pipeline, reference, tmp_path):
    peft = pytest.importorskip("peft")
    pipeline = make_pipeline()
    pipeline.save_adapter(tmp_path / "before")
    config = peft.LoraConfig(r=2, target_modules=["to_k", "to_v"], init_lora_weights=False)
    pipeline.transformer.add_adapter(config)
    trained = [name for name, parameter in pipeline.transformer.named_parameters() if parameter.requires_grad]
    assert len(trained) == 3 * 2 * 2 and all(".attn1." in name for name in trained)
    assert config.exclude_modules is None
    pipeline.fuse_lora()
    pipeline.save_adapter(tmp_path / "after")
    files = [tmp_path / name / "magicmirror_adapter.safetensors" for name in ("before", "after")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_lora_in_the_adapter_s_own_layers_is_not_part_of_its_file(make_pipeline, reference, tmp_path):
    peft = pytest.importorskip("peft")
    pipeline = make_pipeline()
    pipeline.save_adapter(tmp_path / "before")
    layers = ["adapter.to_k", "adapter.to_v"]
    pipeline.transformer.add_adapter(peft.LoraConfig(r=2, target_modules=layers, init_lora_weights=False))
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["to_kv"]), pipeline.face_perceiver)
    with_lora = latents(pipeline, reference)
    pipeline.save_adapter(tmp_path / "after")
    files = [tmp_path / name / "magicmirror_adapter.safetensors" for name in ("before", "after")]
    assert files[0].read_bytes() == files[1].read_bytes()

    make_pipeline(seed=7).save_adapter(tmp_path / "other")
    pipeline.load_adapter(tmp_path / "other")
    assert not torch.allclose(latents(pipeline, reference), with_lora, atol=1e-3)
    pipeline.load_adapter(tmp_path / "before")
    assert torch.equal(latents(pipeline, reference), with_lora)
    pipeline.fuse_lora()
    with pytest.raises(WeightsError, match=r"LoRA is fused into transformer_blocks.0.adapter.to_k.*unfuse_lora"):
        pipeline.save_adapter(tmp_path / "fused")
    assert not (tmp_path / "fused").exists()


def test_a_pipeline_is_not_saved_with_lora_in_its_layers(make_pipeline, reference, lora_folder, tmp_path):
    pytest.importorskip("peft")
    pipeline = make_pipeline()
    pipeline.load_lora_weights(lora_folder)
    with pytest.raises(WeightsError, match=r"LoRA is loaded into the transformer.*unload_lora_weights\(\) first"):
        pipeline.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    expected = latents(pipeline, reference)
    pipeline.save_pretrained(tmp_path / "saved")
    assert torch.equal(latents(type(pipeline).from_pretrained(tmp_path / "saved"), reference), expected)
    assert not torch.allclose(expected, latents(make_pipeline(), reference), atol=1e-2)
