"""What may make a pipeline faster: compiled blocks, another attention kernel, steps that reuse an earlier one's work.

Compilation and kernels change nothing but the last bits. A step cache changes the video; what it costs in likeness and
in PSNR is measured by ``benchmarks/caches.py`` (``docs/performance.md``), and none is on unless it is asked for.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import FirstBlockCacheConfig, MagCacheConfig
from diffusers.models.attention_dispatch import _AttentionBackendRegistry, attention_backend, dispatch_attention_fn
from diffusers.utils.torch_utils import is_compiled_module

from magicmirror.errors import ConfigError
from magicmirror.models.padded_attention import TILE_TOKENS, padded_attention
from magicmirror.models.precision import has_bfloat16
from magicmirror.pipeline.speed_options import SpeedOptions, StepCache
from magicmirror.settings import PADDED_KERNEL

_GRAPHS = 64
"""How many graphs a block may have; with torch's eight, videos of a ninth kind would run uncompiled without a word.

A kind is another number of rows, one latent frame or several, with a face or without, each with fixed sizes first and
with free ones from the second size on; adapted blocks have graphs of their own.
"""
_TRIAL_SHAPE = (2, 16, 2, 64)
_TRIAL_TOLERANCE = 0.03  # of values that are about 1, in bfloat16


def check_speed(options: SpeedOptions, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse what this machine cannot do, before weights are loaded for it.

    Args:
        options: What was asked for.
        device: Where the transformer will work.
        dtype: Its precision.

    Raises:
        ConfigError: For an attention kernel that is not installed or does not run on the device, or for compilation
            without a compiler.
    """
    if options.attention is not None:
        try:
            _try_kernel(options.attention, device, dtype)
        except Exception as error:  # each kernel fails in its own way
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f'The attention kernel "{options.attention}" cannot be used on {device.type}: {reason}',
                "Install what it needs, or leave the choice out.",
            ) from error
    if options.compile and not _has_compiler(device):
        wanted = "triton" if device.type == "cuda" else "a C++ compiler"
        raise ConfigError(f"Compilation for {device.type} needs {wanted}.", "Install it, or leave compilation off.")


def _try_kernel(name: str, device: torch.device, dtype: torch.dtype) -> None:
    """Attend once; ours, which depends on what a kernel says of its softmax, must also be right."""
    trial = torch.linspace(-3, 3, math.prod(_TRIAL_SHAPE)).sin().reshape(_TRIAL_SHAPE).to(device, dtype)
    if name != PADDED_KERNEL:
        with attention_backend(name):
            dispatch_attention_fn(trial, trial, trial)
        return
    by_head = trial.float().cpu().transpose(1, 2)
    expected = torch.nn.functional.scaled_dot_product_attention(by_head, by_head, by_head).transpose(1, 2)
    difference = (padded_attention(trial, trial, trial).float().cpu() - expected).abs().max().item()
    if not difference < _TRIAL_TOLERANCE:
        raise RuntimeError(f"it is wrong by {difference:.2g}")


def set_attention(transformer: Any, name: str | None) -> None:
    """Have all blocks of a transformer attend with one kernel.

    Args:
        transformer: ``MagicMirrorTransformer3DModel``.
        name: One of ``ATTENTION_KERNELS`` that ``check_speed`` let pass; ``None`` is torch's choice.
    """
    pads = name == PADDED_KERNEL
    for processor in transformer.attn_processors.values():
        processor.token_multiple = TILE_TOKENS if pads else None
    if pads or name is None:
        transformer.reset_attention_backend()
        return
    # The library makes it the choice of every model in the process as well; that one is put back.
    choice, _ = _AttentionBackendRegistry.get_active_backend()
    try:
        transformer.set_attention_backend(name)
    finally:
        _AttentionBackendRegistry.set_active_backend(choice)


def accelerate_pipeline(pipeline: Any, options: SpeedOptions) -> None:
    """Have a pipeline that has its place on a device run as the options say, however it ran before.

    Args:
        pipeline: ``MagicMirrorPipeline``.
        options: What was asked for, after ``check_speed``.
    """
    transformer = pipeline.transformer
    set_attention(transformer, options.attention)
    for module in transformer.modules():
        module._compiled_call_impl = None
    if options.compile:
        transformer.compile_repeated_blocks(**_compile_options())
    if transformer.is_cache_enabled:
        transformer.disable_cache()
    pipeline.step_cache = options.cache
    whole = pipeline.device.type == "cpu" and pipeline.vae.dtype == torch.float32
    wanted = has_bfloat16(pipeline.device) if options.bfloat16_decode is None else options.bfloat16_decode
    pipeline.decode_dtype = torch.bfloat16 if whole and wanted else None
    pipeline.direct_convolutions = whole and options.bfloat16_decode is None


