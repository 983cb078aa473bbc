"""Blink, smile, open mouth and talk, measured on the aligned heads of a clip.

No landmark of eyelids or mouth is used: the 68-point model that has them carries a non-commercial licence. The head is
aligned by its eyes, so the parts of the face stand still and what is left is the expression:

* *blink*: the skin above the eyes moves down and comes back, while the cheek below them stays. Brightness would not
  do: a lid is lighter than an iris, but bushy brows come down with it, and dark skin is no lighter than eyes.
* *smile*: the corners of the mouth move apart and up. *Open mouth*: the lower lip moves away from the upper one.
* *talk*: the lower lip does so and comes back, twice at least.

All motion is optical flow from the first frame (OpenCV's DIS), as lengths in eye distances.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from magicmirror.evaluation.face_track import FaceTrack
from magicmirror.evaluation.head_motion import LATE_SHARE, dip
from magicmirror.faces.alignment import EYE_DISTANCE, EYES_X, EYES_Y, align_head, head_transform, transform_points
from magicmirror.types import Float32Array, UInt8Array

SIDE_PX = 128
NOSE_TO_MOUTH = {"dlib5": 1.55, "arcface5": 1.9}
"""How many times farther from the eyes the mouth is than the nose."""
CORNER_X = 0.105
DARK = 0.4
"""Share of the luma of the skin below which a pixel counts as the inside of the mouth."""
UPPER_LIP_Y, LOWER_LIP_Y = -0.04, 0.05
LID_Y, CHEEK_Y = -0.03, 0.06

Curve = npt.NDArray[np.float64]


def aligned_heads(frames: UInt8Array, track: FaceTrack) -> tuple[UInt8Array, Float32Array]:
    """Align the head of every frame by landmarks that are smoothed over time.

    Args:
        frames: (F, H, W, 3) uint8 RGB.
        track: Of these frames, at least one with a face.

    Returns:
        (F, S, S) uint8 luma, and the (2,) middle of the mouth at the start of the clip, in sides of the crop.
    """
    import cv2

    points = _smoothed(track.landmarks_between())
    heads = [align_head(frame, each, track.scheme, SIDE_PX) for frame, each in zip(frames, points, strict=True)]
    grey = np.stack([cv2.cvtColor(head, cv2.COLOR_RGB2GRAY) for head in heads]).astype(np.uint8)
    nose_index = 4 if track.scheme == "dlib5" else 2
    first = transform_points(head_transform(points[0], track.scheme, SIDE_PX), points[0])
    nose = (first[nose_index] + 0.5) / SIDE_PX
    eyes = np.array([EYES_X, EYES_Y], dtype=np.float32)
    return grey, np.asarray(eyes + NOSE_TO_MOUTH[track.scheme] * (nose - eyes), dtype=np.float32)


def flow_from_start(heads: UInt8Array) -> Float32Array:
    """Estimate where each pixel of the first head has gone in every frame.

    Args:
        heads: (F, S, S) uint8 luma, aligned.

    Returns:
        (F, S, S, 2) float32, x and y in eye distances.
    """
    import cv2

    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    # An eyelid is a few pixels high: search at full resolution too, which the preset leaves out.
    search.setFinestScale(0)
    flow = np.stack([search.calc(heads[0], head, None) for head in heads])
    return np.asarray(flow / (EYE_DISTANCE * heads.shape[1]), dtype=np.float32)


def blink(flow: Float32Array) -> float:
    """Return how far the upper lids come down and go up again.

    Args:
        flow: (F, S, S, 2) of ``flow_from_start``.

    Returns:
        Mean of both eyes in eye distances; near 0 for eyes that stay as they are.
    """
    drop = np.zeros(len(flow))
    for eye in (EYES_X - EYE_DISTANCE / 2, EYES_X + EYE_DISTANCE / 2):
        lid, cheek = (_motion(flow, eye, EYES_Y + dy, 0.05, 0.015)[:, 1] for dy in (LID_Y, CHEEK_Y))
        drop += (lid - cheek) / 2
    return dip(-drop)


def mouth_change(flow: Float32Array, mouth: Float32Array) -> tuple[float, float]:
    """Measure smile and opening of the mouth at the end of a clip against its start.

    Args:
        flow: (F, S, S, 2) of ``flow_from_start``.
        mouth: (2,) middle of the mouth in sides of the crop.

    Returns:
        Smile: how far the corners have moved apart, plus how far they have risen against the upper lip. Opening: how
        far the lower lip has moved from the upper one. Both in eye distances, negative for the contrary.
    """
    late = flow[-max(1, round(LATE_SHARE * len(flow))) :].mean(axis=0, keepdims=True)
    x, y = float(mouth[0]), float(mouth[1])
    left, right = (_motion(late, x + dx, y, 0.03, 0.03)[0] for dx in (-CORNER_X, CORNER_X))
    upper, lower = (_motion(late, x, y + dy, 0.02, 0.02)[0] for dy in (UPPER_LIP_Y, LOWER_LIP_Y))
    smile = (right[0] - left[0]) + (upper[1] - (left[1] + right[1]) / 2)
    return float(smile), float(lower[1] - upper[1])


def dark_opening(heads: UInt8Array, mouth: Float32Array) -> Curve:
    """Measure how high the dark inside of the mouth is, against the start of the clip.

    Flow loses lips that part widely: there is nothing at the start that the inside of the mouth could have come from.

    Args:
        heads: (F, S, S) uint8 luma of ``aligned_heads``.
        mouth: (2,) middle of the mouth in sides of the crop.

    Returns:
        (F,) in eye distances: mean height of what is darker than ``DARK`` of the surrounding skin, over the columns in
        the middle of the mouth.
    """
    side = heads.shape[-1]
    x, y = float(mouth[0]), float(mouth[1])
    around = heads[:, _pixels(y - 0.12, y + 0.17, side), _pixels(x - 0.14, x + 0.14, side)]
    skin = np.percentile(around.reshape(len(heads), -1), 75, axis=1)
    column = heads[:, _pixels(y - 0.05, y + 0.17, side), _pixels(x - 0.03, x + 0.03, side)]
    height = (column < DARK * skin[:, None, None]).sum(axis=1).mean(axis=1) / side / EYE_DISTANCE
    return np.asarray(height - height[0], dtype=np.float64)


def _pixels(start: float, stop: float, side: int) -> slice:
    """Rows or columns between two places in sides of the crop."""
    return slice(max(0, round(start * side)), min(side, round(stop * side)))


def repeated_opening(flow: Float32Array, mouth: Float32Array) -> float:
    """Measure how far the mouth opens and closes again *twice*: the lesser of the two ways.

    Args:
        flow: (F, S, S, 2) of ``flow_from_start``.
        mouth: (2,) middle of the mouth in sides of the crop.

    Returns:
        In eye distances; near 0 for a mouth that opens once, whether it closes or not.
    """
    x, y = float(mouth[0]), float(mouth[1])
    upper, lower = (_motion(flow, x, y + dy, 0.02, 0.02)[:, 1] for dy in (UPPER_LIP_Y, LOWER_LIP_Y))
    opening = lower - upper
    splits = range(2, len(opening) - 2)
    return max((min(_way_and_back(opening[: m + 1]), _way_and_back(opening[m:])) for m in splits), default=0.0)


def _way_and_back(curve: Curve) -> float:
    """Height of the highest peak above the higher one of the lows before and after it."""
    return max(float(curve[t] - max(curve[: t + 1].min(), curve[t:].min())) for t in range(len(curve)))


def _motion(flow: Float32Array, x: float, y: float, reach_x: float, reach_y: float) -> Curve:
    """Median flow (F, 2) about a point; all in sides of the crop."""
    patch = _patch(flow, x, y, reach_x, reach_y)
    return np.asarray(np.median(patch.reshape(len(flow), -1, 2), axis=1), dtype=np.float64)


def _patch(pictures: np.ndarray, x: float, y: float, reach_x: float, reach_y: float) -> np.ndarray:
    """Cut (F, h, w, ...) about a point from (F, S, S, ...), all in sides of the crop; kept inside the crop."""
    side = pictures.shape[1]
    ends = []
    for centre, reach in ((y, reach_y), (x, reach_x)):
        low = min(max(round((centre - reach) * side), 0), side - 1)
        ends.append(slice(low, max(low + 1, min(round((centre + reach) * side) + 1, side))))
    return pictures[:, ends[0], ends[1]]


def _smoothed(points: Float32Array) -> Float32Array:
    """Average (F, 5, 2) landmarks over three frames: they are found on a grid of half a pixel, and would jitter."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    return np.asarray(0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:], dtype=np.float32)
