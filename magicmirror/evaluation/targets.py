"""What the preview model is to reach, as a list of passed and missed targets in every report.

The limits are the project's own; the paper states none. They hold for about a hundred held-out people and are the same
for every model, so a report on other people, or on another model, can be read against them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magicmirror.evaluation.figures import Figures, RowFigures

FACES, RANK_1, RANK_5, OWN_DISTANCE, DISTANCE_GAP, DECAY = 0.97, 0.60, 0.85, 0.50, 0.20, 0.02
GROUP_SHARE = 0.75
"""Least rank-1 of a group, as a share of the rank-1 of all."""
MOTION_SHARE = 0.60
"""Least motion of the face, as a share of that of the animated portraits."""
OBEYED = 0.85
PICTURE_SPREAD = 0.30
"""How far flicker and sharpness may lie from those of the animated portraits, as a share."""


@dataclass(frozen=True)
class Target:
    """A figure beside what it should reach.

    Args:
        label: As readers see it.
        value: Measured; ``None`` where it was not.
        limit: The least value, or the largest one.
        at_least: Whether ``limit`` is the least value.
    """

    label: str
    value: float | None
    limit: float
    at_least: bool

    @property
    def met(self) -> bool | None:
        """Whether it was reached; ``None`` where it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def identity_targets(overall: Figures, groups: Mapping[str, Figures]) -> tuple[Target, ...]:
    """Targets on who is seen.

    Args:
        overall: ``face_found``, ``rank_1``, ``rank_5``, ``own_distance``, ``other_distance`` and ``decay``, as
            ``figures.Figures`` has them; what is missing counts as not measured.
        groups: Group -> the same.
    """
    own, other, rank_1 = overall.get("own_distance"), overall.get("other_distance"), overall.get("rank_1")
    gap = None if own is None or other is None else other - own
    weakest = min((value for each in groups.values() if (value := each.get("rank_1")) is not None), default=None)
    share = weakest / rank_1 if weakest is not None and rank_1 else None
    return (
        Target("frames with a face", overall.get("face_found"), FACES, True),
        Target("rank-1", rank_1, RANK_1, True),
        Target("rank-5", overall.get("rank_5"), RANK_5, True),
        Target("distance to the own reference", own, OWN_DISTANCE, False),
        Target("how much nearer than the others' references", gap, DISTANCE_GAP, True),
        Target("similarity decay", overall.get("decay"), DECAY, False),
        Target("rank-1 of the weakest group, as a share of all", share, GROUP_SHARE, True),
    )


def benchmark_targets(figures: Mapping[str, RowFigures]) -> tuple[Target, ...]:
    """All targets of a benchmark: of its row ``generated``, where needed beside its row ``data``.

    Args:
        figures: Row -> its figures; without a row ``generated`` there is nothing to judge.
    """
    made, data = figures.get("generated"), figures.get("data")
    if made is None:
        return ()
    targets = [*identity_targets(made.overall, made.groups)]
    for key, label in (("fm_ref", "FM_ref"), ("fm_inter", "FM_inter")):
        targets.append(
            Target(f"{label}, as a share of animated portraits'", _ratio(made, data, key), MOTION_SHARE, True)
        )
    for kind in ("motions", "styles"):
        for word, each in made.words.get(kind, {}).items():
            if each.limit is not None:
                targets.append(Target(f"{word.replace('_', ' ')}: asked sign", each.right_sign, OBEYED, True))
    for key in ("flicker", "sharpness"):
        ratio = _ratio(made, data, key)
        away = None if ratio is None else abs(ratio - 1.0)
        targets.append(Target(f"{key}: away from animated portraits", away, PICTURE_SPREAD, False))
    return tuple(targets)


def target_lines(targets: Sequence[Target]) -> list[str]:
    """A Markdown section; no lines where there are no targets."""
    if not targets:
        return []
    lines = ["## Targets", "", "| target | limit | measured | |", "|---|---|---|---|"]
    for target in targets:
        limit = f"{'at least' if target.at_least else 'at most'} {target.limit:.2f}"
        measured = "" if target.value is None else f"{target.value:.3f}"
        verdict = {True: "met", False: "**missed**", None: "not measured"}[target.met]
        lines.append(f"| {target.label} | {limit} | {measured} | {verdict} |")
    met = sum(target.met is True for target in targets)
    known = sum(target.met is not None for target in targets)
    return [*lines, "", f"{met} of {known} measured targets are met.", ""]


def _ratio(made: RowFigures, data: RowFigures | None, key: str) -> float | None:
    value, reference = made.overall.get(key), None if data is None else data.overall.get(key)
    return value / reference if value is not None and reference else None
