"""The pose of every latent frame, as numbers of equal weight: what training checks a caption's motions against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from magicmirror.data.motion import MotionCue, PoseTrack, pose_track
from magicmirror.errors import ConfigError
from magicmirror.types import Float32Array

TEMPORAL_RATIO = 4
"""Pixel frames that a latent frame of CogVideoX's VAE stands for; the first one stands for one."""

# About half of each motion's amplitude, so that no field outweighs the others; zoom is its logarithm.
POSE_SCALES: dict[str, float] = {
    "yaw": 10.0,
    "pitch": 6.0,
    "roll": 6.0,
    "zoom": 0.12,
    "pan_x": 0.05,
    "pan_y": 0.05,
    "blink": 0.5,
    "smile": 0.5,
    "mouth": 0.5,
}
POSE_FIELDS = tuple(field.name for field in fields(PoseTrack))
NUM_POSE_VALUES = len(POSE_FIELDS)


def latent_poses(motions: Sequence[MotionCue], num_latent_frames: int) -> Float32Array:
    """Mean pose over the pixel frames of each latent frame.

    Args:
        motions: Of the clip; none for a still.
        num_latent_frames: F, of 1 + 4 (F - 1) pixel frames.

    Returns:
        (F, P) float32 in units of ``POSE_SCALES``; row 0 is at rest: zero.

    Raises:
        ConfigError: If there is no frame.
    """
    if num_latent_frames < 1:
        raise ConfigError(f"A clip has at least one latent frame, got {num_latent_frames}.")
    track = pose_track(tuple(motions), 1 + TEMPORAL_RATIO * (num_latent_frames - 1))
    columns = {name: np.asarray(getattr(track, name), dtype=np.float32) for name in POSE_FIELDS}
    columns["zoom"] = np.log(columns["zoom"])
    frames = np.stack([columns[name] / POSE_SCALES[name] for name in POSE_FIELDS], axis=1)
    later = frames[1:].reshape(num_latent_frames - 1, TEMPORAL_RATIO, NUM_POSE_VALUES).mean(1)
    return np.concatenate([frames[:1], later]).astype(np.float32)
