"""The head template: where the eyes of an aligned crop are, and the warp that puts them there.

Every head crop of this project (identity conditioning, the face area of the loss, likeness) follows one template,
stated in fractions of the crop's side:

* the line between the two eye *centres* is horizontal,
* the eye centres are ``EYE_DISTANCE`` = 0.27 apart,
* their midpoint is at ``EYES_X`` = 0.5, ``EYES_Y`` = 0.45.

Coordinates: a fraction ``f`` of a side of ``S`` px is the pixel index ``f * S - 0.5`` (index ``i`` names the *centre*
of pixel ``i``, as in OpenCV and dlib), so 0.5 is the exact middle, and mirrored photos give mirrored crops.
"""

from __future__ import annotations

import numpy as np

from magicmirror.errors import ConfigError
from magicmirror.types import Float32Array, LandmarkScheme, UInt8Array

EYE_DISTANCE = 0.27
EYES_X = 0.5
EYES_Y = 0.45
MIN_EYE_DISTANCE_PX = 1.0


def eye_centres(landmarks: Float32Array, scheme: LandmarkScheme) -> tuple[Float32Array, Float32Array]:
    """Return the centres of the two eyes.

    Args:
        landmarks: (5, 2), x and y in px.
        scheme: Order of the points, see ``FaceReference``. A ``dlib5`` centre is the mean of the eye's two corners.

    Returns:
        (2,) centre of the eye on the picture's left, (2,) of the eye on its right, for an upright head.
    """
    points = np.asarray(landmarks, dtype=np.float32)
    if scheme == "dlib5":
        return points[2:4].mean(axis=0), points[0:2].mean(axis=0)
    return points[0], points[1]


def eye_distance_px(landmarks: Float32Array, scheme: LandmarkScheme) -> float:
    """Return the distance between the eye centres in px."""
    left, right = eye_centres(landmarks, scheme)
    return float(np.hypot(*(right - left)))


def template_eyes_px(side_px: int) -> tuple[Float32Array, Float32Array]:
    """Return the (2,) eye centres, left then right of the picture, of a crop with ``side_px`` px a side."""
    half = EYE_DISTANCE / 2
    left = np.array([EYES_X - half, EYES_Y], dtype=np.float32) * side_px - 0.5
    right = np.array([EYES_X + half, EYES_Y], dtype=np.float32) * side_px - 0.5
    return left, right


def head_transform(landmarks: Float32Array, scheme: LandmarkScheme, side_px: int) -> Float32Array:
    """Return the similarity transform (rotation, one scale, shift) from the photo to the head template.

    Two point pairs fix a similarity exactly: with points as complex numbers, ``z -> a * z + b``.

    Args:
        landmarks: (5, 2), x and y in px of the photo.
        scheme: Order of the points.
        side_px: Side of the crop.

    Returns:
        (2, 3) matrix for ``crop = matrix @ (x, y, 1)``, pixel indices on both sides.

    Raises:
        ConfigError: When the eyes coincide, so that no transform exists.
    """
    source_left, source_right = (complex(*point) for point in eye_centres(landmarks, scheme))
    target_left, target_right = (complex(*point) for point in template_eyes_px(side_px))
    if abs(source_right - source_left) < MIN_EYE_DISTANCE_PX:
        raise ConfigError(f"The eye centres are {abs(source_right - source_left):.2f} px apart: nothing to align.")
    factor = (target_right - target_left) / (source_right - source_left)
    shift = target_left - factor * source_left
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]], dtype=np.float32)


def transform_points(matrix: Float32Array, points: Float32Array) -> Float32Array:
    """Apply a (2, 3) matrix to (..., 2) points."""
    moved = np.asarray(points, dtype=np.float32) @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(moved, dtype=np.float32)


def align_head(image: UInt8Array, landmarks: Float32Array, scheme: LandmarkScheme, side_px: int = 128) -> UInt8Array:
    """Cut the head out of a photo, aligned to the template.

    A photo much larger than the crop is first reduced by area averaging, because a plain warp would alias.
    Where the crop reaches beyond the photo, the photo is mirrored (``BORDER_REFLECT_101``).

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (5, 2), x and y in px of ``image``.
        scheme: Order of the points.
        side_px: Side S of the crop.

    Returns:
        (S, S, 3) uint8 RGB.

    Raises:
        ConfigError: When the eyes coincide.
    """
    import cv2

    matrix = head_transform(landmarks, scheme, side_px)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    reduction = int(0.999 / scale) if scale < 1.0 else 1
    if reduction > 1:
        height, width = image.shape[:2]
        size = (max(1, round(width / reduction)), max(1, round(height / reduction)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        ratio = np.array([width / size[0], height / size[1]], dtype=np.float32)
        # Index i of the reduced photo is the centre of a cell, at (i + 0.5) * ratio - 0.5 of the full one.
        offset = matrix[:, :2] @ (ratio / 2 - 0.5) + matrix[:, 2]
        matrix = np.column_stack([matrix[:, :2] * ratio, offset]).astype(np.float32)
    crop = cv2.warpAffine(image, matrix, (side_px, side_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(crop, dtype=np.uint8)
