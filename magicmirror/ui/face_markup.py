"""The faces of the visitor's photos as HTML: thumbnails to choose from, the crop, and what to mend."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from magicmirror.types import FaceReference
from magicmirror.ui import words
from magicmirror.ui.markup import alert, data_uri, file_data_uri, note, pick_button
from magicmirror.ui.photos import AnalysedPhoto, odd_photos


def example_strip(paths: Sequence[Path]) -> str:
    """Example faces as buttons."""
    buttons = "".join(
        pick_button(
            {"example": index}, _image(file_data_uri(path)), words.EXAMPLE_FACE.format(name=path.stem.replace("_", " "))
        )
        for index, path in enumerate(paths)
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


def _photo_faces(index: int, photo: AnalysedPhoto, numbered: bool, odd: str) -> str:
    title = note(words.PHOTO_NUMBER.format(number=index + 1)) if numbered else ""
    if photo.problem:
        return f'<div class="mm-photo">{title}{alert(photo.problem)}</div>'
    hint = ""
    if photo.undecided:
        hint = f'<p class="mm-choose" role="alert">{escape(words.CHOOSE_FACE)}</p>'
    elif len(photo.faces) > 1:
        hint = note(words.ANOTHER_FACE)
    buttons = "".join(_face(index, place, face, photo) for place, face in enumerate(photo.faces))
    return (
        f'<div class="mm-photo">{title}{hint}<div class="mm-faces"><div class="mm-strip" role="group" '
        f'aria-label="{escape(words.FACES_LABEL.format(number=index + 1))}">{buttons}</div>'
        f'<div class="mm-checks">{_quality(photo.face)}{alert(odd)}</div></div></div>'
    )


def _quality(face: FaceReference | None) -> str:
    """What to mend about the chosen face, or that nothing is."""
    if face is None:
        return ""
    remedies = [check.remedy for check in face.checks if not check.passed]
    if remedies:
        items = "".join(f"<li>{escape(remedy)}</li>" for remedy in remedies)
        return f'<p class="mm-warn">{escape(words.POOR_FACE)}</p><ul class="mm-remedies">{items}</ul>'
    verdict = f'<p class="mm-good">{escape(words.GOOD_FACE)}</p>' if face.checks else ""
    return verdict + note(words.CROP_NOTE)


def _face(index: int, place: int, face: FaceReference, photo: AnalysedPhoto) -> str:
    label = words.FACE_NUMBER.format(number=place + 1, count=len(photo.faces))
    chosen = photo.chosen == place
    if chosen:
        label = words.FACE_IN_USE.format(face=label)
    return pick_button({"photo": index, "face": place}, _image(data_uri(face.crop)), label, pressed=chosen)


def _image(source: str) -> str:
    return f'<img src="{source}" alt="">'
