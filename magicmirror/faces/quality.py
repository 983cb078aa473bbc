"""How good a face in a photo is as a reference: measured numbers, limits from data, plain remedies.

Every limit is where a spoilt photo's embedding has drifted from the good one's by half of dlib's same-person distance
for the worst twentieth of people, unless that would refuse good portraits; ``docs/face_quality.md`` has the study
(``benchmarks/face_quality.py``), the rule and what each check can and cannot see.

=============  =====================================================================================================
size           distance of the eye centres in px of the photo
sharpness      ratio of fine to coarse detail in the aligned face, in the direction that has less; about 1.5 in focus
exposure       range of the face's brightness in grey levels: small when it is dark or faded
highlights     share of the face that is burnt out to white
yaw pitch roll degrees, see ``head_pose``
border         share of the head's square that lies outside the photo
eyes           brightness of the brighter eye's surroundings, as a share of the cheek below: small behind dark glasses
=============  =====================================================================================================

Brightness is never judged by itself, only as a range or as a ratio within the face, so that dark skin in good light
and pale skin in good light pass alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from magicmirror.faces.alignment import (
    EYE_DISTANCE,
    EYES_X,
    EYES_Y,
    align_head,
    eye_distance_px,
    head_transform,
    transform_points,
)
from magicmirror.faces.head_pose import head_pose
from magicmirror.types import Float32Array, LandmarkScheme, QualityCheck, QualityName, UInt8Array

MIN_EYE_DISTANCE_PX = 18.0
MIN_SHARPNESS = 0.81
MIN_TONE_RANGE = 38.0
MAX_BURNT_SHARE = 0.16
MAX_YAW_DEG = 28.0
MAX_PITCH_DEG: dict[LandmarkScheme, float] = {"dlib5": 17.0, "arcface5": 20.0}
MAX_ROLL_DEG = 43.0
MAX_OUTSIDE_SHARE = 0.23
MIN_EYE_BRIGHTNESS = 0.65

MIN_QUALITY = 0.05
MEASURED_SIDE_PX = 128
BURNT_GREY = 245.0
FINE_SIGMA_PX = 1.0
COARSE_SIGMAS_PX = (2.0, 4.0)
NOISE_GAIN = 0.1122
"""Energy that noise of variance 1 in every px leaves in one direction of the fine detail."""

# Ellipses in the head template: centre x, centre y, radius x, radius y. The face reaches from the brows to the chin.
_FACE = (EYES_X, EYES_Y + 0.15, 0.25, 0.30)
_EYES = tuple((EYES_X + side * EYE_DISTANCE / 2, EYES_Y, 0.085, 0.045) for side in (-1, 1))
_CHEEKS = tuple((EYES_X + side * 0.15, EYES_Y + 0.18, 0.06, 0.05) for side in (-1, 1))


def quality_report(
    image: UInt8Array, crop: UInt8Array, landmarks: Float32Array, scheme: LandmarkScheme
) -> tuple[QualityCheck, ...]:
    """Measure one face of a photo.

    Args:
        image: (H, W, 3) uint8 RGB, the photo.
        crop: (S, S, 3) uint8 RGB, its aligned head. Measured as it is for S = 128, else cut anew at that size.
        landmarks: (5, 2) in px of the photo.
        scheme: Order of the points.

    Returns:
        One check for each name of ``QualityName``, in its order.

    Raises:
        ConfigError: When the eyes coincide.
    """
    import cv2

    if crop.shape[0] != MEASURED_SIDE_PX:
        crop = align_head(image, landmarks, scheme, MEASURED_SIDE_PX)
    grey = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), dtype=np.float32)
    return (
        _at_least(
            "size",
            eye_distance_px(landmarks, scheme),
            MIN_EYE_DISTANCE_PX,
            "The face is small in this photo. Use a larger photo, or come closer.",
            unit="px",
        ),
        _at_least(
            "sharpness",
            sharpness(grey),
            MIN_SHARPNESS,
            "The face is blurred. Use a sharper photo, or hold still and come closer.",
        ),
        _exposure(grey),
        _at_most(
            "highlights",
            burnt_share(grey),
            MAX_BURNT_SHARE,
            "Parts of the face are burnt out to white. Use softer light, or a photo that is less bright.",
        ),
        *_pose_checks(landmarks, scheme),
        _at_most(
            "border",
            outside_share(image, landmarks, scheme),
            MAX_OUTSIDE_SHARE,
            "The head is cut off at the edge. Use a photo that shows the whole head.",
        ),
        _at_least(
            "eyes",
            eye_brightness(grey),
            MIN_EYE_BRIGHTNESS,
            "The eyes are covered or in deep shadow. Take off dark glasses, and let light fall on the eyes.",
        ),
    )


def face_quality(checks: Sequence[QualityCheck]) -> float:
    """Weigh a face by its worst check, for averaging several photos of one person.

    A check that passed counts 1, one that failed by how far it is beyond its limit: value over limit where the value
    is too small, limit over value where it is too large. The least of them counts, and at least 0.05, so that a lone
    poor photo still has a weight.

    Args:
        checks: Of ``quality_report``.

    Returns:
        Quality in [0.05, 1].
    """
    shares = [1.0]
    for check in checks:
        if not check.passed:
            low, high = sorted((abs(check.value), abs(check.limit)))
            shares.append(low / max(high, 1e-6))
    return float(np.clip(min(shares), MIN_QUALITY, 1.0))


def sharpness(grey: Float32Array) -> float:
    """Compare fine with coarse detail of a face.

    Slopes of the finest detail (finer than a Gaussian of 1 px) over slopes of the detail between Gaussians of 2 and
    4 px, root mean square over the face, across and down; the smaller counts, since a camera that moved blurs along
    one direction only. A ratio does not depend on contrast or skin; what noise adds to the fine detail is estimated
    (Immerkaer 1996, with a median) and taken off.

    Args:
        grey: (128, 128) aligned head, 0 to 255. A face enlarged from fewer px has no fine detail either.

    Returns:
        About 1.1 to 1.8 for portraits in focus, 0.2 for a face without any detail.
    """
    import cv2

    face = _mask(_FACE)
    diagonal = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
    deviation = float(np.median(np.abs(cv2.filter2D(grey, cv2.CV_32F, diagonal)[face]))) / 0.6745 / 6
    fine = grey - cv2.GaussianBlur(grey, (0, 0), FINE_SIGMA_PX)
    coarse = cv2.GaussianBlur(grey, (0, 0), COARSE_SIGMAS_PX[0]) - cv2.GaussianBlur(grey, (0, 0), COARSE_SIGMAS_PX[1])
    ratios = []
    for across in (1, 0):
        energies = [
            float(np.mean(cv2.Sobel(band, cv2.CV_32F, across, 1 - across, scale=1 / 8)[face] ** 2))
            for band in (fine, coarse)
        ]
        ratios.append(max(energies[0] - NOISE_GAIN * deviation**2, 0.0) / max(energies[1], 1e-6))
    return float(np.sqrt(min(ratios)))


def tone_range(grey: Float32Array) -> float:
    """Return how far the 2nd and 98th percentile of a face's brightness are apart, (128, 128) in grey levels."""
    dark, light = np.percentile(grey[_mask(_FACE)], (2, 98))
    return float(light - dark)


