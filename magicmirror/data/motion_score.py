"""How much moves within the window around a head: the motion score that clips are filtered by (paper, A.1, set D)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from magicmirror.data.framing import cut_window
from magicmirror.data.records import Box
from magicmirror.media.optical_flow import dense_flow, grey_frames
from magicmirror.types import UInt8Array

SIDE_PX = 96
TOP_SHARE = 0.05


def motion_score(frames: Sequence[UInt8Array], box: Box, frames_per_s: float) -> float:
    """Measure the motion in a window that stays where it is.

    The length of the largest 5 % of the optical flow (``media/optical_flow.py``), mean over all pairs of successive
    frames. A mouth that speaks covers about that share of the window.

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
    lengths = []
    for flow in np.linalg.norm(dense_flow(grey_frames(windows)), axis=-1).reshape(len(frames) - 1, -1):
        count = max(1, int(len(flow) * TOP_SHARE))
        lengths.append(float(np.partition(flow, -count)[-count:].mean()))
    return float(np.mean(lengths)) / SIDE_PX * frames_per_s
