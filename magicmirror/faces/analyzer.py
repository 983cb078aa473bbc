"""The door of this room: the analyzer interface, its factory, and the choice of one face.

Every recogniser (dlib for the ``preview`` profile, insightface for the full one) stands behind ``FaceAnalyzer``.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from magicmirror.errors import ConfigError, FaceError, NoFaceFound, SeveralFaces
from magicmirror.types import FaceReference, Float32Array, LandmarkScheme, UInt8Array

COMPARABLE_AREA_RATIO = 2.0
"""Two faces are comparable when the larger has less than this many times the area of the other."""


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


def choose_face(faces: Sequence[FaceReference], index: int | None = None) -> FaceReference:
    """Pick the face of a photo that a request means.

    Args:
        faces: All faces of the photo, largest first, as ``analyze`` returns them.
        index: Position of the wanted face; ``None`` takes the largest where it clearly dominates.

    Returns:
        The chosen face.

    Raises:
        NoFaceFound: When ``faces`` is empty.
        SeveralFaces: When no index was given and the largest face has less than twice the area of the second.
        FaceError: When the index names no face.
    """
    if not faces:
        raise NoFaceFound(
            "No face was found in the photo.",
            "Use a sharp, well-lit photo of one person who looks towards the camera.",
        )
    if index is not None:
        if not 0 <= index < len(faces):
            raise FaceError(f"Face {index} was asked for, but the photo has {len(faces)} (counted from 0).")
        return faces[index]
    if len(faces) > 1 and faces[0].box.area < COMPARABLE_AREA_RATIO * faces[1].box.area:
        raise SeveralFaces(
            f"The photo shows {len(faces)} faces of comparable size.",
            "Choose one of them, or crop the photo to one person.",
        )
    return faces[0]


def check_image(image: UInt8Array) -> UInt8Array:
    """Return the picture as one contiguous block.

    Raises:
        ConfigError: When it is not (H, W, 3) uint8 with at least one pixel.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ConfigError(f"A picture must be (H, W, 3) uint8, got {image.shape} {image.dtype}.")
    # A copy also has plain strides along sides of one pixel, which dlib asks for and "contiguous" does not promise.
    return image.copy() if 1 in image.shape[:2] else np.ascontiguousarray(image)


def photo_sha256(image: UInt8Array) -> str:
    """Return the hex SHA-256 of a decoded photo, (H, W, 3) uint8: its shape, then its bytes."""
    digest = hashlib.sha256(repr(tuple(int(side) for side in image.shape)).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()
