from functools import partial
from itertools import product

import pytest
import torch
from diffusers import FirstBlockCacheConfig, MagCacheConfig, TaylorSeerCacheConfig
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch.profiler import ProfilerActivity, profile

from magicmirror.errors import ConfigError
from magicmirror.pipeline.acceleration import accelerate_pipeline, check_speed, speed_record
from magicmirror.pipeline.speed_options import SpeedOptions, StepCache
from magicmirror.settings import ATTENTION_KERNELS, PADDED_KERNEL

STEPS = 6
EAGER = StepCache("first-block", 100.0)  # so lax that every step after the first is reused
MAG = StepCache("mag", 0.5, (1.0, 1.01, 0.99))


def count_blocks(pipeline):
    calls = []
    for block in pipeline.transformer.transformer_blocks[1:]:
        block.ff.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("cache", [EAGER, MAG], ids=lambda cache: cache.name)
def test_a_step_cache_saves_blocks_and_leaves_nothing_behind(fresh_pipeline, reference, cache):
    options = {"seed": 0, "num_inference_steps": STEPS, "guidance_scale": 3.0, "output_type": "latent"}
    exact = fresh_pipeline("a man smiles", [reference], **options).frames
    calls = count_blocks(fresh_pipeline)
    accelerate_pipeline(fresh_pipeline, SpeedOptions(cache=cache))
    enabled = []

    def watch(pipeline, *_):
        enabled.append(pipeline.transformer.is_cache_enabled)
        return {}

    cached = fresh_pipeline("a man smiles", [reference], callback_on_step_end=watch, **options).frames
    assert len(calls) < 2 * STEPS and enabled == [True] * STEPS
    assert not torch.equal(cached, exact)
    assert torch.equal(fresh_pipeline("a man smiles", [reference], **options).frames, cached)
    assert not fresh_pipeline.transformer.is_cache_enabled
    accelerate_pipeline(fresh_pipeline, SpeedOptions())
    assert torch.equal(fresh_pipeline("a man smiles", [reference], **options).frames, exact)


