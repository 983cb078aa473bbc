"""Small pieces of HTML, as plain functions from values to escaped text."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from magicmirror.serving.jobs import JobResult, JobStatus
from magicmirror.types import FaceReference, UInt8Array
from magicmirror.ui import words
from magicmirror.ui.photos import AnalysedPhoto, odd_photos

CHART_FLOOR = 0.7
"""Likeness at the bottom of the chart; 1 is its top."""

PICK_SCRIPT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-pick]');
  if (button) trigger('select', JSON.parse(button.dataset.pick));
});
"""
"""A click on a thumbnail becomes a ``select`` event whose data is the button's ``data-pick``."""


def header() -> str:
    """Title and what it is for."""
    return f'<header class="mm-head"><h1>{escape(words.TITLE)}</h1><p>{escape(words.TAGLINE)}</p></header>'


def step_title(text: str) -> str:
    """Heading of one part of the form."""
    return f'<h2 class="mm-step">{escape(text)}</h2>'


def note(text: str) -> str:
    """A quiet line."""
    return f'<p class="mm-note">{escape(text)}</p>'


def alert(text: str) -> str:
    """A line that must be seen; empty text gives nothing."""
    return f'<div class="mm-alert" role="alert">{escape(text)}</div>' if text else ""


def example_strip(paths: Sequence[Path]) -> str:
    """Example faces as buttons."""
    buttons = "".join(
        _thumbnail(
            _file_data_uri(path), words.EXAMPLE_FACE.format(name=path.stem.replace("_", " ")), f'{{"example":{i}}}'
        )
        for i, path in enumerate(paths)
    )
    return f'{note(words.EXAMPLE_FACES_LABEL)}<div class="mm-strip">{buttons}</div>'


def face_picker(photos: Sequence[AnalysedPhoto]) -> str:
    """All faces of all photos as buttons, the chosen ones pressed."""
    if not photos:
        return note(words.NO_PHOTO)
    odd = odd_photos(photos)
    return "".join(
        _photo_faces(index, photo, len(photos) > 1, odd.get(index, "")) for index, photo in enumerate(photos)
    )


def status_line(text: str, bad: bool = False) -> str:
    """One sentence in the place of the progress bar."""
    mark = ' class="mm-bad" role="alert"' if bad else ""
    return f'<div class="mm-status"><p{mark}>{escape(text)}</p></div>'


def progress(status: JobStatus) -> str:
    """Stage, step and time to go, with a bar; a sentence once the job has ended."""
    if status.state == "done":
        return status_line(words.DONE)
    if status.state == "cancelled":
        return status_line(words.CANCELLED)
    if status.state == "failed":
        return status_line(words.FAILED.format(reason=status.message), bad=True)
    eta = words.ETA.format(seconds=max(1, math.ceil(status.eta_s))) if status.eta_s is not None else ""
    known = status.stage in ("denoising", "measuring", "writing") and status.total > 0
    percent = round(100 * status.step / status.total) if known else 0
    value = f'aria-valuenow="{percent}"' if known else ""
    bar = f'<div class="mm-bar" style="width:{percent}%"></div>' if known else '<div class="mm-bar mm-busy"></div>'
    return (
        f'<div class="mm-status" aria-live="polite"><p><span>{escape(_stage_text(status))}</span>'
        f'<span class="mm-eta">{escape(eta)}</span></p>'
        f'<div class="mm-track" role="progressbar" aria-label="{escape(words.PROGRESS_LABEL)}" aria-valuemin="0" '
        f'aria-valuemax="100" {value}>{bar}</div></div>'
    )


