"""The visitor's photos: what was found in each, and which face is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from magicmirror.errors import FaceError, MagicMirrorError, NoFaceFound, SeveralFaces
from magicmirror.faces.selection import choose_face, find_mismatches
from magicmirror.media import load_image
from magicmirror.serving.engine import Engine
from magicmirror.types import FaceReference
from magicmirror.ui import words
from magicmirror.ui.markup import jpeg_bytes

MAX_PHOTOS = 6
UNSHOWN = frozenset({".heic", ".heif", ".hif", ".tif", ".tiff"})
"""Endings of photos that most browsers show as a broken picture."""
COPY_SIDE_PX = 640


@dataclass(frozen=True)
class AnalysedPhoto:
    """One photo, before and after the face search.

    Args:
        faces: All faces, largest first.
        chosen: Index of the face that is meant; ``None`` while the visitor has to choose.
        problem: Why the photo cannot be used; empty when it can.
        searched: Whether the search is over.
        path: Where the photo is.
    """

    faces: tuple[FaceReference, ...] = ()
    chosen: int | None = None
    problem: str = ""
    searched: bool = True
    path: Path | None = None

    @property
    def undecided(self) -> bool:
        """Whether the visitor has to choose a face."""
        return bool(self.faces) and self.chosen is None

    @property
    def face(self) -> FaceReference | None:
        """The face that is meant."""
        return None if self.chosen is None else self.faces[self.chosen]


def analyse_photo(engine: Engine, path: Path) -> AnalysedPhoto:
    """Search one photo; a single face, or one that clearly dominates, is chosen already."""
    try:
        faces = engine.analyze(path)
        largest = choose_face(faces)
    except SeveralFaces:
        return AnalysedPhoto(faces, path=path)
    except MagicMirrorError as error:
        return AnalysedPhoto(problem=str(error), path=path)
    return AnalysedPhoto(faces, next(index for index, face in enumerate(faces) if face is largest), path=path)


def shown_copy(path: Path, upload_folder: Path) -> Path | None:
    """Write a small JPEG of a photo that browsers do not show, where Gradio keeps its files.

    Returns:
        Its path; ``None`` where the photo itself can be shown, or cannot be read.
    """
    if path.suffix.lower() not in UNSHOWN:
        return None
    # The command line uses this module too, and should not wait for Gradio.
    from gradio.processing_utils import save_bytes_to_cache

    try:
        photo = load_image(path, max_bytes=max(path.stat().st_size, 1))  # the engine has its own limit
    except (MagicMirrorError, OSError):
        return None
    return Path(save_bytes_to_cache(jpeg_bytes(photo, COPY_SIDE_PX), f"{path.stem}.jpg", str(upload_folder)))


def pick_face(photos: Sequence[AnalysedPhoto], photo: int, face: int) -> tuple[AnalysedPhoto, ...]:
    """Return the photos with another face chosen in one of them.

    Raises:
        FaceError: When there is no such face.
    """
    if not (0 <= photo < len(photos) and 0 <= face < len(photos[photo].faces)):
        raise FaceError("There is no such face (any more).", "Choose one that is shown.")
    return tuple(replace(item, chosen=face) if index == photo else item for index, item in enumerate(photos))


def odd_photos(photos: Sequence[AnalysedPhoto]) -> dict[int, str]:
    """Return a sentence for every photo (from 0) whose chosen face differs from the others."""
    usable = [(index, photo.face) for index, photo in enumerate(photos) if photo.face is not None]
    mismatches = find_mismatches([face for _, face in usable])
    return {
        usable[each.index][0]: words.ODD_PHOTO.format(distance=each.distance, limit=each.limit) for each in mismatches
    }


def chosen_faces(photos: Sequence[AnalysedPhoto]) -> tuple[FaceReference, ...]:
    """Return the one face of every usable photo.

    Raises:
        FaceError: When there is no photo, no face, or a choice is missing.
    """
    if not photos:
        raise FaceError(words.NEED_PHOTO)
    if not all(photo.searched for photo in photos):
        raise FaceError(words.SEARCHING)
    for number, photo in enumerate(photos, start=1):
        if photo.undecided:
            raise SeveralFaces(words.NEED_CHOICE.format(number=number))
    faces = tuple(photo.face for photo in photos if photo.face is not None)
    if not faces:
        raise NoFaceFound(words.NEED_FACE)
    return faces
