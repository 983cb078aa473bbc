"""From a found face to a ``FaceReference``: the step that every analyzer ends with, and geometry of found faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from magicmirror.faces.alignment import align_head
from magicmirror.faces.quality import face_quality, quality_report
from magicmirror.types import FaceBox, FaceReference, Float32Array, LandmarkScheme, UInt8Array

SAME_FACE_OVERLAP = 0.3


@dataclass(frozen=True, eq=False)
class FoundFace:
    """A face before it is described.

    Args:
        box: In px of the photo.
        landmarks: (5, 2) in px of the photo, in the order of the analyzer that found it.
        score: Of the detector that found it.
    """

    box: FaceBox
    landmarks: Float32Array
    score: float


def describe_face(
    image: UInt8Array,
    found: FoundFace,
    scheme: LandmarkScheme,
    embedding: Float32Array,
    crop_size_px: int,
    photo_hash: str,
) -> FaceReference:
    """Add crop and quality to a found face, so that identity, structure and metrics all come from the same one.

    Args:
        image: (H, W, 3) uint8 RGB, the photo.
        found: Where the face is.
        scheme: Order of its landmarks.
        embedding: (E,) float32, raw.
        crop_size_px: Side S of the aligned head crop.
        photo_hash: ``analyzer.photo_sha256`` of the photo.

    Returns:
        The described face.
    """
    crop = align_head(image, found.landmarks, scheme, crop_size_px)
    checks = quality_report(image, crop, found.landmarks, scheme)
    return FaceReference(
        box=found.box,
        landmarks=found.landmarks,
        landmark_scheme=scheme,
        crop=crop,
        embedding=embedding,
        score=found.score,
        quality=face_quality(checks),
        photo_sha256=photo_hash,
        checks=checks,
    )


def turn_back(found: FoundFace, quarters: int, height: int, width: int) -> FoundFace:
    """Map a face of a turned copy to the photo.

    Args:
        found: A face of ``np.rot90(image, quarters)``, in px of that copy.
        quarters: Counter-clockwise quarter turns, 1 to 3.
        height: Of the photo in px.
        width: Of the photo in px.

    Returns:
        The face in px of the photo. Its landmarks keep their order: the eye that is first stays first.
    """
    corners = np.array([[found.box.left, found.box.top], [found.box.right, found.box.bottom]], dtype=np.float32)
    # Corners lie on pixel edges, landmarks on pixel centres: half a pixel apart.
    edges = _points_back(corners, quarters, height, width)
    points = _points_back(found.landmarks + 0.5, quarters, height, width) - 0.5
    (left, top), (right, bottom) = edges.min(axis=0), edges.max(axis=0)
    box = FaceBox(float(left), float(top), float(right), float(bottom))
    return FoundFace(box, points.astype(np.float32), found.score)


def search_turned(image: UInt8Array, search: Callable[[UInt8Array], list[FoundFace]]) -> list[FoundFace]:
    """Search a picture turned by a quarter, a half and three quarters; the surest turn counts.

    Args:
        image: (H, W, 3) uint8.
        search: Finds the faces of one picture, in px of it.

    Returns:
        Faces in px of ``image``; empty when no turn has one.
    """
    height, width = image.shape[:2]
    best: list[FoundFace] = []
    for quarters in (1, 2, 3):
        found = search(np.rot90(image, quarters).copy())
        if best_score(found) > best_score(best):
            best = [turn_back(face, quarters, height, width) for face in found]
    return best


def is_same_face(first: FaceBox, second: FaceBox) -> bool:
    """Whether two boxes show the same face: intersection over union above 0.3."""
    width = min(first.right, second.right) - max(first.left, second.left)
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared > SAME_FACE_OVERLAP * (first.area + second.area - shared)


def best_score(faces: Sequence[FoundFace]) -> float:
    """Return the highest score, 0 for no faces."""
    return max((face.score for face in faces), default=0.0)


def _points_back(points: Float32Array, quarters: int, height: int, width: int) -> Float32Array:
    """Map (..., 2) points of the picture turned by counter-clockwise quarters; pixel edges, not centres."""
    x, y = points[..., 0], points[..., 1]
    back: dict[int, Sequence[Float32Array]] = {1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}
    return np.stack(back[quarters], axis=-1).astype(np.float32)
