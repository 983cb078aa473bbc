"""Face analysis with insightface: SCRFD detector with 5 landmarks, ArcFace 512-d embedding.

Licence: insightface's code is under the MIT licence, but its model packs may be used for **non-commercial research
only**. Packs are not part of this project; see ``insightface_packs`` for where they come from.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from magicmirror.errors import ConfigError
from magicmirror.faces.alignment import head_transform, transform_points
from magicmirror.faces.analyzer import FaceAnalyzer, check_aligned_crops, check_image, photo_sha256
from magicmirror.faces.description import describe_face
from magicmirror.faces.insightface_models import EMBEDDING_SIZE, load_face_analysis
from magicmirror.faces.insightface_packs import pack_root
from magicmirror.faces.insightface_search import find_faces
from magicmirror.types import FaceReference, Float32Array, UInt8Array

# insightface's mean face in px of the 112 px picture that ArcFace was trained on (utils.face_align.arcface_dst):
# eye on the picture's left, eye on its right, tip of the nose, corner of the mouth on the left, on the right.
MEAN_FACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    dtype=np.float32,
)


class InsightFaceAnalyzer(FaceAnalyzer):
    """The analyzer of the ``cogvideox-5b`` profile.

    Args:
        crop_size_px: Side of the aligned head crop.
        pack: Name of the model pack: ``buffalo_l``, ``antelopev2``, ``buffalo_m``, ``buffalo_s``, ``buffalo_sc`` or
            another of insightface. Embeddings of different packs cannot be compared.
        root: insightface's root folder, which holds ``models/<pack>``; ``None`` takes ``MAGICMIRROR_FACE_PACKS``, and
            where that is not set, ``~/.insightface``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, see ``insightface_models.choose_providers``.

    Raises:
        ConfigError: When an argument is out of range.
    """

    landmark_scheme = "arcface5"
    embedding_size = EMBEDDING_SIZE

    def __init__(
        self, crop_size_px: int = 224, pack: str = "buffalo_l", root: Path | None = None, device: str = "auto"
    ) -> None:
        if crop_size_px < 16:
            raise ConfigError(f"crop_size_px must be at least 16, got {crop_size_px}.")
        self.crop_size_px = crop_size_px
        self.pack = pack
        self.root = pack_root(root)
        self.device = device
        self._analysis: Any = None
        # For loading only: onnxruntime's sessions may be run by several threads.
        self._lock = threading.Lock()

    def analyze(self, image: UInt8Array, thorough: bool = True) -> tuple[FaceReference, ...]:
        """Find and describe all faces, largest box first; see ``insightface_search`` for how they are found.

        Args:
            image: (H, W, 3) uint8 RGB.
            thorough: Whether to search a larger copy and turned ones where nothing is found at once.

        Returns:
            Faces, in px of ``image``; empty when none was found.

        Raises:
            ConfigError: When insightface is not installed or the device cannot be used.
            WeightsError: When the pack cannot be loaded.
        """
        image = check_image(image)
        image_bgr = _bgr(image)
        photo_hash = photo_sha256(image)
        faces = [
            describe_face(
                image,
                found,
                self.landmark_scheme,
                self._embed(image_bgr, found.landmarks),
                self.crop_size_px,
                photo_hash,
            )
            for found in find_faces(self._load().det_model, image_bgr, thorough)
        ]
        return tuple(sorted(faces, key=lambda face: face.box.area, reverse=True))

    def embed(self, image: UInt8Array, landmarks: Float32Array) -> Float32Array:
        """Embed one face: insightface's own 112 px crop, aligned by all five landmarks, and its recogniser.

        Args:
            image: (H, W, 3) uint8 RGB.
            landmarks: (5, 2) in px of ``image``, ``arcface5`` order.

        Returns:
            (512,) float32, not normalised; ``FaceReference.normalized_embedding`` is its unit length.
        """
        return self._embed(_bgr(check_image(image)), landmarks)

    def embed_frames(self, frames: Iterable[UInt8Array]) -> tuple[Float32Array | None, ...]:
        """See ``FaceAnalyzer.embed_frames``."""
        return tuple(self._embed_largest(_bgr(check_image(frame))) for frame in frames)

    def embed_aligned(self, crops: UInt8Array) -> Float32Array:
        """Embed aligned heads without searching them.

        The template fixes both eyes of a crop; nose and mouth are taken from ArcFace's mean face, scaled so that its
        eyes are the template's: one fixed similarity from crop to ArcFace's picture, the same for every crop. It is
        meaningful only for crops that really are aligned.

        Args:
            crops: (B, S, S, 3) uint8 RGB.

        Returns:
            (B, 512) float32.

        Raises:
            ConfigError: When the crops have another shape.
        """
        check_aligned_crops(crops)
        embeddings = np.zeros((len(crops), self.embedding_size), dtype=np.float32)
        landmarks = template_landmarks_px(crops.shape[1])
        for index, crop in enumerate(crops):
            embeddings[index] = self._embed(_bgr(crop), landmarks)
        return embeddings

    def _embed_largest(self, image_bgr: UInt8Array) -> Float32Array | None:
        """Return the (512,) embedding of the largest face of a BGR picture, ``None`` where there is none."""
        found = find_faces(self._load().det_model, image_bgr, thorough=False)
        largest = max(found, key=lambda face: face.box.area, default=None)
        return None if largest is None else self._embed(image_bgr, largest.landmarks)

    def _embed(self, image_bgr: UInt8Array, landmarks: Float32Array) -> Float32Array:
        """Return the (512,) embedding of the face of a BGR picture."""
        from insightface.app.common import Face

        points = np.asarray(landmarks, dtype=np.float32)
        embedding = self._load().models["recognition"].get(image_bgr, Face(kps=points))
        return np.array(embedding, dtype=np.float32)

    def _load(self) -> Any:
        """Read the weights once."""
        with self._lock:
            if self._analysis is None:
                self._analysis = load_face_analysis(self.pack, self.root, self.device)
            return self._analysis


def template_landmarks_px(side_px: int) -> Float32Array:
    """Return the (5, 2) ``arcface5`` landmarks of ArcFace's mean face, placed with its eyes on the head template."""
    return transform_points(head_transform(MEAN_FACE, "arcface5", side_px), MEAN_FACE)


def _bgr(image: UInt8Array) -> UInt8Array:
    """Return a contiguous copy with the colours in insightface's order."""
    return np.ascontiguousarray(image[..., ::-1])
