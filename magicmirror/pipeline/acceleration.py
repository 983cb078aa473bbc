"""What may make a pipeline faster: compiled blocks, another attention kernel, steps that reuse an earlier one's work.

Compilation and kernels change nothing but the last bits. A step cache changes the video; what it costs in likeness and
in PSNR is measured by ``benchmarks/caches.py`` (``docs/performance.md``), and none is on unless it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import FirstBlockCacheConfig, MagCacheConfig
from diffusers.models.attention_dispatch import _AttentionBackendRegistry

from magicmirror.errors import ConfigError

CacheName = Literal["first-block", "mag"]
CACHES: tuple[CacheName, ...] = ("first-block", "mag")


@dataclass(frozen=True)
class StepCache:
    """Let a denoising step reuse the blocks of an earlier one.

    Args:
        name: ``first-block`` computes the first block and reuses the rest where that block changed little; ``mag``
            skips whole steps by how much their size is known to change.
        threshold: Largest change that counts as little; larger is faster and worse.
        mag_ratios: For ``mag``: change of size at every step of one run, of ``calibrate=True`` of ``MagCacheConfig``;
            stretched to the number of steps of a call.
    """

    name: CacheName
    threshold: float
    mag_ratios: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what the library would refuse in the middle of a request.

        Raises:
            ConfigError: For an unknown name, a threshold that is not positive, or ``mag`` without ratios.
        """
        if self.name not in CACHES:
            raise ConfigError(f'"{self.name}" is no step cache.', f"Choose one of {', '.join(CACHES)}.")
        if not self.threshold > 0:
            raise ConfigError(f"The threshold of a step cache must be above 0, got {self.threshold}.")
        if self.name == "mag" and not self.mag_ratios:
            raise ConfigError("The mag cache needs mag_ratios of this model.", "benchmarks/caches.py finds them.")

    def config(self, num_inference_steps: int) -> FirstBlockCacheConfig | MagCacheConfig:
        """The library's configuration for a call of so many steps."""
        if self.name == "first-block":
            return FirstBlockCacheConfig(threshold=self.threshold)
        return MagCacheConfig(
            threshold=self.threshold, num_inference_steps=num_inference_steps, mag_ratios=list(self.mag_ratios)
        )


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
    transformer.enable_cache(cache.config(num_inference_steps))
    try:
        yield
    finally:
        transformer.disable_cache()


@dataclass(frozen=True)
class SpeedOptions:
    """How a loaded pipeline runs.

    Args:
        compile: Compile the transformer's blocks, one graph for all of a kind; the first request waits for it.
        attention: Kernel by diffusers' name (``native``, ``_native_cudnn``, ``flash``, ``_flash_3``, ``sage``, ...);
            ``None`` takes torch's choice.
        cache: Reuse of steps.
        bfloat16_decode: Whether a float32 VAE on a CPU multiplies in bfloat16; ``None`` is yes where the processor has
            instructions for it. The preview's frames then differ by two grey levels at most (62 dB), in a third of
            the time.
    """

    compile: bool = False
    attention: str | None = None
    cache: StepCache | None = None
    bfloat16_decode: bool | None = None


def accelerate_pipeline(pipeline: Any, options: SpeedOptions) -> None:
    """Apply the options to a pipeline that has its place on a device.

    Args:
        pipeline: ``MagicMirrorPipeline``.
        options: What was asked for.

    Raises:
        ConfigError: For an attention kernel that is unknown or not installed.
    """
    if options.attention is not None:
        # The library makes it the choice of every model in the process as well; that one is put back.
        choice, _ = _AttentionBackendRegistry.get_active_backend()
        try:
            pipeline.transformer.set_attention_backend(options.attention)
        except (ValueError, RuntimeError, ImportError) as error:
            raise ConfigError(f'The attention kernel "{options.attention}" cannot be used: {error}.') from error
        finally:
            _AttentionBackendRegistry.set_active_backend(choice)
    if options.compile:
        pipeline.transformer.compile_repeated_blocks()
    pipeline.step_cache = options.cache
    whole = pipeline.device.type == "cpu" and pipeline.vae.dtype == torch.float32
    wanted = _has_bfloat16() if options.bfloat16_decode is None else options.bfloat16_decode
    pipeline.decode_dtype = torch.bfloat16 if whole and wanted else None


def _has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself; emulated it is slower than float32."""
    found: bool = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return found
