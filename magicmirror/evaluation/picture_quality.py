"""How clean the picture is: sharpness and flicker, to be compared with the same figures of held-out clips.

The paper measures quality by the Inception Score, which needs Inception's weights and says little about faces; these
two need none. Both depend on size and content, so they only mean something beside clips of the same size and people.
"""

from __future__ import annotations

import numpy as np

from magicmirror.evaluation.optical_flow import follow
from magicmirror.types import Float32Array, UInt8Array


def sharpness(grey: UInt8Array) -> float:
    """Return the variance of the Laplacian, mean over the frames.

    Args:
        grey: (F, H, W) uint8.

    Returns:
        In squared grey levels; 0 for a plain picture.
    """
    import cv2

    return float(np.mean([cv2.Laplacian(frame, cv2.CV_32F).var() for frame in grey]))


def flicker(grey: UInt8Array, flow: Float32Array) -> float | None:
    """Return what changes between frames and is no motion: the mean absolute difference after following the flow.

    VBench's flicker is the plain difference of neighbours in videos that should stand still; following the flow first
    makes it fit for videos in which something moves.

    Args:
        grey: (F, H, W) uint8.
        flow: (F - 1, H, W, 2) of these frames, in px.

    Returns:
        In grey levels of 255; ``None`` for one frame.
    """
    residuals = []
    for first, second, motion in zip(grey[:-1], grey[1:], flow, strict=True):
        following, inside = follow(second.astype(np.float32), motion)
        if inside.any():
            residuals.append(float(np.abs(following - first)[inside].mean()))
    return float(np.mean(residuals)) if residuals else None
