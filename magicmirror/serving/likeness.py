"""How much a finished video looks like its reference: measured per frame, averaged, and read in plain steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from magicmirror.errors import JobCancelled
from magicmirror.faces.analyzer import FaceAnalyzer
from magicmirror.faces.similarity import average_face, likeness_curve, mean_likeness
from magicmirror.types import FaceReference, UInt8Array

LikenessLevel = Literal["close", "same", "some", "none", "unseen"]

# Lowest mean cosine of "close", "same" and "some", by the length of the recogniser's embedding. dlib (128): over 100
# portraits the published same-person distance of 0.6 is a cosine of 0.93 and a distance of 0.5 one of 0.95; two
# strangers have 0.86 in the median and 0.79 to 0.945 in nine of ten pairs. ArcFace (512): "same" is
# insightface's own default threshold.
_STEPS: dict[int, tuple[float, float, float]] = {128: (0.95, 0.93, 0.90), 512: (0.50, 0.40, 0.25)}


def measure_likeness(
    frames: UInt8Array,
    references: Sequence[FaceReference],
    analyzer: FaceAnalyzer,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[float | None, ...]:
    """Compare the largest face of each frame with the references together.

    Args:
        frames: (F, H, W, 3) uint8 RGB.
        references: One or more photos of one person; their unit embeddings are averaged.
        analyzer: The one that made the references.
        should_stop: Looked at before each frame.

    Returns:
        One cosine in [-1, 1] per frame, ``None`` where no face was found.

    Raises:
        JobCancelled: After ``should_stop()``.
    """

    def watched() -> Iterator[UInt8Array]:
        for frame in frames:
            if should_stop():
                raise JobCancelled("The job was stopped on request.")
            yield frame

    return likeness_curve(watched(), average_face(references), analyzer)


def likeness_level(curve: Sequence[float | None], embedding_size: int) -> LikenessLevel:
    """Read a curve: ``close`` and ``same`` count as the same person, ``some`` resembles, ``none`` does not.

    Args:
        curve: Of ``measure_likeness``.
        embedding_size: Length of the recogniser's embedding, which decides the scale.

    Returns:
        The level; ``unseen`` when most frames show no face.
    """
    mean = mean_likeness(curve)
    if mean is None or sum(value is not None for value in curve) * 2 < len(curve):
        return "unseen"
    close, same, some = _STEPS.get(embedding_size, _STEPS[128])
    if mean >= close:
        return "close"
    if mean >= same:
        return "same"
    return "some" if mean >= some else "none"


def same_person_cosine(embedding_size: int) -> float:
    """Return the lowest cosine that counts as the same person, for drawing it beside a curve."""
    return _STEPS.get(embedding_size, _STEPS[128])[1]
