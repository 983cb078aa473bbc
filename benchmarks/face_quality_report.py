"""Turn what ``face_quality.py`` measured into limits, the tables of ``docs/face_quality.md`` and its picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from face_degradations import FAMILIES
from PIL import Image, ImageDraw, ImageFont

from magicmirror.errors import ConfigError

BUDGET = 0.3
"""Drift that a photo may have: half of dlib's same-person distance, so that half is left for what people change."""
LOST_SHARE = 0.05
LEAST_CHECKS = ("size", "sharpness", "exposure", "eyes")
CHECKS = ("size", "sharpness", "exposure", "highlights", "yaw", "pitch", "roll", "border", "eyes")
PANEL_PX = (300, 210)
INK, PALE, WARN = (40, 44, 52), (205, 208, 214), (200, 60, 50)
COLOURS = ((35, 105, 190), (215, 120, 20), (20, 140, 90), (140, 70, 170))

Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """What one step of a family did.

    Args:
        step: How much was done.
        value: Median of what the family's check measured, without sign; not a number where it has no check.
        median: Drift of the embedding, median.
        p95: Its 95th percentile.
        lost: Share of photos in which no face was found any more.
        noticed: Share of the found ones that fail the family's check.
    """

    step: float
    value: float
    median: float
    p95: float
    lost: float
    noticed: float


def family_steps(rows: Rows, name: str) -> list[Step]:
    """Summarise a family, from the untouched photo on."""
    check = FAMILIES[name].check
    steps = []
    for step in sorted({row["step"] for row in rows if row["family"] == name}, key=FAMILIES[name].steps.index):
        all_rows = [row for row in rows if row["family"] == name and row["step"] == step]
        found = [row for row in all_rows if row["distance"] is not None]
        drift = np.array([row["distance"] for row in found])
        value = float(np.median([abs(row["values"][check]) for row in found])) if check else float("nan")
        noticed = float(np.mean([check in row["failed"] for row in found])) if check else float("nan")
        steps.append(
            Step(
                step,
                value,
                float(np.median(drift)),
                float(np.percentile(drift, 95)),
                1 - len(found) / len(all_rows),
                noticed,
            )
        )
    return steps


def drift_limit(steps: Sequence[Step], untouched_value: float) -> float:
    """Return the check's value where the 95th percentile of the drift, or the share of lost faces, becomes too much.

    Linear between steps; the last step's value where none is too much.
    """
    before = Step(0.0, untouched_value, 0.0, 0.0, 0.0, 0.0)
    for step in steps:
        if step.p95 > BUDGET or step.lost > LOST_SHARE:
            parts = [1.0]
            if step.p95 > BUDGET:
                parts.append((BUDGET - before.p95) / (step.p95 - before.p95))
            if step.lost > LOST_SHARE:
                parts.append((LOST_SHARE - before.lost) / (step.lost - before.lost))
            return before.value + min(parts) * (step.value - before.value)
        before = step
    return before.value


def derive_limits(drift: Rows, untouched: Rows) -> list[list[str]]:
    """Apply the rule: the strictest family, but no stricter than what 99 % of untouched portraits pass."""
    table = []
    for check in CHECKS:
        least = check in LEAST_CHECKS
        values = np.array([row["values"][check] for row in untouched])
        # dlib's points say nothing about looking down.
        values = np.clip(values, 0, None) if check == "pitch" else np.abs(values)
        families = [
            name
            for name, family in FAMILIES.items()
            if family.check == check and not (check == "pitch" and "down" in name)
        ]
        known = {name: drift_limit(family_steps(drift, name), float(np.median(values))) for name in families}
        strictest = (max if least else min)(known, key=lambda name: known[name])
        portraits = float(np.percentile(values, 1 if least else 99))
        derived = (min if least else max)(known[strictest], portraits)
        table.append([check, f"{known[strictest]:.3g}", strictest, f"{portraits:.3g}", f"{derived:.3g}"])
    return table


def write_report(page: Path, drift: Rows, untouched: Rows, pose: Rows) -> None:
    """Renew the tables of the page, between its markers, and the picture beside it."""
    text = page.read_text(encoding="utf-8")
    in_light, untouched = untouched, [row for row in untouched if not row["step"]]
    text = _renew(
        text,
        "limits",
        ["check", "drift reaches 0.3 at", "in the family", "99 % of untouched portraits pass at", "derived"],
        derive_limits(drift, untouched),
    )
    text = _renew(
        text,
        "drift",
        ["spoilt", "steps", "median drift", "95th percentile", "face lost, %", "check", "fail it, %"],
        [_drift_line(drift, name) for name in FAMILIES],
    )
    text = _renew(
        text,
        "pose",
        ["landmarks", "angle", "turned by", "heads", "measured change, median", "error, median", "error, 90 %"],
        [
            [
                line["scheme"],
                line["axis"],
                f"{line['angle']:+.0f}",
                str(line["count"]),
                *(f"{line[key]:.1f}" for key in ("measured", "median_error", "p90_error")),
            ]
            for line in pose
        ],
    )
    text = _renew(text, "untouched", ["group", "portraits", *CHECKS, "all"], _pass_rates(untouched))
    stops = sorted({row["step"] for row in in_light} - {0.0})
    header = ["group", *(f"{stop:+g}: too {'dark' if stop < 0 else 'bright'}" for stop in stops)]
    text = _renew(text, "light", header, _light_lines(in_light, stops))
    people = len({row["portrait"] for row in drift})
    text = re.sub(r"<!-- people -->\d*", f"<!-- people -->{people}", text)
    page.write_text(text, encoding="utf-8")
    draw_curves(drift, untouched, page.parent / "images" / "face_quality.png")


