"""Fast embeddings of many aligned heads: dlib's chips through its network in torch, in batches."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from magicmirror.faces.dlib_analyzer import face_chip, template_landmarks_px
from magicmirror.models.recognizer import DlibFaceRecognizer
from magicmirror.types import Float32Array, UInt8Array


class AlignedEmbedder(Protocol):
    """What embeds aligned heads: every ``FaceAnalyzer``, and ``BatchEmbedder``."""

    def embed_aligned(self, crops: UInt8Array) -> Float32Array:
        """Embed (B, S, S, 3) uint8 RGB crops to (B, E) float32."""
        ...


class BatchEmbedder:
    """dlib's recogniser on batches, an order of magnitude faster than dlib itself on one core.

    Args:
        recognizer: The network; ``DlibFaceRecognizer.from_dlib_package()`` where it is not given.
        batch_size: Crops at once.
    """

    def __init__(self, recognizer: DlibFaceRecognizer | None = None, batch_size: int = 32) -> None:
        self.recognizer = recognizer if recognizer is not None else DlibFaceRecognizer.from_dlib_package()
        self.batch_size = batch_size

    def embed_aligned(self, crops: UInt8Array) -> Float32Array:
        """Embed aligned heads; agrees with ``DlibFaceAnalyzer.embed_aligned`` to about 1e-6.

        Args:
            crops: (B, S, S, 3) uint8 RGB.

        Returns:
            (B, 128) float32.
        """
        landmarks = template_landmarks_px(crops.shape[1])
        parts = []
        for start in range(0, len(crops), self.batch_size):
            batch = crops[start : start + self.batch_size]
            chips = np.stack([face_chip(np.ascontiguousarray(crop), landmarks) for crop in batch])
            parts.append(self.recognizer.embed_chips(chips))
        return np.concatenate(parts) if parts else np.zeros((0, 128), dtype=np.float32)
