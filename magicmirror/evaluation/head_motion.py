"""How a head and the camera moved, from five landmarks a frame.

The measure is plain geometry on eye centres and nose, no fitted model: with ``d`` the distance of the eyes and the
nose's offset from their middle split along (``n_x``) and across (``n_y``) the line of the eyes, in units of ``d``,

========  ============================================================================================
roll      angle of the line of the eyes
yaw       ``atan((n_x - n_x0) / depth)``: a turned nose moves sideways between the eyes
pitch     turn of the nose about the eyes that makes ``n_y cos(yaw)`` of ``n_y0``: lifted, it comes nearer to them
zoom      ``log(d / cos(yaw))`` against its start
pan       shift of the middle of the eyes, less what yaw and roll alone do to it, opposite in sign
========  ============================================================================================

where 0 marks the start of the clip and ``depth`` how far the nose stands out. Signs and units are those of
``data.motion.PoseTrack``. Only changes are measured: what a face looks like at rest cancels. Bent down by more than 25
degrees (``dlib5``) the nose comes nearer to the eyes again, so no greater downward angle is ever found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from magicmirror.evaluation.face_track import FaceTrack
from magicmirror.types import LandmarkScheme

Curve = npt.NDArray[np.float64]

# How far the nose stands out before the eyes, in eye distances: its base (dlib5), its tip (arcface5).
NOSE_DEPTH: dict[LandmarkScheme, float] = {"dlib5": 0.344, "arcface5": 0.55}
# Levers of the eyes about the middle of the head (yaw) and about the neck (roll), in eye distances.
YAW_LEVER = 1.34
ROLL_LEVER = 1.96
START_FRAMES = 2
LATE_SHARE = 0.3
EXTREME_FRAMES = 3


@dataclass(frozen=True, eq=False)
class HeadMotion:
    """Change against the start of the clip; each (F,) float64.

    Args:
        yaw: Degrees; positive to the right of the picture.
        pitch: Degrees; positive up.
        roll: Degrees; positive clockwise.
        zoom: Natural logarithm of the growth of the head.
        pan: Of the camera, in widths of the picture; positive to the right.
    """

    yaw: Curve
    pitch: Curve
    roll: Curve
    zoom: Curve
    pan: Curve


def head_motion(track: FaceTrack, width_px: int) -> HeadMotion:
    """Measure the motion of a clip.

    Args:
        track: At least one frame with a face; frames without one are interpolated.
        width_px: Width of the frames.

    Returns:
        The change of every frame.
    """
    left, right, nose = (points.astype(np.float64) for points in track.eyes_and_nose())
    across = right - left
    distance = np.maximum(np.hypot(across[:, 0], across[:, 1]), 1e-6)
    along = across / distance[:, None]
    down = np.stack([-along[:, 1], along[:, 0]], axis=1)
    middle = (left + right) / 2
    offset = (nose - middle) / distance[:, None]
    n_x, n_y = (offset * along).sum(axis=1), (offset * down).sum(axis=1)
    depth = NOSE_DEPTH[track.scheme]
    yaw = np.arctan(_change(n_x) / depth)
    # Seen from the side, the nose lies at (depth, n_y0) from the eyes and turns about them.
    lever, at_rest = np.hypot(depth, _start(n_y)), np.arctan2(depth, _start(n_y))
    pitch = np.arccos(np.clip(n_y * np.cos(yaw) / lever, -1.0, 1.0)) - at_rest
    roll = _change(np.unwrap(np.arctan2(across[:, 1], across[:, 0])))
    zoom = _change(np.log(distance / np.cos(yaw)))
    own_shift = _start(distance) * (YAW_LEVER * np.sin(yaw) + ROLL_LEVER * np.sin(roll))
    pan = -(_change(middle[:, 0]) - own_shift) / width_px
    return HeadMotion(np.degrees(yaw), np.degrees(pitch), np.degrees(roll), zoom, pan)


def arrival(curve: Curve) -> float:
    """Return where a one-way motion ends: the mean over the last 30 % of the frames."""
    return float(curve[-max(1, round(LATE_SHARE * len(curve))) :].mean())


def dip(curve: Curve) -> float:
    """Return how far a motion goes down and comes back up.

    Args:
        curve: (F,) of any unit.

    Returns:
        Depth of the mean of the three lowest frames below the lower one of start and end. Near 0, or negative, for a
        motion that stays where it has arrived.
    """
    return min(_start(curve), _end(curve)) - float(np.sort(curve)[:EXTREME_FRAMES].mean())


def swing(curve: Curve) -> float:
    """Return how far a motion goes to *both* sides of its start and end and comes back: the lesser of the two."""
    return min(dip(curve), dip(-curve))


def _end(curve: Curve) -> float:
    return float(curve[-START_FRAMES:].mean())


def _start(curve: Curve) -> float:
    return float(curve[:START_FRAMES].mean())


def _change(curve: Curve) -> Curve:
    return np.asarray(curve - _start(curve), dtype=np.float64)
