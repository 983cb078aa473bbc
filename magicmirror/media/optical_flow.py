"""Optical flow: where the pixels of a video go.

It is that of OpenCV's DIS (dense inverse search), which needs no weights and is accurate to a few tenths of a pixel on
moves of up to about a tenth of the picture.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from magicmirror.errors import ConfigError
from magicmirror.types import Float32Array, UInt8Array

TOP_SHARE = 0.05


def grey_frames(frames: UInt8Array) -> UInt8Array:
    """Return the luma of a video.

    Args:
        frames: (F, H, W, 3) uint8 RGB.

    Returns:
        (F, H, W) uint8.

    Raises:
        ConfigError: When the frames have another shape or type.
    """
    import cv2

    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ConfigError(f"Frames must be (F, H, W, 3) uint8, got {frames.shape} {frames.dtype}.")
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]).astype(np.uint8)


def dense_flow(grey: UInt8Array) -> Float32Array:
    """Estimate where each pixel goes from one frame to the next.

    Args:
        grey: (F, H, W) uint8; sides of at least 16 px.

    Returns:
        (F - 1, H, W, 2) float32, x and y in px.
    """
    import cv2

    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = [search.calc(first, second, None) for first, second in itertools.pairwise(grey)]
    return np.asarray(flow, dtype=np.float32).reshape(-1, *grey.shape[1:], 2)


def top_flow(flow: Float32Array) -> Float32Array:
    """Return VBench's motion score of each pair of frames: the mean length of the largest 5 % of the flow.

    A mouth that speaks covers about that share of a window around a head.

    Args:
        flow: (F - 1, H, W, 2) in px.

    Returns:
        (F - 1,) in px.
    """
    lengths = np.sort(np.linalg.norm(flow, axis=-1).reshape(len(flow), -1), axis=1)
    count = max(1, int(lengths.shape[1] * TOP_SHARE))
    return np.asarray(lengths[:, -count:].mean(axis=1), dtype=np.float32)