def summary(result: JobResult) -> str:
    """Likeness with its reading and curve, and the facts that make the video repeatable."""
    settings = result.settings
    seen = sum(value is not None for value in result.likeness)
    total_s = settings.get("timings_s", {}).get("total")
    facts = [
        (words.USED_SEED, str(settings.get("seed", ""))),
        (words.STEPS_USED, str(settings.get("num_inference_steps", ""))),
        (words.FACE_SEEN, words.FRAMES_OF.format(seen=seen, count=len(result.likeness))),
    ]
    if total_s is not None:
        facts.append((words.TIME_USED, words.SECONDS.format(seconds=total_s)))
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<section class="mm-result">{_likeness(result)}<dl class="mm-facts">{items}</dl></section>'


def _likeness(result: JobResult) -> str:
    mean = result.mean_likeness
    score = f'<span class="mm-score">{mean:.2f}</span>' if mean is not None else ""
    return (
        f'<div><h2 class="mm-step">{escape(words.LIKENESS_TITLE)}</h2>'
        f'<div class="mm-likeness">{score}{_curve(result.likeness)}</div>'
        f"<p>{escape(words.LIKENESS[result.level])}</p></div>"
    )


def _curve(likeness: Sequence[float | None]) -> str:
    """The likeness over the frames as a line; frames without a face leave a gap."""
    last = max(len(likeness) - 1, 1)
    runs: list[list[str]] = [[]]
    for index, value in enumerate(likeness):
        if value is None:
            runs.append([])
        else:
            height = (1 - max(value, CHART_FLOOR)) / (1 - CHART_FLOOR)
            runs[-1].append(f"{100 * index / last:.1f},{40 * height:.1f}")
    lines = "".join(f'<polyline points="{" ".join(run)}"/>' for run in runs if run)
    return (
        f'<svg viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label="{escape(words.LIKENESS_CHART)}">'
        f'<line x1="0" y1="40" x2="100" y2="40"/>{lines}</svg>'
    )


def _stage_text(status: JobStatus) -> str:
    if status.state == "queued":
        position = status.queue_position
        return words.QUEUED_NEXT if position <= 1 else words.QUEUED.format(position=position)
    return words.STAGES[status.stage].format(step=status.step, total=status.total)


def _photo_faces(index: int, photo: AnalysedPhoto, numbered: bool, odd: str) -> str:
    title = note(words.PHOTO_NUMBER.format(number=index + 1)) if numbered else ""
    if photo.problem:
        return f'<div class="mm-photo">{title}{alert(photo.problem)}</div>'
    hint = f'<p class="mm-choose">{escape(words.CHOOSE_FACE)}</p>' if photo.undecided else ""
    buttons = "".join(_face(index, place, face, photo) for place, face in enumerate(photo.faces))
    remedies = [] if photo.face is None else [check.remedy for check in photo.face.checks if not check.passed]
    notes = "".join(note(remedy) for remedy in remedies) + alert(odd)
    return (
        f'<div class="mm-photo">{title}{hint}<div class="mm-strip mm-faces" role="group" '
        f'aria-label="{escape(words.FACES_LABEL)}">{buttons}</div>{notes}</div>'
    )


def _face(index: int, place: int, face: FaceReference, photo: AnalysedPhoto) -> str:
    label = words.FACE_NUMBER.format(number=place + 1, count=len(photo.faces))
    pick = f'{{"photo":{index},"face":{place}}}'
    return _thumbnail(_data_uri(face.crop), label, pick, pressed=photo.chosen == place)


def _thumbnail(source: str, label: str, pick: str, pressed: bool | None = None) -> str:
    state = "" if pressed is None else f' aria-pressed="{str(pressed).lower()}"'
    return (
        f'<button type="button" title="{escape(label)}" aria-label="{escape(label)}"{state} '
        f'data-pick="{escape(pick)}"><img src="{source}" alt=""></button>'
    )


def _data_uri(image: UInt8Array) -> str:
    """Return (H, W, 3) uint8 RGB as a JPEG inside a URI, so that a face is never a file on the server."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _file_data_uri(path: Path) -> str:
    """Return a picture file as a small JPEG inside a URI."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as picture:
        picture.thumbnail((160, 160))
        picture.convert("RGB").save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
