"""Motion of the whole picture: dynamic degree (VBench) and smoothness by cross-frame optical flow (section 4.1).

VBench and the paper take the flow of RAFT; its weights are not part of this project. Here it is that of
``media/optical_flow.py``, so figures are compared between rows of one report, not with the paper's.
"""

from __future__ import annotations

import itertools

import numpy as np

from magicmirror.types import Float32Array

THRESHOLD_PX = 6.0
THRESHOLD_SIDE_PX = 256
VBENCH_FPS = 8
PAIRS_IN_16 = 4
STILL_PX = 0.1
"""Motion below this is noise of the estimate and must not count as unsteady."""


def is_dynamic(scores: Float32Array, side_px: int) -> bool:
    """Say whether a video counts as dynamic (VBench's rule; the dynamic degree is the share of such videos).

    At least 4 of 16 frames must have a motion score above 6 px at a shorter side of 256 px; both scale.

    Args:
        scores: (F - 1,) of ``top_flow``, of frames at 8 per second.
        side_px: Shorter side of the frames.
    """
    threshold = THRESHOLD_PX * side_px / THRESHOLD_SIDE_PX
    needed = max(1, round(PAIRS_IN_16 * (len(scores) + 1) / 16))
    return int((scores > threshold).sum()) >= needed


def vbench_step(fps: float) -> int:
    """Return which step through the frames of a video comes nearest to VBench's 8 frames per second."""
    return max(1, round(fps / VBENCH_FPS))


def flow_smoothness(flow: Float32Array) -> float | None:
    """Return how steadily pixels keep their motion: the smoothness by cross-frame optical flow.

    The paper names it and gives no formula. Here, with ``f`` the flow from frame t to t + 1 and ``g`` the next flow,
    read where ``f`` has led: ``1 - sum|g - f| / sum(|g| + |f| + 0.1 px)``. 1 for still pictures and even motion, about
    0.3 for motion that starts and ends at random, 0 for a picture that jumps to and fro.

    Args:
        flow: (F - 1, H, W, 2) in px.

    Returns:
        In [0, 1]; ``None`` for fewer than three frames.
    """
    if len(flow) < 2:
        return None
    change = total = 0.0
    for first, second in itertools.pairwise(flow):
        following, inside = follow(second, first)
        a, b = first[inside], following[inside]
        change += float(np.linalg.norm(b - a, axis=-1).sum())
        total += float((np.linalg.norm(a, axis=-1) + np.linalg.norm(b, axis=-1) + STILL_PX).sum())
    return 1.0 - change / total if total else None


def follow(values: Float32Array, flow: Float32Array) -> tuple[Float32Array, np.ndarray]:
    """Read the next frame where the flow leads.

    Args:
        values: (H, W) or (H, W, C) float32 of the next frame.
        flow: (H, W, 2) from this frame to the next, in px.

    Returns:
        Values for the pixels of this frame, and (H, W) bool: whether the flow stays inside the picture.
    """
    import cv2

    height, width = flow.shape[:2]
    x = np.arange(width, dtype=np.float32)[None, :] + flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
    read = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return np.asarray(read, dtype=np.float32), inside
