"""What moves in a clip: named motions, their timelines, and the pose of every frame.

Directions are those of the *viewer*: "left" is the left side of the picture. Signs of the pose:

========  ==================================================================================
yaw       degrees; positive turns the face to the right of the picture (the nose moves to +x)
pitch     degrees; positive looks up (the nose moves to -y)
roll      degrees; positive tilts the head clockwise (its top moves to +x)
zoom      factor of the camera; above 1 the head grows
pan       shift of the camera in sides of the picture; positive x moves the camera to the right, so the head goes left
blink     0 open, 1 closed
smile     0 as in the photo, 1 full
mouth     0 as in the photo, 1 wide open
========  ==================================================================================

A clip starts at rest (frame 0 is the photo itself), so that name, strength and pace of the motions, which the caption
states, determine the pose of every frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt

from magicmirror.errors import ConfigError
from magicmirror.types import Float32Array

Strength = Literal["slight", "normal"]
Pace = Literal["slow", "normal", "quick"]
STRENGTHS: dict[str, float] = {"slight": 0.5, "normal": 1.0}
# Share of the clip after which a one-way motion has arrived.
ARRIVAL: dict[str, float] = {"slow": 1.0, "normal": 0.7, "quick": 0.4}

Timeline = Callable[[npt.NDArray[np.float64], float], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class PoseTrack:
    """Pose of every frame; each field is (F,) float32, see the table above."""

    yaw: Float32Array
    pitch: Float32Array
    roll: Float32Array
    zoom: Float32Array
    pan_x: Float32Array
    pan_y: Float32Array
    blink: Float32Array
    smile: Float32Array
    mouth: Float32Array

    @property
    def num_frames(self) -> int:
        """Number of frames F."""
        return len(self.yaw)

    @classmethod
    def at_rest(cls, num_frames: int) -> PoseTrack:
        """A track on which nothing moves."""
        values = {field.name: np.zeros(num_frames, dtype=np.float32) for field in fields(cls)}
        values["zoom"] = np.ones(num_frames, dtype=np.float32)
        return cls(**values)


@dataclass(frozen=True)
class MotionCue:
    """One motion of a clip.

    Args:
        name: One of ``MOTIONS``.
        strength: ``slight`` is half the way.
        pace: How early a one-way motion arrives; the repeated ones (nod, shake, talk) ignore it.

    Raises:
        ConfigError: For an unknown name, strength or pace.
    """

    name: str
    strength: Strength = "normal"
    pace: Pace = "normal"

    def __post_init__(self) -> None:
        """Refuse unknown names early."""
        if self.name not in MOTIONS:
            raise ConfigError(f"Unknown motion {self.name!r}.", f"Choose one of {', '.join(MOTIONS)}.")
        if self.strength not in STRENGTHS or self.pace not in ARRIVAL:
            raise ConfigError(f"Unknown strength {self.strength!r} or pace {self.pace!r}.")


@dataclass(frozen=True)
class ClipSpec:
    """All that a rendered clip depends on besides the portrait.

    Args:
        motions: At most two; none for a still picture.
        style: One of ``style.STYLES``.
        caption: What the clip shows, in words.
        pattern: Which fixed pattern of particles or grain the style uses, not negative.

    Raises:
        ConfigError: For more than two motions or a negative pattern.
    """

    motions: tuple[MotionCue, ...]
    style: str = "none"
    caption: str = ""
    pattern: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be rendered."""
        if len(self.motions) > 2:
            raise ConfigError(f"A clip has at most two motions, got {len(self.motions)}.")
        if self.pattern < 0:
            raise ConfigError(f"pattern must not be negative, got {self.pattern}.")


@dataclass(frozen=True)
class Motion:
    """How a named motion changes the pose.

    Args:
        amplitudes: Field of ``PoseTrack`` -> change at full extent (of ``zoom``: of its logarithm).
        timeline: Extent in [-1, 1] over the clip's time in [0, 1], given the arrival; 0 at time 0.
        group: What moves; two motions of one clip are of different groups.
    """

    amplitudes: dict[str, float]
    timeline: Timeline
    group: Literal["turn", "look", "tilt", "camera", "face", "rest"]


def _arrive(time: npt.NDArray[np.float64], arrival: float) -> npt.NDArray[np.float64]:
    """Go smoothly from 0 to 1 and stay (a quintic: speed and acceleration vanish at both ends)."""
    u = np.clip(time / arrival, 0.0, 1.0)
    return np.asarray(u**3 * (10 - 15 * u + 6 * u**2), dtype=np.float64)


