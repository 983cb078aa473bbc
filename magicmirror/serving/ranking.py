"""Which of several takes is the best, by likeness and motion."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from magicmirror.serving.jobs import Take

STILL_SHARE = 0.5
"""A take that moves less than this share of the takes' median motion counts as hardly moving."""


def rank_takes(takes: Sequence[Take]) -> tuple[int, ...]:
    """Order takes, the best first.

    The likeness of a take is its mean over the frames with a face, times the share of frames that have one. Takes that
    hardly move beside the others come last, however alike they are: a frozen picture is the easiest way to be alike.

    Args:
        takes: Of one order.

    Returns:
        Indices of ``takes``; equal ones keep their order.
    """
    motions = [take.motion for take in takes if take.motion is not None]
    limit = STILL_SHARE * median(motions) if motions else 0.0

    def merit(index: int) -> tuple[bool, float]:
        take = takes[index]
        still = take.motion is not None and take.motion < limit
        return still, -_likeness(take)

    return tuple(sorted(range(len(takes)), key=merit))


def _likeness(take: Take) -> float:
    """Mean likeness, a frame without a face counting as nothing; -1 where there is none at all."""
    seen = [value for value in take.likeness if value is not None]
    return sum(seen) / len(take.likeness) if seen else -1.0
