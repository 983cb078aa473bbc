"""Following faces from one looked-at frame of a video to the next, by where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from magicmirror.faces.description import FoundFace, is_same_face
from magicmirror.types import UInt8Array

MAX_MISSED = 2
"""Looked-at frames in a row in which a detector may miss a face (a turn of the head, a hand) before its path ends."""


class FaceFinder(Protocol):
    """What finds faces without describing them, which costs far less; ``DlibFaceSearch`` is one."""

    def find(self, image: UInt8Array, thorough: bool = True) -> list[FoundFace]:
        """Find the faces of an (H, W, 3) uint8 RGB picture, in no particular order.

        Args:
            image: The picture.
            thorough: Whether to search longer where nothing is found at once; not for the frames of a video.
        """
        ...


@dataclass
class FacePath:
    """One face over the looked-at frames of a shot.

    Args:
        faces: Number of the looked-at frame -> the face there; in order.
    """

    faces: dict[int, FoundFace] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """First looked-at frame."""
        return next(iter(self.faces))

    @property
    def last(self) -> int:
        """Last looked-at frame."""
        return next(reversed(self.faces))

    @property
    def hit_share(self) -> float:
        """Share of the looked-at frames from the first to the last in which the face was found."""
        return len(self.faces) / (self.last - self.first + 1)

    @property
    def median_area(self) -> float:
        """Median area of the box in square px."""
        return median(face.box.area for face in self.faces.values())


def follow_faces(looks: Sequence[Sequence[FoundFace]]) -> list[FacePath]:
    """Join the faces of successive frames to paths: a face goes on where the last one overlaps it (``is_same_face``).

    Args:
        looks: Faces of each looked-at frame; frames should be about an eighth of a second apart.

    Returns:
        Paths, the one with the largest sum of areas first.
    """
    paths: list[FacePath] = []
    for number, faces in enumerate(looks):
        open_paths = [path for path in paths if number - path.last <= MAX_MISSED + 1]
        for face in sorted(faces, key=lambda each: each.box.area, reverse=True):
            before = [path for path in open_paths if is_same_face(path.faces[path.last].box, face.box)]
            path = max(before, key=lambda each: each.last, default=None)
            if path is None:
                path = FacePath()
                paths.append(path)
            else:
                open_paths.remove(path)
            path.faces[number] = face
    return sorted(paths, key=lambda path: path.median_area * len(path.faces), reverse=True)
