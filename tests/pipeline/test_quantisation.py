"""Weights in 8 bits: small error, the adapter untouched, offloading as before."""

import builtins

import pytest
import torch
from torch import nn

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.pipeline.memory_options import MemoryOptions
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.pipeline.placement import place
from magicmirror.pipeline.profiles import find_profile
from magicmirror.pipeline.quantisation import is_quantised, quantise, stored_kind, weight_bytes

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


def in_precision(pipeline, dtype):
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            nn.Module.to(part, dtype)
    return pipeline


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


@pytest.mark.parametrize(
    ("kind", "dtype"), [("int8", torch.float32), ("int8", torch.bfloat16), ("fp8", torch.bfloat16)]
)
def test_a_pipeline_in_eight_bits_is_saved_and_loaded_with_them(make_pipeline, reference, tmp_path, kind, dtype):
    pytest.importorskip("torchao")
    pipeline = in_precision(make_pipeline(), dtype)
    quantise(pipeline, kind)
    expected = latents(pipeline, reference)
    pipeline.save_pretrained(tmp_path / "small")
    again = MagicMirrorPipeline.from_pretrained(tmp_path / "small", dtype=dtype)
    assert stored_kind(again) == kind and torch.equal(latents(again, reference), expected)
    again.save_pretrained(tmp_path / "third")
    third = MagicMirrorPipeline.from_pretrained(tmp_path / "third", dtype=dtype)
    assert torch.equal(latents(third, reference), expected)
    other = torch.bfloat16 if dtype == torch.float32 else torch.float32
    with pytest.raises(WeightsError, match=f"made for {dtype}, and {other} was asked for.*with dtype={dtype}"):
        MagicMirrorPipeline.from_pretrained(tmp_path / "small", dtype=other)


def test_weights_that_torchao_quantised_unknown_to_the_library_are_not_saved_in_part(fresh_pipeline, tmp_path):
    torchao = pytest.importorskip("torchao.quantization")
    torchao.quantize_(fresh_pipeline.transformer, torchao.Int8WeightOnlyConfig(), filter_fn=is_quantised)
    with pytest.raises(WeightsError, match=r"transformer was quantised by torchao directly.*Quantise it with"):
        fresh_pipeline.save_pretrained(tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_an_adapter_in_eight_bits_is_neither_saved_nor_filled(make_pipeline, tmp_path):
    torchao = pytest.importorskip("torchao.quantization")
    pipeline = make_pipeline()
    pipeline.save_adapter(tmp_path / "whole")
    torchao.quantize_(pipeline.transformer, torchao.Int8WeightOnlyConfig())
    for attempt in (
        lambda: pipeline.save_adapter(tmp_path / "small"),
        lambda: pipeline.load_adapter(tmp_path / "whole"),
    ):
        with pytest.raises(WeightsError, match=r"stored in 8 bits \(.*adapter.*modules_to_not_convert="):
            attempt()
    assert not (tmp_path / "small").exists()


def test_weights_are_quantised_once(fresh_pipeline, reference):
    pytest.importorskip("torchao")
    profile, cpu = find_profile("preview"), torch.device("cpu")
    place(fresh_pipeline, profile, cpu, MemoryOptions(quantisation="int8"))
    expected = latents(fresh_pipeline, reference)
    for options in (MemoryOptions(quantisation="int8"), MemoryOptions()):
        place(fresh_pipeline, profile, cpu, options)
        assert fresh_pipeline.memory_plan.quantisation == "int8"
        assert torch.equal(latents(fresh_pipeline, reference), expected)
    with pytest.raises(ConfigError, match=r"stored as int8, and fp8 was asked for\. Load the pipeline again"):
        place(fresh_pipeline, profile, cpu, MemoryOptions(quantisation="fp8"))


@pytest.mark.parametrize("by_library", [False, True])
def test_a_stock_transformer_in_eight_bits_gets_an_adapter(make_pipeline, stock_of, reference, tmp_path, by_library):
    torchao = pytest.importorskip("torchao.quantization")
    from diffusers import CogVideoXTransformer3DModel, TorchAoConfig

    pipeline = in_precision(make_pipeline(), torch.bfloat16)
    stock, config = stock_of(pipeline).transformer.to(torch.bfloat16), torchao.Int8WeightOnlyConfig()
    if by_library:
        stock.save_pretrained(tmp_path / "stock")
        stock = CogVideoXTransformer3DModel.from_pretrained(
            tmp_path / "stock",
            quantization_config=TorchAoConfig(config, modules_to_not_convert=MODULES_TO_KEEP),
            torch_dtype=torch.bfloat16,
        )
    else:
        torchao.quantize_(stock, config, filter_fn=is_quantised)
    settings = {"identity_dim": 20, "num_face_tokens": 4, "identity_proj_dim": 8, "can_hidden_dim": 8}
    wrapped = MagicMirrorTransformer3DModel.from_base(stock, **settings)
    keys = wrapped.transformer_blocks[2].adapter.to_k
    assert type(keys.weight) is nn.Parameter
    assert torch.equal(keys.weight, stock.transformer_blocks[2].attn1.to_k.weight.dequantize())
    pipeline.transformer = wrapped
    expected = latents(pipeline, reference)
    assert torch.isfinite(expected).all()
    if by_library:
        pipeline.save_pretrained(tmp_path / "small")
        again = MagicMirrorPipeline.from_pretrained(tmp_path / "small", dtype=torch.bfloat16)
        assert torch.equal(latents(again, reference), expected)


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