@pytest.mark.parametrize("cache", [StepCache("first-block", 1e-9), MAG], ids=lambda cache: cache.name)
def test_compiled_blocks_run_compiled_within_a_cache(fresh_pipeline, reference, monkeypatch, cache):
    options = {"seed": 0, "num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "latent"}
    fresh_pipeline.step_cache = cache
    expected = fresh_pipeline("a man smiles", [reference], **options).frames
    runs, graphs = [], []

    def backend(graph, _):
        graphs.append(graph)
        return lambda *tensors: runs.append(1) or graph.forward(*tensors)

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    blocks = fresh_pipeline.transformer.transformer_blocks
    fresh_pipeline.transformer.compile_repeated_blocks(backend=backend)
    compiled = [block._compiled_call_impl for block in blocks]
    found = fresh_pipeline("a man smiles", [reference], **options).frames
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    steps = len(runs) // len(blocks)
    assert len(runs) == steps * len(blocks) and steps >= 1 and len(graphs) == 2
    assert [block._compiled_call_impl for block in blocks] == compiled
    fresh_pipeline("a man smiles", [reference], **options)
    fresh_pipeline.step_cache = None
    fresh_pipeline("a man smiles", [reference], **options)
    assert len(graphs) == 2 and len(runs) == 2 * steps * len(blocks) + 3 * len(blocks)
    torch._dynamo.reset()


def test_a_cancelled_request_leaves_no_cache(fresh_pipeline, reference):
    class Cancelled(Exception):
        pass

    def stop(*_):
        raise Cancelled

    options = {"seed": 0, "num_inference_steps": STEPS, "output_type": "latent"}
    exact = fresh_pipeline("a man smiles", [reference], **options).frames
    fresh_pipeline.step_cache = EAGER
    with pytest.raises(Cancelled):
        fresh_pipeline("a man smiles", [reference], callback_on_step_end=stop, **options)
    fresh_pipeline.step_cache = None
    assert torch.equal(fresh_pipeline("a man smiles", [reference], **options).frames, exact)


def test_an_attention_kernel_reaches_the_blocks_and_no_other_model(fresh_pipeline):
    accelerate_pipeline(fresh_pipeline, SpeedOptions(attention="_native_math"))
    kernels = {str(processor._attention_backend) for processor in fresh_pipeline.transformer.attn_processors.values()}
    assert kernels == {"_native_math"} or kernels == {"AttentionBackendName._NATIVE_MATH"}
    assert str(_AttentionBackendRegistry.get_active_backend()[0]).lower().endswith("native")
    assert set(ATTENTION_KERNELS) - {PADDED_KERNEL} <= {name.value for name in AttentionBackendName}


def test_padded_tokens_make_the_same_video_and_are_named_in_its_record(fresh_pipeline, reference):
    options = {"seed": 0, "num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "latent"}
    expected = fresh_pipeline("a man smiles", [reference], **options).frames
    padded = SpeedOptions(attention=PADDED_KERNEL)
    check_speed(padded, torch.device("cpu"), torch.float32)
    accelerate_pipeline(fresh_pipeline, padded)
    found = fresh_pipeline("a man smiles", [reference], **options).frames
    assert speed_record(fresh_pipeline)["attention"] == "padded" and not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    for processor in fresh_pipeline.transformer.attn_processors.values():
        processor._attention_backend = AttentionBackendName._NATIVE_MATH  # as set_attention_backend of the library
    assert speed_record(fresh_pipeline)["attention"] == "_native_math"
    accelerate_pipeline(fresh_pipeline, SpeedOptions(attention="native"))
    assert speed_record(fresh_pipeline)["attention"] == "native"
    assert torch.equal(fresh_pipeline("a man smiles", [reference], **options).frames, expected)


def test_a_padded_kernel_that_is_wrong_on_this_machine_is_refused(monkeypatch):
    monkeypatch.setattr("magicmirror.pipeline.acceleration.padded_attention", lambda query, key, value: 0.9 * value)
    with pytest.raises(ConfigError, match='"padded" cannot be used on cpu: it is wrong by'):
        check_speed(SpeedOptions(attention=PADDED_KERNEL), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("kernel", ["flash", "_native_cudnn"])
def test_a_kernel_that_is_missing_or_made_for_another_device_is_refused(kernel):
    with pytest.raises(ConfigError, match=f'"{kernel}" cannot be used on cpu: .*leave the choice out'):
        check_speed(SpeedOptions(attention=kernel), torch.device("cpu"), torch.float32)
    assert str(_AttentionBackendRegistry.get_active_backend()[0]).lower().endswith("native")


def test_compilation_without_a_compiler_is_refused(monkeypatch):
    asked = SpeedOptions(compile=True)
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler"):
        check_speed(asked, torch.device("cpu"), torch.float32)
    check_speed(SpeedOptions(), torch.device("cpu"), torch.float32)


def test_the_record_says_what_a_video_was_made_with(fresh_pipeline):
    accelerate_pipeline(fresh_pipeline, SpeedOptions(bfloat16_decode=False))
    plain = {"compile": False, "attention": "native", "step_cache": None, "decode_dtype": "float32"}
    assert speed_record(fresh_pipeline) == plain
    options = SpeedOptions.named(True, "_native_math", "first-block:0.25")
    assert options.short_name == " compiled _native_math first-block:0.25" and SpeedOptions().short_name == ""
    accelerate_pipeline(fresh_pipeline, options)
    record = speed_record(fresh_pipeline)
    assert (record["compile"], record["attention"], record["step_cache"]) == (True, "_native_math", "first-block:0.25")


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (FirstBlockCacheConfig(threshold=0.5), "first-block:0.5"),
        (MagCacheConfig(threshold=0.25, mag_ratios=[1.0] * 3, num_inference_steps=3), "mag:0.25"),
        (TaylorSeerCacheConfig(), "TaylorSeerCache"),
    ],
)
def test_the_record_names_a_cache_that_was_enabled_through_the_library(fresh_pipeline, config, name):
    fresh_pipeline.step_cache = StepCache("first-block", 0.125)
    fresh_pipeline.transformer.enable_cache(config)
    assert speed_record(fresh_pipeline)["step_cache"] == name
    fresh_pipeline.transformer.disable_cache()
    assert speed_record(fresh_pipeline)["step_cache"] == "first-block:0.125"


@pytest.mark.parametrize("kernel", ["_native_math", PADDED_KERNEL])
def test_no_options_undo_all_that_was_switched_on(fresh_pipeline, reference, kernel):
    options = {"seed": 0, "num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "latent"}
    plain = SpeedOptions(bfloat16_decode=False)
    accelerate_pipeline(fresh_pipeline, plain)
    expected, record = fresh_pipeline("a man smiles", [reference], **options).frames, speed_record(fresh_pipeline)
    accelerate_pipeline(fresh_pipeline, SpeedOptions(True, kernel, EAGER, True))
    fresh_pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=100.0))
    assert set(speed_record(fresh_pipeline).values()).isdisjoint(record.values())
    accelerate_pipeline(fresh_pipeline, plain)
    assert speed_record(fresh_pipeline) == record
    assert torch.equal(fresh_pipeline("a man smiles", [reference], **options).frames, expected)