def _twice(time: npt.NDArray[np.float64], arrival: float) -> npt.NDArray[np.float64]:
    """Go there and back, two times."""
    del arrival
    return np.asarray(np.sin(2 * math.pi * time) ** 2, dtype=np.float64)


def _swing(time: npt.NDArray[np.float64], arrival: float) -> npt.NDArray[np.float64]:
    """Swing to one side and the other, two times, with a soft start and end."""
    del arrival
    envelope = np.clip(np.minimum(time, 1 - time) * 6, 0.0, 1.0)
    return np.asarray(np.sin(4 * math.pi * time) * envelope, dtype=np.float64)


def _once(time: npt.NDArray[np.float64], arrival: float) -> npt.NDArray[np.float64]:
    """Close and open once, in the middle of the clip."""
    del arrival
    u = np.clip(np.abs(time - 0.5) / 0.19, 0.0, 1.0)
    return np.asarray(np.cos(0.5 * math.pi * u) ** 0.8, dtype=np.float64)


def _syllables(time: npt.NDArray[np.float64], arrival: float) -> npt.NDArray[np.float64]:
    """Open and close three times, the second time the widest."""
    del arrival
    accent = np.select([time < 1 / 3, time < 2 / 3], [0.8, 1.0], 0.65)
    return np.asarray(accent * np.sin(3 * math.pi * time) ** 2, dtype=np.float64)


def _breathe(time: npt.NDArray[np.float64], arrival: float) -> npt.NDArray[np.float64]:
    """Rise and fall slowly."""
    del arrival
    return np.asarray(np.sin(math.pi * time) ** 2, dtype=np.float64)


MOTIONS: dict[str, Motion] = {
    "still": Motion({"pitch": 1.0, "zoom": 0.012}, _breathe, "rest"),
    "turn_left": Motion({"yaw": -22.0}, _arrive, "turn"),
    "turn_right": Motion({"yaw": 22.0}, _arrive, "turn"),
    "look_up": Motion({"pitch": 13.0}, _arrive, "look"),
    "look_down": Motion({"pitch": -13.0}, _arrive, "look"),
    "nod": Motion({"pitch": -11.0}, _twice, "look"),
    "shake": Motion({"yaw": -14.0}, _swing, "turn"),
    "tilt_left": Motion({"roll": -12.0}, _arrive, "tilt"),
    "tilt_right": Motion({"roll": 12.0}, _arrive, "tilt"),
    "zoom_in": Motion({"zoom": 0.30}, _arrive, "camera"),
    "zoom_out": Motion({"zoom": -0.15}, _arrive, "camera"),
    # A pan zooms in a little, so that the frame stays inside a tightly cut portrait.
    "pan_left": Motion({"pan_x": -0.10, "zoom": 0.08}, _arrive, "camera"),
    "pan_right": Motion({"pan_x": 0.10, "zoom": 0.08}, _arrive, "camera"),
    "blink": Motion({"blink": 1.0}, _once, "face"),
    "smile": Motion({"smile": 1.0}, _arrive, "face"),
    "open_mouth": Motion({"mouth": 1.0}, _arrive, "face"),
    "talk": Motion({"mouth": 1.0}, _syllables, "face"),
}


def pose_track(motions: tuple[MotionCue, ...], num_frames: int) -> PoseTrack:
    """Lay the timelines of all motions over each other.

    Args:
        motions: Motions of the clip.
        num_frames: Number of frames F.

    Returns:
        The pose of every frame; frame 0 is at rest.

    Raises:
        ConfigError: If there is no frame.
    """
    if num_frames < 1:
        raise ConfigError(f"A clip has at least one frame, got {num_frames}.")
    time = np.linspace(0.0, 1.0, num_frames) if num_frames > 1 else np.zeros(1)
    sums = {field.name: np.zeros(num_frames) for field in fields(PoseTrack)}
    for cue in motions:
        motion = MOTIONS[cue.name]
        extent = motion.timeline(time, ARRIVAL[cue.pace]) * (1.0 if cue.name == "blink" else STRENGTHS[cue.strength])
        for name, amplitude in motion.amplitudes.items():
            sums[name] += amplitude * extent
    sums["zoom"] = np.exp(sums["zoom"])
    return PoseTrack(**{name: values.astype(np.float32) for name, values in sums.items()})