def burnt_share(grey: Float32Array) -> float:
    """Return the share of the face, (128, 128), that is as good as white, in [0, 1]."""
    return float(np.mean(grey[_mask(_FACE)] >= BURNT_GREY))


def outside_share(image: UInt8Array, landmarks: Float32Array, scheme: LandmarkScheme) -> float:
    """Return the share of the head template's square that lies outside the photo, in [0, 1]."""
    import cv2

    height, width = image.shape[:2]
    matrix = np.asarray(cv2.invertAffineTransform(head_transform(landmarks, scheme, MEASURED_SIDE_PX)), np.float32)
    # Corners of pixels lie half a px before their centres.
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
    head = transform_points(matrix, square * MEASURED_SIDE_PX - 0.5) + 0.5
    photo = square * np.array([width, height], dtype=np.float32)
    inside = cv2.intersectConvexConvex(head, photo)[0]
    return float(np.clip(1 - inside / cv2.contourArea(head), 0.0, 1.0))


def eye_brightness(grey: Float32Array) -> float:
    """Compare the lightest parts around each eye (lids, white of the eye) with the cheek below.

    Args:
        grey: (128, 128) aligned head.

    Returns:
        90th percentile around the eye over the cheek's median, of the eye that has more; 0.8 to 1.5 for open or
        closed eyes, with or without clear glasses.
    """
    ratios = [
        float(np.percentile(grey[_mask(eye)], 90)) / max(float(np.median(grey[_mask(cheek)])), 1.0)
        for eye, cheek in zip(_EYES, _CHEEKS, strict=True)
    ]
    return max(ratios)


def _exposure(grey: Float32Array) -> QualityCheck:
    """Tell a dark face from a faded one by its lightest parts."""
    dark = float(np.percentile(grey[_mask(_FACE)], 98)) < 128
    return _at_least(
        "exposure",
        tone_range(grey),
        MIN_TONE_RANGE,
        "The face is too dark. Use a photo with more light on the face."
        if dark
        else "The face has hardly any contrast. Use a photo in clear light, through a clean lens.",
        unit="grey levels",
    )


def _pose_checks(landmarks: Float32Array, scheme: LandmarkScheme) -> tuple[QualityCheck, ...]:
    """Judge yaw, pitch and roll; looking down cannot be told from the five points of dlib and always passes there."""
    pose = head_pose(landmarks, scheme)
    look = "The face is turned to the side. Use a photo that looks into the camera."
    upright = "The head is tilted. Turn the photo until the head is upright."
    nod = f"The face looks {'up' if pose.pitch > 0 else 'down'}. Hold the camera level with the eyes."
    pitch = _at_most("pitch", pose.pitch, MAX_PITCH_DEG[scheme], nod, unit="deg")
    if scheme == "dlib5" and pose.pitch < 0:
        pitch = replace(pitch, passed=True, remedy="")
    return (
        _at_most("yaw", pose.yaw, MAX_YAW_DEG, look, unit="deg"),
        pitch,
        _at_most("roll", pose.roll, MAX_ROLL_DEG, upright, unit="deg"),
    )


def _at_least(name: QualityName, value: float, limit: float, remedy: str, unit: str = "") -> QualityCheck:
    passed = value >= limit
    return QualityCheck(name, value, limit, unit, passed, "" if passed else remedy)


def _at_most(name: QualityName, value: float, limit: float, remedy: str, unit: str = "") -> QualityCheck:
    """Compare the amount of a value, whatever its sign, with the most that is allowed."""
    passed = abs(value) <= limit
    return QualityCheck(name, value, limit, unit, passed, "" if passed else remedy)


def _mask(ellipse: tuple[float, float, float, float]) -> np.ndarray:
    """Return the (128, 128) bool mask of an ellipse of the head template."""
    x, y, radius_x, radius_y = ellipse
    axis = (np.arange(MEASURED_SIDE_PX, dtype=np.float32) + 0.5) / MEASURED_SIDE_PX
    across, down = (axis - x) / radius_x, (axis - y) / radius_y
    return np.asarray(across[None, :] ** 2 + down[:, None] ** 2 < 1)
