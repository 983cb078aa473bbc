"""What one job may make: several takes, a comparison of strengths, a film of several shots, or a single picture.

All of them are lists of ``GenerationRequest`` that go through the same pipeline one after the other; a job is one
place in the queue, one bar of progress and one thing to cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from magicmirror.errors import ConfigError, PromptError
from magicmirror.serving.jobs import JobResult, Take
from magicmirror.serving.jobs import OrderKind as OrderKind
from magicmirror.types import GenerationRequest

MAX_TAKES = 8
MIN_SHOTS = 2
MAX_SHOTS = 6
COMPARE_SCALES = (0.5, 1.0, 1.5)
SEED_LIMIT = 2**63
PROMPT_SEPARATOR = " / "


@dataclass(frozen=True, eq=False)
class Order:
    """One job's work.

    Args:
        kind: How the parts belong together.
        parts: What to make, in order; in a film a ``Take`` is a shot that is there already and is kept.
    """

    kind: OrderKind
    parts: tuple[GenerationRequest | Take, ...]

    @property
    def requests(self) -> tuple[GenerationRequest, ...]:
        """The parts that have to be made."""
        return tuple(part for part in self.parts if isinstance(part, GenerationRequest))

    @property
    def prompt(self) -> str:
        """What the job is called: its prompt, in a film those of all shots."""
        texts = [part.prompt if isinstance(part, GenerationRequest) else prompt_of(part) for part in self.parts]
        return PROMPT_SEPARATOR.join(texts) if self.kind == "film" else texts[0] if texts else ""


def prompt_of(take: Take) -> str:
    """Return what a take was made with; of a whole film, the prompts of all its shots."""
    if isinstance(take, JobResult) and take.kind == "film" and take.takes:
        return PROMPT_SEPARATOR.join(prompt_of(shot) for shot in take.takes)
    return str(take.settings.get("prompt", ""))


Work = GenerationRequest | Order
"""What ``Engine.submit`` takes; a bare request is an order of one take."""


def as_order(work: Work) -> Order:
    """Return work as an order."""
    return work if isinstance(work, Order) else Order("takes", (work,))


def takes_order(request: GenerationRequest, count: int) -> Order:
    """Make ``count`` takes with the seeds s, s + 1, ...; the result ranks them.

    Raises:
        ConfigError: When the number is out of range.
    """
    if not 1 <= count <= MAX_TAKES:
        raise ConfigError(f"takes must lie in [1, {MAX_TAKES}], got {count}.")
    return Order("takes", tuple(replace(request, seed=_seed(request.seed + index)) for index in range(count)))


def compare_order(request: GenerationRequest, scales: Sequence[float] = COMPARE_SCALES) -> Order:
    """Make the same seed with several strengths of the identity; the result keeps their order.

    Raises:
        ConfigError: When there are fewer than two or more than ``MAX_TAKES`` strengths, or one is out of range.
    """
    if not 2 <= len(scales) <= MAX_TAKES:
        raise ConfigError(f"A comparison needs 2 to {MAX_TAKES} identity strengths, got {len(scales)}.")
    return Order("compare", tuple(replace(request, identity_scale=float(scale)) for scale in scales))


def image_order(request: GenerationRequest) -> Order:
    """Make a single frame, a PNG."""
    return Order("image", (replace(request, num_frames=1),))


def film_order(request: GenerationRequest, prompts: Sequence[str]) -> Order:
    """Make one film of the same person, a shot for each prompt; shot k has the seed s + k.

    Args:
        request: Face, seed and all other values; its own prompt is not used.
        prompts: One for each shot.

    Raises:
        PromptError: When there are too few or too many prompts, or one is empty.
    """
    if not MIN_SHOTS <= len(prompts) <= MAX_SHOTS:
        raise PromptError(f"A film needs {MIN_SHOTS} to {MAX_SHOTS} prompts, got {len(prompts)}.")
    shots = (replace(request, prompt=text.strip(), seed=_seed(request.seed + k)) for k, text in enumerate(prompts))
    return Order("film", tuple(shots))


def retake_order(film: JobResult, shot: int, request: GenerationRequest) -> Order:
    """Make one shot of a finished film anew and keep the others.

    Args:
        film: What the job of the film produced.
        shot: Which one, from 0.
        request: The new shot; another seed or prompt than before.

    Raises:
        ConfigError: When the result is no film, or has no such shot.
    """
    if film.kind != "film":
        raise ConfigError("Only a film has shots that can be taken again.", "Make a film first.")
    if not 0 <= shot < len(film.takes):
        raise ConfigError(f"The film has the shots 0 to {len(film.takes) - 1}, got {shot}.")
    return Order("film", (*film.takes[:shot], request, *film.takes[shot + 1 :]))


def _seed(value: int) -> int:
    """Wrap around at the largest seed."""
    return value % SEED_LIMIT
