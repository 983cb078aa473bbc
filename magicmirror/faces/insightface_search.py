"""Finding faces with insightface's SCRFD detector: at two sizes at once, and further where nothing is found.

insightface fits a picture into a square of a given size, enlarging small ones, so a 128 px video frame needs no
padding. 640 px is the size that the packs and the peers of this project use. A face that fills the picture is larger
than the detector's largest anchors there; a second look at 128 px, a twenty-fifth of the work, finds it. Faces of
both looks count, the finer look where both see the same one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from magicmirror.faces.alignment import MIN_EYE_DISTANCE_PX, eye_distance_px
from magicmirror.faces.description import FoundFace, is_same_face, search_turned
from magicmirror.types import FaceBox, Float32Array, UInt8Array

SIZES_PX = (640, 128)
LARGE_SIZE_PX = 1280
"""Searched where nothing is found at ``SIZES_PX``, in photos that are larger than these: small faces."""

MAX_ASPECT = 32
"""A strip narrower than this has no face of a px that the detector could see."""


def find_faces(detector: Any, image_bgr: UInt8Array, thorough: bool) -> list[FoundFace]:
    """Find the faces of a picture.

    Args:
        detector: insightface's ``SCRFD``.
        image_bgr: (H, W, 3) uint8 **BGR**, contiguous.
        thorough: Whether to go on with a larger copy, and then with turned ones, where nothing is found.

    Returns:
        Faces in px of the picture, in no particular order; landmarks in ``arcface5`` order.
    """
    height, width = image_bgr.shape[:2]
    if max(height, width) > MAX_ASPECT * min(height, width):
        return []
    found = _find_at(detector, image_bgr, SIZES_PX)
    if found or not thorough:
        return found
    if max(height, width) > SIZES_PX[0] and detector.static_input_size is None:
        found = _find_at(detector, image_bgr, (LARGE_SIZE_PX,))
    return found or search_turned(image_bgr, lambda turned: _find_at(detector, turned, SIZES_PX))


def _find_at(detector: Any, image_bgr: UInt8Array, sizes_px: tuple[int, ...]) -> list[FoundFace]:
    """Search at several sizes; of boxes that overlap, the one of the earlier size is kept."""
    found: list[FoundFace] = []
    if detector.static_input_size is not None:
        sizes_px = sizes_px[:1]  # the detector has one size and takes no other
    for size_px in sizes_px:
        boxes, landmarks = detector.detect(image_bgr, input_size=(size_px, size_px))
        new = [_found(box, points) for box, points in zip(boxes, landmarks, strict=True)]
        found += [face for face in new if _can_be_aligned(face) and not any(_same(face, old) for old in found)]
    return found


def _found(box: Float32Array, points: Float32Array) -> FoundFace:
    """Wrap what the detector returns: (5,) left, top, right, bottom, score and (5, 2) landmarks."""
    left, top, right, bottom, score = (float(value) for value in box)
    return FoundFace(FaceBox(left, top, right, bottom), np.array(points, dtype=np.float32), score)


def _can_be_aligned(face: FoundFace) -> bool:
    """Whether the eyes are far enough apart for a crop; false alarms in tiny pictures may have them in one place."""
    return eye_distance_px(face.landmarks, "arcface5") >= MIN_EYE_DISTANCE_PX


def _same(first: FoundFace, second: FoundFace) -> bool:
    return is_same_face(first.box, second.box)
