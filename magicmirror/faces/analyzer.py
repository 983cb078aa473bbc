"""The door of this room: the analyzer interface and its factory.

Every recogniser (dlib for the ``preview`` profile, insightface for the full one) stands behind ``FaceAnalyzer``.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np

from magicmirror.errors import ConfigError
from magicmirror.types import FaceReference, Float32Array, LandmarkScheme, UInt8Array


class FaceAnalyzer(ABC):
    """Finds faces and describes them.

    Instances may be shared by threads; weights are loaded on first use.

    Attributes:
        landmark_scheme: Order of the five landmarks.
        embedding_size: Length E of an embedding.
        crop_size_px: Side S of the aligned head crop.
    """

    landmark_scheme: LandmarkScheme
    embedding_size: int
    crop_size_px: int

    @abstractmethod
    def analyze(self, image: UInt8Array, thorough: bool = True) -> tuple[FaceReference, ...]:
        """Find and describe all faces.

        Args:
            image: (H, W, 3) uint8 RGB.
            thorough: Whether to search longer where nothing is found at once: right for a photo, of which there is
                one, and not for the frames of a video.

        Returns:
            Faces, largest box first; empty when none was found.
        """

    @abstractmethod
    def embed(self, image: UInt8Array, landmarks: Float32Array) -> Float32Array:
        """Embed one face whose landmarks are known.

        Args:
            image: (H, W, 3) uint8 RGB.
            landmarks: (5, 2) in px of ``image``, in the order of ``landmark_scheme``.

        Returns:
            (E,) float32, not normalised.
        """

    @abstractmethod
    def embed_frames(self, frames: Iterable[UInt8Array]) -> tuple[Float32Array | None, ...]:
        """Embed the largest face of each frame of a video, found as ``analyze`` finds it when it is not thorough.

        A frame is searched as it is taken, so an iterator may end the work between two of them with an exception.

        Args:
            frames: (H, W, 3) uint8 RGB each; a (F, H, W, 3) array is one such series.

        Returns:
            One (E,) raw embedding per frame, ``None`` where no face was found.
        """

    @abstractmethod
    def embed_aligned(self, crops: UInt8Array) -> Float32Array:
        """Embed heads that are already aligned to the template of ``faces.alignment``, without any detection.

        Args:
            crops: (B, S, S, 3) uint8 RGB of any side S.

        Returns:
            (B, E) float32, not normalised.
        """


def create_face_analyzer(kind: str = "dlib", **options: Any) -> FaceAnalyzer:
    """Make an analyzer by name; its library is imported here and not before.

    Args:
        kind: ``dlib`` or ``insightface``.
        options: Passed to the class.

    Returns:
        The analyzer; weights are not read yet.

    Raises:
        ConfigError: For an unknown kind.
    """
    if kind == "dlib":
        from magicmirror.faces.dlib_analyzer import DlibFaceAnalyzer

        return DlibFaceAnalyzer(**options)
    if kind == "insightface":
        from magicmirror.faces.insightface_analyzer import InsightFaceAnalyzer

        return InsightFaceAnalyzer(**options)
    raise ConfigError(f'Unknown face analyzer "{kind}".', 'Choose "dlib" or "insightface".')


def check_image(image: UInt8Array) -> UInt8Array:
    """Return the picture as one contiguous block.

    Raises:
        ConfigError: When it is not (H, W, 3) uint8 with at least one pixel.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ConfigError(f"A picture must be (H, W, 3) uint8, got {image.shape} {image.dtype}.")
    # A copy also has plain strides along sides of one pixel, which dlib asks for and "contiguous" does not promise.
    return image.copy() if 1 in image.shape[:2] else np.ascontiguousarray(image)


def check_aligned_crops(crops: UInt8Array) -> None:
    """Refuse what is not a stack of square pictures.

    Raises:
        ConfigError: When the crops are not (B, S, S, 3) uint8.
    """
    if crops.ndim != 4 or crops.shape[1] != crops.shape[2] or crops.shape[3] != 3 or crops.dtype != np.uint8:
        raise ConfigError(f"Aligned crops must be (B, S, S, 3) uint8, got {crops.shape} {crops.dtype}.")


def photo_sha256(image: UInt8Array) -> str:
    """Return the hex SHA-256 of a decoded photo, (H, W, 3) uint8: its shape, then its bytes."""
    digest = hashlib.sha256(repr(tuple(int(side) for side in image.shape)).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()
