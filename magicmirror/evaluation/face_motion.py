"""How much a face moves: FM_ref and FM_inter of the paper (sections 4.1 and A.4), from five landmarks.

Both are one L2 norm over all ten numbers of a pair of landmark sets, in coordinates divided by the width and height
of the picture. A video that repeats its reference scores 0 in both.
"""

from __future__ import annotations

import numpy as np

from magicmirror.errors import ConfigError
from magicmirror.types import Float32Array


def fm_ref(
    landmarks: Float32Array,
    frame_size_px: tuple[int, int],
    reference_landmarks: Float32Array,
    reference_size_px: tuple[int, int],
) -> float | None:
    """Return the motion against the reference picture, FM_ref.

    The paper: L2 of the five landmarks to those of the reference, after an alignment that normalises the aspect ratio.
    It does not say which. Here: the reference is fitted into the aspect ratio of the video with borders (as a player
    would show it), and the mean over the frames is taken. The reference is the head crop that the model was given, so
    that the framing of the photo plays no part.

    Args:
        landmarks: (F, 5, 2) in px; NaN where a frame has no face.
        frame_size_px: (width, height) of the video.
        reference_landmarks: (5, 2) in px of the reference, in the same order.
        reference_size_px: (width, height) of the reference.

    Returns:
        The mean norm, at least 0; ``None`` when no frame has a face.

    Raises:
        ConfigError: When the shapes do not fit.
    """
    points = _normalised(landmarks, frame_size_px)
    if reference_landmarks.shape != (5, 2):
        raise ConfigError(f"The reference's landmarks must be (5, 2), got {reference_landmarks.shape}.")
    target = letterbox_points(reference_landmarks, reference_size_px, frame_size_px[0] / frame_size_px[1])
    seen = points[~np.isnan(points).any(axis=(1, 2))]
    if not len(seen):
        return None
    return float(np.linalg.norm((seen - target).reshape(len(seen), -1), axis=1).mean())


def fm_inter(landmarks: Float32Array, frame_size_px: tuple[int, int]) -> float | None:
    """Return the motion between frames, FM_inter.

    The paper: the maximum inter-frame L2 on the original frames, coordinates normalised. Here: the maximum over all
    pairs of frames, not only neighbours, so it is the extent of the motion and does not depend on the frame rate.

    Args:
        landmarks: (F, 5, 2) in px; NaN where a frame has no face.
        frame_size_px: (width, height) of the video.

    Returns:
        The largest norm, at least 0; ``None`` when fewer than two frames have a face.

    Raises:
        ConfigError: When the shape does not fit.
    """
    points = _normalised(landmarks, frame_size_px).reshape(len(landmarks), -1)
    seen = points[~np.isnan(points).any(axis=1)]
    if len(seen) < 2:
        return None
    return float(np.linalg.norm(seen[:, None] - seen[None], axis=-1).max())


def letterbox_points(points: Float32Array, size_px: tuple[int, int], aspect_ratio: float) -> Float32Array:
    """Return points as shares of a picture that got borders, so that it has another aspect ratio.

    Args:
        points: (..., 2) pixel indices (the centre of the first pixel is 0).
        size_px: (width, height) of the picture without borders.
        aspect_ratio: Width / height of the picture with borders; the picture stands in its middle.

    Returns:
        (..., 2) float32; 0 to 1 from border to border.
    """
    width, height = size_px
    outer = np.array([max(width, height * aspect_ratio), max(height, width / aspect_ratio)])
    margin = (outer - [width, height]) / 2
    return np.asarray((points + 0.5 + margin) / outer, dtype=np.float32)


def _normalised(landmarks: Float32Array, size_px: tuple[int, int]) -> Float32Array:
    if landmarks.ndim != 3 or landmarks.shape[1:] != (5, 2):
        raise ConfigError(f"Landmarks must be (F, 5, 2), got {landmarks.shape}.")
    return letterbox_points(landmarks, size_px, size_px[0] / size_px[1])
