"""How much moves within the window around a head: the motion score that clips are filtered by (paper, A.1, set D)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from magicmirror.data.framing import cut_window
from magicmirror.data.records import Box
from magicmirror.media.optical_flow import dense_flow, grey_frames, top_flow
from magicmirror.types import UInt8Array

SIDE_PX = 96


def motion_score(frames: Sequence[UInt8Array], box: Box, frames_per_s: float) -> float:
    """Measure the motion in a window that stays where it is.

    The mean over all pairs of successive frames of ``top_flow``.

    Args:
        frames: (H, W, 3) uint8 RGB each, evenly in time.
        box: Left, top, right, bottom of the square window, in px of a frame.
        frames_per_s: Of ``frames``.

    Returns:
        Sides of the window per second; 0 for fewer than two frames.
    """
    if len(frames) < 2:
        return 0.0
    windows = np.stack([cut_window(frame, box, SIDE_PX, SIDE_PX) for frame in frames])
    return float(top_flow(dense_flow(grey_frames(windows))).mean()) / SIDE_PX * frames_per_s
