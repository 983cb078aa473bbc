"""How much a reference face can be trusted, as a weight for averaging several photos."""

from __future__ import annotations

import numpy as np

from magicmirror.faces.alignment import eye_distance_px
from magicmirror.types import Float32Array, LandmarkScheme, UInt8Array

FULL_EYE_DISTANCE_PX = 40.0
FULL_SHARPNESS = 150.0
MIN_QUALITY = 0.05


def sharpness(crop: UInt8Array) -> float:
    """Return the variance of the Laplacian of the grey crop, (S, S, 3) uint8 RGB; small means blurred."""
    import cv2

    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return float(np.var(cv2.Laplacian(grey, cv2.CV_32F)))


def face_quality(crop: UInt8Array, landmarks: Float32Array, scheme: LandmarkScheme) -> float:
    """Weigh a face by its size in the photo and its sharpness: the weaker of the two counts.

    ``min(size, sharp)`` with ``size = eye distance / 40 px`` and ``sharp = variance of the Laplacian / 150``, each cut
    at 1 and the result at least 0.05, so that a lone poor photo still has a weight. A portrait in focus with the
    eyes 40 px apart scores 1.

    Args:
        crop: (S, S, 3) uint8 RGB, aligned head; sharpness is calibrated for S = 128.
        landmarks: (5, 2) in px of the photo.
        scheme: Order of the points.

    Returns:
        Quality in [0.05, 1].
    """
    size = eye_distance_px(landmarks, scheme) / FULL_EYE_DISTANCE_PX
    return float(np.clip(min(size, sharpness(crop) / FULL_SHARPNESS), MIN_QUALITY, 1.0))
