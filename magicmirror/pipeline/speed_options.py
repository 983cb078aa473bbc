"""What a user may ask for to make a pipeline faster: compiled blocks, another attention kernel, reuse of steps.

Free of torch, so that command line and engine can name the choices without loading it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from magicmirror.errors import ConfigError
from magicmirror.settings import ATTENTION_KERNELS, parse_step_cache

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

    def __str__(self) -> str:
        """Name and threshold as a setting has them, ``first-block:0.1``."""
        return f"{self.name}:{self.threshold:g}"


@dataclass(frozen=True)
class SpeedOptions:
    """How a loaded pipeline runs.

    Args:
        compile: Compile the transformer's blocks, one graph for all of a kind; the first request waits for it.
        attention: Kernel by diffusers' name (``native``, ``_native_cudnn``, ``flash``, ``_flash_3``, ``sage``, ...), or
            ``padded``, cuDNN's on whole tiles of tokens; ``None`` takes torch's choice.
        cache: Reuse of steps.
        bfloat16_decode: Whether a float32 VAE on a CPU multiplies in bfloat16. The preview's frames then differ by two
            grey levels at most (62 dB), in a third of the time. ``None`` is yes where the processor has instructions
            for it; where not, float32 by faster convolutions (``models.convolution``), equal to rounding. ``False`` is
            float32 as stock diffusers has it, to the bit.
    """

    compile: bool = False
    attention: str | None = None
    cache: StepCache | None = None
    bfloat16_decode: bool | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown kernel.

        Raises:
            ConfigError: With the names that there are.
        """
        if self.attention is not None and self.attention not in ATTENTION_KERNELS:
            raise ConfigError(
                f'"{self.attention}" is no attention kernel.', f"Choose one of {', '.join(ATTENTION_KERNELS)}."
            )

    @classmethod
    def named(
        cls, compile_blocks: bool = False, attention: str | None = None, step_cache: str = "none"
    ) -> SpeedOptions:
        """Build the options from what a user wrote.

        Args:
            compile_blocks: As ``compile``.
            attention: As above.
            step_cache: ``none``, ``first-block`` or ``first-block:THRESHOLD``.

        Raises:
            ConfigError: For a name that is none of the choices, or an impossible threshold.
        """
        threshold = parse_step_cache(step_cache)
        cache = None if threshold is None else StepCache("first-block", threshold)
        return cls(compile_blocks, attention, cache)

    @property
    def short_name(self) -> str:
        """What makes it faster or slower than no options, with a space before each word."""
        words = ["compiled"] if self.compile else []
        words += [self.attention] if self.attention is not None else []
        words += [str(self.cache)] if self.cache is not None else []
        return "".join(f" {word}" for word in words)
