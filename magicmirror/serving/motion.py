"""How much moves in a video: one number, so that a frozen picture is not taken for the best take."""

from __future__ import annotations

import numpy as np

from magicmirror.media.optical_flow import dense_flow, grey_frames
from magicmirror.types import UInt8Array

WORK_SIDE_PX = 96
"""Frames are reduced to this longer side first: motion is a share of the picture, and small ones are quick."""


def measure_motion(frames: UInt8Array, fps: float) -> float | None:
    """Measure the mean length of the optical flow between neighbouring frames.

    Args:
        frames: (F, H, W, 3) uint8 RGB.
        fps: Frames per second.

    Returns:
        Percent of the longer side per second; ``None`` for fewer than two frames.
    """
    if len(frames) < 2:
        return None
    import cv2

    height, width = frames.shape[1:3]
    scale = WORK_SIDE_PX / max(height, width)
    size = max(16, round(width * scale)), max(16, round(height * scale))
    grey = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in grey_frames(frames)]
    flow = dense_flow(np.stack(grey).astype(np.uint8))
    return float(100.0 * np.linalg.norm(flow, axis=-1).mean() / max(size) * fps)
