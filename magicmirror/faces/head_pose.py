"""Yaw, pitch and roll of a head from its five landmarks.

A generic head of five points in space is turned, scaled and shifted until its parallel projection (weak perspective)
meets the landmarks in the least-squares sense: four unknowns, since both sides are taken about the eyes' middle.

What limits the angles is that a person's own proportions are not known: the base of a nose that is set 5 % of the
eye distance lower than the average looks like a head bent by 8 degrees. And pitch folds: seen from ever higher above,
the nose first moves away from the eyes and then back again, for its base (``dlib5``) from about 24 degrees on, for its
tip (``arcface5``) from 40. So no pitch below -20 and -40 degrees is ever given. Errors measured on heads turned by
known angles are in ``docs/face_quality.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from magicmirror.faces.alignment import eye_centres
from magicmirror.types import Float32Array, LandmarkScheme

Float64Array = npt.NDArray[np.float64]

# x to the right of the picture, y down, z towards the camera, in eye distances from the middle of the eyes, for the
# head that looks into the camera. x and y are the averages of portraits; depths follow from anatomical averages.
GENERIC_HEADS: dict[LandmarkScheme, Float64Array] = {
    "dlib5": np.array(
        [
            [0.70, -0.01, -0.05],  # outer and inner corner of the eye on the picture's right
            [0.30, 0.01, 0.05],
            [-0.70, -0.01, -0.05],
            [-0.30, 0.01, 0.05],
            [0.0, 0.74, 0.33],  # base of the nose
        ]
    ),
    "arcface5": np.array(
        [
            [-0.50, 0.0, 0.0],
            [0.50, 0.0, 0.0],
            [0.0, 0.56, 0.48],  # tip of the nose
            [-0.44, 1.08, 0.06],  # corners of the mouth
            [0.44, 1.08, 0.06],
        ]
    ),
}
# A smile lifts and parts the corners of the mouth, which a turned head would have to explain otherwise.
SMILING_WEIGHT = (0.5, 0.2)
LOWEST_PITCH_DEG: dict[LandmarkScheme, float] = {"dlib5": -20.0, "arcface5": -40.0}
MAX_ANGLE_DEG = 60.0
ITERATIONS = 10
DIFFERENCE = 1e-4
TOLERANCE = 1e-4
DAMPING = 1e-5
MIN_EYES_PX = 1e-3


@dataclass(frozen=True)
class HeadPose:
    """Angles in degrees, in the directions of the picture as seen by the viewer.

    Args:
        yaw: Positive turns the face to the right of the picture.
        pitch: Positive looks up; 0 is how the average portrait holds the head.
        roll: Positive tilts the head clockwise, in (-180, 180].
    """

    yaw: float
    pitch: float
    roll: float


def head_pose(landmarks: Float32Array, scheme: LandmarkScheme) -> HeadPose:
    """Estimate the pose of a head.

    Args:
        landmarks: (5, 2), x and y in px; only their shape counts, not place and size.
        scheme: Order of the points, see ``FaceReference``.

    Returns:
        The pose; yaw and pitch lie within 60 degrees.
    """
    head = GENERIC_HEADS[scheme]
    left, right = eye_centres(landmarks, scheme)
    # Points as complex numbers, about the middle of the eyes, with the line of the eyes level and 1 long.
    eyes = complex(*(right - left))
    level = (np.asarray(landmarks, dtype=np.float64) - (left + right) / 2) @ np.array([1, 1j])
    level = level / (eyes if abs(eyes) > MIN_EYES_PX else 1.0)
    points = np.stack([level.real, level.imag], axis=1)
    weights = np.ones((5, 2))
    if scheme == "arcface5":
        weights[3:] = SMILING_WEIGHT
    # The unknowns: yaw, pitch and the rest of the roll in radians, logarithm of the scale.
    unknowns = np.zeros(4)
    high = np.radians([MAX_ANGLE_DEG, MAX_ANGLE_DEG])
    low = np.radians([-MAX_ANGLE_DEG, LOWEST_PITCH_DEG[scheme]])
    steps = np.vstack([np.zeros(4), np.eye(4) * DIFFERENCE])
    for _ in range(ITERATIONS):
        projected = _project(head, unknowns + steps).reshape(5, -1)
        slopes = (projected[1:] - projected[0]) / DIFFERENCE * weights.ravel()
        change = _least_squares(slopes, (points.ravel() - projected[0]) * weights.ravel())
        before = unknowns.copy()
        unknowns += np.clip(change, -0.5, 0.5)
        unknowns[:2] = np.clip(unknowns[:2], low, high)
        if np.abs(unknowns - before).max() < TOLERANCE:
            break
    unknowns[2] += np.angle(eyes)
    yaw, pitch, roll = np.degrees(unknowns[:3])
    return HeadPose(float(yaw), float(pitch), float(180.0 - (180.0 - roll) % 360.0))


def project_head(scheme: LandmarkScheme, pose: HeadPose, eye_distance_px: float = 1.0) -> Float32Array:
    """Return the (5, 2) landmarks of the generic head in a pose, about the origin; the inverse of ``head_pose``.

    Args:
        scheme: Order of the points.
        pose: Angles.
        eye_distance_px: Distance of the eyes of the head that looks into the camera.
    """
    angles = np.radians([pose.yaw, pose.pitch, pose.roll])
    unknowns = np.array([[*angles, np.log(eye_distance_px)]])
    return np.asarray(_project(GENERIC_HEADS[scheme], unknowns)[0], dtype=np.float32)


def _least_squares(slopes: Float64Array, residuals: Float64Array) -> Float64Array:
    """Solve (4, 10) slopes for the change of the unknowns; damped a little, for poses where one has no effect."""
    return np.asarray(np.linalg.solve(slopes @ slopes.T + DAMPING * np.eye(4), slopes @ residuals))


def _project(head: Float64Array, unknowns: Float64Array) -> Float64Array:
    """Turn (5, 3) points by yaw, then pitch, then roll, drop the depth and scale: (K, 5, 2) for (K, 4) unknowns."""
    sines, cosines = np.sin(unknowns[:, :3, None]), np.cos(unknowns[:, :3, None])
    x = head[:, 0] * cosines[:, 0] + head[:, 2] * sines[:, 0]
    z = head[:, 2] * cosines[:, 0] - head[:, 0] * sines[:, 0]
    y = head[:, 1] * cosines[:, 1] - z * sines[:, 1]
    turned = np.stack([x * cosines[:, 2] - y * sines[:, 2], x * sines[:, 2] + y * cosines[:, 2]], axis=2)
    return np.asarray(turned * np.exp(unknowns[:, 3])[:, None, None])