def _drift_line(drift: Rows, name: str) -> list[str]:
    steps, family = family_steps(drift, name), FAMILIES[name]
    return [
        f"{name}, {family.unit}",
        " / ".join(f"{step.step:g}" for step in steps),
        " / ".join(f"{step.median:.2f}" for step in steps),
        " / ".join(f"{step.p95:.2f}" for step in steps),
        " / ".join(f"{100 * step.lost:.0f}" for step in steps),
        family.check or "none",
        " / ".join(f"{100 * step.noticed:.0f}" for step in steps) if family.check else "",
    ]


def _pass_rates(untouched: Rows) -> list[list[str]]:
    groups = sorted({row["group"] for row in untouched})
    table = []
    for group in [*groups, "all"]:
        rows = [row for row in untouched if group in {row["group"], "all"}]
        rates = [np.mean([check not in row["failed"] for row in rows]) for check in CHECKS]
        rates.append(np.mean([not row["failed"] for row in rows]))
        table.append([group.replace("_", " "), str(len(rows)), *(f"{100 * rate:.1f}" for rate in rates)])
    return table


def _light_lines(rows: Rows, stops: Sequence[float]) -> list[list[str]]:
    """Percent of each group that fails the check of its light."""
    table = []
    for group in sorted({row["group"] for row in rows}):
        line = [group.replace("_", " ")]
        for stop in stops:
            check = "exposure" if stop < 0 else "highlights"
            failed = [check in row["failed"] for row in rows if row["group"] == group and row["step"] == stop]
            line.append(f"{100 * np.mean(failed):.0f}")
        table.append(line)
    return table


def _renew(text: str, name: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Replace the table between the markers ``<!-- NAME -->`` and ``<!-- /NAME -->``."""
    rows = [header, ["---"] * len(header), *lines]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in text or end not in text:
        raise ConfigError(f"The page has no place {start} ... {end} for its table.")
    return text[: text.index(start) + len(start)] + f"\n{table}\n" + text[text.index(end) :]


def draw_curves(drift: Rows, untouched: Rows, path: Path) -> None:
    """Draw, for each check, the 95th percentile of the drift over what the check measured, and the check's limit."""
    from magicmirror.faces import quality

    limits = {
        "size": quality.MIN_EYE_DISTANCE_PX,
        "sharpness": quality.MIN_SHARPNESS,
        "exposure": quality.MIN_TONE_RANGE,
        "highlights": quality.MAX_BURNT_SHARE,
        "yaw": quality.MAX_YAW_DEG,
        "pitch": quality.MAX_PITCH_DEG["dlib5"],
        "roll": quality.MAX_ROLL_DEG,
        "border": quality.MAX_OUTSIDE_SHARE,
        "eyes": quality.MIN_EYE_BRIGHTNESS,
    }
    width, height = PANEL_PX
    sheet = Image.new("RGB", (3 * width, 3 * height), "white")
    for place, check in enumerate(CHECKS):
        start = float(np.median([abs(row["values"][check]) for row in untouched]))
        curves = {name: family_steps(drift, name) for name, family in FAMILIES.items() if family.check == check}
        panel = _panel(check, curves, start, limits[check])
        sheet.paste(panel, (place % 3 * width, place // 3 * height))
    sheet.quantize(64).save(path, optimize=True)


def _panel(check: str, curves: dict[str, list[Step]], start: float, limit: float) -> Image.Image:
    width, height = PANEL_PX
    left, right, top, bottom = 34, width - 12, 26, height - 28
    panel = Image.new("RGB", PANEL_PX, "white")
    pen, font = ImageDraw.Draw(panel), ImageFont.load_default(11)
    highest_x = 1.05 * max([start, limit, *(step.value for steps in curves.values() for step in steps)])

    def at(value: float, drift: float) -> tuple[float, float]:
        return left + (right - left) * value / highest_x, bottom - (bottom - top) * min(drift, 0.8) / 0.8

    for mark in (0.0, 0.2, 0.4, 0.6, 0.8):
        pen.line([at(0, mark), at(highest_x, mark)], fill=PALE)
        pen.text((4, at(0, mark)[1] - 7), f"{mark:.1f}", fill=INK, font=font)
    tick = next(size for size in (0.1, 0.2, 0.5, 1, 5, 10, 20, 50) if highest_x / size < 7)
    for mark in np.arange(0, highest_x, tick):
        pen.text((at(mark, 0)[0], bottom + 4), f"{mark:.3g}", fill=INK, font=font, anchor="ma")
    pen.line([at(0, BUDGET), at(highest_x, BUDGET)], fill=WARN)
    pen.line([at(limit, 0), at(limit, 0.8)], fill=WARN)
    pen.text((left, 4), f"{check}: limit {limit:g}", fill=INK, font=ImageFont.load_default(13))
    for colour, steps in zip(COLOURS, curves.values(), strict=False):
        pen.line([at(start, 0.0), *(at(step.value, step.p95) for step in steps)], fill=colour, width=2)
        for step in steps:
            x, y = at(step.value, step.p95)
            pen.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
    for line, (colour, name) in enumerate(zip(COLOURS, curves, strict=False)):
        pen.text((right - 4, top + 2 + 12 * line), name, fill=colour, font=font, anchor="ra")
    return panel
