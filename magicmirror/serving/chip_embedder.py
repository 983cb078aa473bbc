"""dlib's recogniser by torch: the same embeddings in a quarter of dlib's time on a CPU.

The likeness of every frame is measured after each video, and dlib's own network takes longer for it than the preview
model for the denoising (``docs/performance.md``).
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from magicmirror.types import Float32Array, UInt8Array


class ChipEmbedder:
    """Makes embeddings of aligned chips; reads the weights at the first call, and may be called by any thread."""

    def __init__(self) -> None:
        self._network: Any = None
        self._lock = threading.Lock()

    def __call__(self, chips: list[UInt8Array]) -> Float32Array:
        """Embed chips.

        Args:
            chips: B of (150, 150, 3) uint8 RGB, of ``magicmirror.faces.dlib_analyzer.face_chip``.

        Returns:
            (B, 128) float32; dlib's own differ in the seventh digit.
        """
        embeddings: Float32Array = self._load().embed_chips(np.stack(chips))
        return embeddings

    def _load(self) -> Any:
        with self._lock:
            if self._network is None:
                import torch

                from magicmirror.models.recognizer import DlibFaceRecognizer

                network: Any = DlibFaceRecognizer.from_dlib_package().eval()
                # The layout of its features, which saves turning the weights over at every call.
                self._network = network.to(memory_format=torch.channels_last)
            return self._network
