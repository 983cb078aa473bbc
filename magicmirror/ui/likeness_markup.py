"""The likeness of a video as HTML: a number, a curve over the frames, and what it means in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from magicmirror.pipeline.profiles import find_profile, profile_names
from magicmirror.serving.jobs import Take
from magicmirror.serving.likeness import same_person_cosine
from magicmirror.ui import words

WIDTH, HEIGHT = 100.0, 40.0
EMBEDDING_SIZES = {"dlib": 128, "insightface": 512}
FLOORS = {128: 0.7, 512: 0.0}
"""Likeness at the bottom of the chart, by the recogniser's scale; 1 is its top."""

CURVE_SCRIPT = """
const video = () => document.querySelector('#mm-stage video[data-main]');
setInterval(() => {
  const line = element.querySelector('.mm-playhead'), shown = video();
  if (!line || !shown || !shown.duration) return;
  const x = 100 * shown.currentTime / shown.duration;
  line.setAttribute('x1', x);
  line.setAttribute('x2', x);
}, 100);
element.addEventListener('click', (event) => {
  const chart = event.target.closest('svg.mm-curve'), shown = video();
  if (!chart || !shown || !shown.duration) return;
  const box = chart.getBoundingClientRect();
  shown.currentTime = shown.duration * Math.min(Math.max((event.clientX - box.left) / box.width, 0), 0.999);
});
"""
"""A line runs over the curve with the video; a click on the curve goes to that frame."""


def likeness(take: Take) -> str:
    """The average, the curve and the reading of one take."""
    mean = take.mean_likeness
    score = f'<span class="mm-score">{mean:.2f}</span>' if mean is not None and take.level != "unseen" else ""
    drawn = len(take.likeness) > 1 and mean is not None
    curve = _curve(take.likeness, _embedding_size(take)) if drawn else ""
    scale = f'<p class="mm-note">{escape(words.LIKENESS_SCALE)}</p>' if drawn else ""
    return (
        f'<div><h3 class="mm-sub">{escape(words.LIKENESS_TITLE)}</h3>'
        f'<div class="mm-likeness">{score}{curve}</div>{scale}'
        f'<p class="mm-reading mm-{take.level}">{escape(words.LIKENESS[take.level])}</p></div>'
    )


def _embedding_size(take: Take) -> int:
    """Which recogniser measured it; that of the preview for a profile that is not known."""
    name = str(take.settings.get("profile", ""))
    return EMBEDDING_SIZES[find_profile(name).analyzer] if name in profile_names() else 128


def _curve(values: Sequence[float | None], embedding_size: int) -> str:
    """The likeness over the frames as a line; frames without a face leave a gap."""
    measured = [value for value in values if value is not None]
    floor = FLOORS[embedding_size]
    last = len(values) - 1
    runs: list[list[tuple[float, float, int, float]]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((WIDTH * index / last, _height(value, floor), index, value))
    lines = "".join(
        f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y, *_ in run)}"/>' for run in runs if len(run) > 1
    )
    spots = "".join(
        f'<rect x="{x - WIDTH / last / 2:.1f}" y="0" width="{WIDTH / last:.1f}" height="{HEIGHT:g}">'
        f"<title>{escape(words.FRAME_VALUE.format(number=index + 1, value=value))}</title></rect>"
        + (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="0.9"/>' if len(run) == 1 else "")
        for run in runs
        for x, y, index, value in run
    )
    label = words.LIKENESS_CHART.format(low=min(measured), mean=sum(measured) / len(measured), high=max(measured))
    same = _height(same_person_cosine(embedding_size), floor)
    return (
        f'<svg class="mm-curve" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}"><line x1="0" y1="{same:.1f}" x2="{WIDTH:g}" y2="{same:.1f}"/>{lines}'
        f'<line class="mm-playhead" x1="0" y1="0" x2="0" y2="{HEIGHT:g}"/>{spots}</svg>'
    )


def _height(value: float, floor: float) -> float:
    return HEIGHT * (1 - max(value, floor)) / (1 - floor)
