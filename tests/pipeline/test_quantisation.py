"""Weights in 8 bits: small error, the adapter untouched, offloading as before."""

import builtins

import pytest
import torch
from torch import nn

from magicmirror.errors import ConfigError
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.pipeline.quantisation import is_quantised, quantise, weight_bytes

OPTIONS = {"num_inference_steps": 2, "guidance_scale": 3.0, "seed": 0, "output_type": "latent"}
MODULES_TO_KEEP = [
    "adapter",
    "identity_proj",
    "norm1",
    "norm2",
    "norm_out",
    "patch_embed",
    "time_embedding",
    "proj_out",
]


def latents(pipeline, reference):
    return pipeline("a man smiles", [reference], **OPTIONS).frames


def plain_weights(network):
    """Names of the layers whose weight is an ordinary parameter."""
    return {
        name
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and type(layer.weight) is nn.Parameter
    }


@pytest.mark.parametrize(
    ("kind", "dtype", "tolerance"), [("int8", torch.int8, 0.02), ("fp8", torch.float8_e4m3fn, 0.06)]
)
def test_weights_in_eight_bits(make_pipeline, reference, kind, dtype, tolerance):
    pytest.importorskip("torchao")
    pipeline = make_pipeline()
    exact = latents(pipeline, reference)
    adapter = {name: value.clone() for name, value in pipeline.transformer.adapter_state_dict().items()}
    before = weight_bytes(pipeline.text_encoder)
    quantise(pipeline, kind)

    block = pipeline.transformer.transformer_blocks[0]
    assert block.attn1.to_q.weight.qdata.dtype == dtype
    assert pipeline.text_encoder.encoder.block[0].layer[0].SelfAttention.q.weight.qdata.dtype == dtype
    for name in plain_weights(pipeline.transformer):
        kept = ("adapter", "identity_proj", "norm", "patch_embed", "time_embedding", "proj_out")
        assert any(part in name for part in kept), name
    after = pipeline.transformer.adapter_state_dict()
    assert all(type(after[name]) is torch.Tensor and torch.equal(after[name], value) for name, value in adapter.items())
    assert weight_bytes(pipeline.text_encoder) < 0.6 * before  # float32 here; the embedding stays

    found = latents(pipeline, reference)
    error = ((found - exact).norm() / exact.norm()).item()
    assert 0 < error < tolerance
    pipeline.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
    assert torch.equal(latents(pipeline, reference), found)


def test_the_library_s_own_way_loads_and_saves(fresh_pipeline, tmp_path):
    torchao = pytest.importorskip("torchao.quantization")
    from diffusers import TorchAoConfig

    network = fresh_pipeline.transformer.to(torch.bfloat16)
    network.save_pretrained(tmp_path / "plain")
    config = TorchAoConfig(torchao.Int8WeightOnlyConfig(), modules_to_not_convert=MODULES_TO_KEEP)
    loaded = MagicMirrorTransformer3DModel.from_pretrained(
        tmp_path / "plain", quantization_config=config, torch_dtype=torch.bfloat16
    )
    linear = {name for name, layer in loaded.named_modules() if isinstance(layer, nn.Linear)}
    expected = {name for name, layer in network.named_modules() if is_quantised(layer, name)}
    assert linear - plain_weights(loaded) == expected and len(expected) == 3 * 6
    loaded.save_pretrained(tmp_path / "small")
    again = MagicMirrorTransformer3DModel.from_pretrained(tmp_path / "small", torch_dtype=torch.bfloat16)
    weights = [model.transformer_blocks[2].ff.net[0].proj.weight.dequantize() for model in (loaded, again)]
    assert torch.equal(*weights)


def test_bytes_of_plain_weights():
    assert weight_bytes(nn.Linear(3, 5, dtype=torch.float16)) == 2 * (3 * 5 + 5)


def test_no_torchao_says_what_to_install(fresh_pipeline, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("torchao"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"needs torchao.*magicmirror\[quantisation\]"):
        quantise(fresh_pipeline, "int8")
    quantise(fresh_pipeline, "none")