def speed_record(pipeline: Any) -> dict[str, Any]:
    """What of a pipeline's speed its videos depend on, as JSON can hold it.

    Args:
        pipeline: ``MagicMirrorPipeline``, as it is now.

    Returns:
        Whether anything of the transformer is compiled, the attention kernel, the step cache with its threshold
        (``None`` computes every step) and the precision of decoding.
    """
    transformer = pipeline.transformer
    processor = next(iter(transformer.attn_processors.values()))
    active, _ = _AttentionBackendRegistry.get_active_backend()
    chosen = processor._attention_backend
    # A processor of the library's own, which somebody may have set, pads nothing; ours does where no kernel was chosen.
    padded = chosen is None and getattr(processor, "token_multiple", None) is not None
    kernel = PADDED_KERNEL if padded else (chosen or active).value
    return {
        "compile": is_compiled_module(transformer)
        or any(module._compiled_call_impl is not None for module in transformer.modules()),
        "attention": str(kernel),
        "step_cache": _cache_name(transformer._cache_config, pipeline.step_cache),
        "decode_dtype": str(pipeline.decode_precision).removeprefix("torch."),
    }


def _cache_name(of_library: Any, cache: StepCache | None) -> str | None:
    """Name of the cache that is in force; one that was enabled through the library comes before the pipeline's."""
    if of_library is None:
        return None if cache is None else str(cache)
    if isinstance(of_library, FirstBlockCacheConfig):
        return str(StepCache("first-block", of_library.threshold))
    if isinstance(of_library, MagCacheConfig):
        return f"mag:{of_library.threshold:g}"
    return type(of_library).__name__.removesuffix("Config")


@contextmanager
def step_cache(transformer: Any, cache: StepCache | None, num_inference_steps: int) -> Iterator[None]:
    """Have a cache on for one loop; however it ends, nothing of it is left for the next request.

    Args:
        transformer: ``MagicMirrorTransformer3DModel``; a cache that it has already stays as it is.
        cache: ``None`` computes every step.
        num_inference_steps: Of this loop.
    """
    if cache is None or transformer.is_cache_enabled:
        yield
        return
    transformer.enable_cache(_cache_config(cache, num_inference_steps))
    try:
        with _compiled_within(transformer.transformer_blocks):
            yield
    finally:
        transformer.disable_cache()


@contextmanager
def _compiled_within(blocks: Any) -> Iterator[None]:
    """Have compiled blocks compiled within the cache's hooks, not around them.

    What a hook decides is Python that cannot be compiled: around it, the mag cache's blocks would run uncompiled, and
    every block of the first-block cache would need a graph of its own.
    """
    changed: list[tuple[Any, Any, Any, Any]] = []
    for block in blocks:
        hooked = block._diffusers_hook._fn_refs[:1]  # the first one registered is the innermost
        if block._compiled_call_impl is not None and hooked and hooked[0].original_forward is not None:
            changed.append((block, block._compiled_call_impl, hooked[0], hooked[0].original_forward))
    for block, _, function, forward in changed:
        block._compiled_call_impl, function.original_forward = None, torch.compile(forward, **_compile_options())
    try:
        yield
    finally:
        for block, compiled, function, forward in changed:
            block._compiled_call_impl, function.original_forward = compiled, forward


def _compile_options() -> dict[str, Any]:
    """What ``torch.compile`` takes to make as many graphs as there are kinds of videos."""
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        return {"recompile_limit": _GRAPHS}
    # Before torch 2.13 it is a setting of the process; since then a setting would concern one thread alone.
    torch._dynamo.config.recompile_limit = max(_GRAPHS, torch._dynamo.config.recompile_limit)
    return {}


def _cache_config(cache: StepCache, num_inference_steps: int) -> FirstBlockCacheConfig | MagCacheConfig:
    """The library's configuration for a call of so many steps."""
    if cache.name == "first-block":
        return FirstBlockCacheConfig(threshold=cache.threshold)
    return MagCacheConfig(
        threshold=cache.threshold, num_inference_steps=num_inference_steps, mag_ratios=list(cache.mag_ratios)
    )


def _has_compiler(device: torch.device) -> bool:
    """Whether torch finds what it compiles for a device with."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return bool(has_triton())
    if device.type != "cpu":
        return True
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return bool(get_cpp_compiler())
    except InvalidCxxCompiler:
        return False