def test_videos_of_more_kinds_than_the_process_allows_graphs_run_compiled(fresh_pipeline, reference, monkeypatch):
    runs = []
    torch._dynamo.reset()
    backend = lambda graph, _: lambda *tensors: runs.append(1) or graph.forward(*tensors)  # noqa: E731
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    with torch._dynamo.config.patch(recompile_limit=3):
        accelerate_pipeline(fresh_pipeline, SpeedOptions(compile=True))
        for scale, height in product((3.0, 1.0), (32, 48)):
            options = {"height": height, "width": 16, "num_inference_steps": 1, "guidance_scale": scale}
            fresh_pipeline("a man smiles", [reference], seed=0, output_type="latent", **options)
    torch._dynamo.reset()
    assert len(runs) == 4 * len(fresh_pipeline.transformer.transformer_blocks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "tea", "threshold": 0.1}, "is no step cache.*first-block, mag"),
        ({"name": "first-block", "threshold": 0.0}, "must be above 0, got 0.0"),
        ({"name": "mag", "threshold": 0.1}, "needs mag_ratios"),
    ],
)
def test_impossible_caches_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        StepCache(**options)


def test_an_unknown_kernel_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r'"fastest" is no attention kernel.*native, .*xformers'):
        SpeedOptions(attention="fastest")


def test_decoding_in_bfloat16_changes_only_the_last_bits_of_a_picture(fresh_pipeline, reference):
    options = {"seed": 0, "num_inference_steps": 2, "guidance_scale": 3.0}
    exact = fresh_pipeline("a man smiles", [reference], **options).frames
    accelerate_pipeline(fresh_pipeline, SpeedOptions(bfloat16_decode=True))
    latents = fresh_pipeline("a man smiles", [reference], output_type="latent", **options).frames
    found = fresh_pipeline("a man smiles", [reference], **options).frames
    assert latents.dtype == fresh_pipeline.vae.dtype == torch.float32 and found.dtype == exact.dtype
    assert 0 < abs(found - exact).mean() < 0.005
    accelerate_pipeline(fresh_pipeline, SpeedOptions(bfloat16_decode=False))
    assert (fresh_pipeline("a man smiles", [reference], **options).frames == exact).all()


def test_float32_is_decoded_by_the_faster_convolutions_unless_it_is_asked_for(fresh_pipeline, reference, monkeypatch):
    """Equal to rounding where the processor has no bfloat16; to the bit with ``bfloat16_decode=False``."""
    monkeypatch.setattr("magicmirror.pipeline.acceleration.has_bfloat16", lambda device: False)
    options = {"seed": 0, "num_inference_steps": 2, "guidance_scale": 3.0}
    exact = fresh_pipeline("a man smiles", [reference], **options).frames
    accelerate_pipeline(fresh_pipeline, SpeedOptions())
    latents = fresh_pipeline("a man smiles", [reference], output_type="latent", **options).frames
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as record:
        found = fresh_pipeline.decode_latents(latents)
    kernels = {event.key for event in record.key_averages()}
    assert "aten::mkldnn_convolution" in kernels and "aten::slow_conv3d_forward" not in kernels
    frames = fresh_pipeline("a man smiles", [reference], **options).frames
    assert 0 < abs(frames - exact).max() < 1e-4 and found.shape[2] == exact.shape[1]
    accelerate_pipeline(fresh_pipeline, SpeedOptions(bfloat16_decode=False))
    assert (fresh_pipeline("a man smiles", [reference], **options).frames == exact).all()


def test_a_pipeline_that_leaves_float32_decodes_in_its_own_precision(fresh_pipeline, reference):
    accelerate_pipeline(fresh_pipeline, SpeedOptions(bfloat16_decode=True))
    assert speed_record(fresh_pipeline)["decode_dtype"] == "bfloat16"
    fresh_pipeline.to(torch.float16)
    assert speed_record(fresh_pipeline)["decode_dtype"] == "float16"
    options = {"seed": 0, "num_inference_steps": 2, "guidance_scale": 3.0}
    found = fresh_pipeline("a man smiles", [reference], **options).frames
    fresh_pipeline.decode_dtype = None
    assert (fresh_pipeline("a man smiles", [reference], **options).frames == found).all()
