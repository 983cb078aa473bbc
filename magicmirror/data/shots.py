"""Cuts of a video: where one shot ends and the next begins."""

from __future__ import annotations

from collections import deque

import numpy as np

from magicmirror.types import Float32Array, UInt8Array

SIDE_PX = 32
MIN_CHANGE = 0.09
"""Mean change of a pixel between two frames, as a share of the full range. On heads that fill the picture: 0.20 to 0.26
from one person to another, at most 0.085 within a shot (a head that is shaken, at 8 frames per second)."""
MIN_RATIO = 2.0
"""How many times the largest of the last changes: a fast pan or a waving hand changes every frame alike."""
REMEMBERED = 12


class CutDetector:
    """Says of each frame, in order, whether a new shot begins with it.

    A cut is a change to the frame before that is large in itself and against the last changes of the shot. Dissolves
    and fades change slowly and are not found; what they join must be told apart by the face.
    """

    def __init__(self) -> None:
        self._before: Float32Array | None = None
        self._changes: deque[float] = deque(maxlen=REMEMBERED)

    def begins_shot(self, frame: UInt8Array) -> bool:
        """Look at the next frame.

        Args:
            frame: (H, W, 3) uint8 RGB.

        Returns:
            Whether it is the first of a shot; true for the first frame of all.
        """
        import cv2

        small = cv2.resize(frame, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
        before, self._before = self._before, np.asarray(small, dtype=np.float32)
        if before is None:
            return True
        change = float(np.abs(small - before).mean())
        if change >= MIN_CHANGE and change >= MIN_RATIO * max(self._changes, default=0.0):
            self._changes.clear()
            return True
        self._changes.append(change)
        return False
