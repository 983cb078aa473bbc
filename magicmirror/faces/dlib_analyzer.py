"""Face analysis with dlib: its detectors (``dlib_search``), 5-point landmarks, 128-d ResNet embedding."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from magicmirror.errors import ConfigError
from magicmirror.faces.alignment import head_transform, transform_points
from magicmirror.faces.analyzer import FaceAnalyzer, check_aligned_crops, check_image, photo_sha256
from magicmirror.faces.description import FoundFace, describe_face
from magicmirror.faces.dlib_search import DlibFaceSearch, weights_path
from magicmirror.types import FaceReference, Float32Array, UInt8Array

EMBEDDING_FILE = "dlib_face_recognition_resnet_model_v1.dat"

CHIP_SIZE_PX = 150
CHIP_PADDING = 0.25
# dlib's mean face in its unit square (get_face_chip_details); the recogniser was trained on chips aligned to it.
# In double precision, as dlib has it: rounded, a chip differs from dlib's own in single grey levels.
MEAN_FACE = np.array(
    [
        [0.8595674595992, 0.2134981538014],
        [0.6460604764104, 0.2289674387677],
        [0.1205750620789, 0.2137274526848],
        [0.3340850613712, 0.2290642403242],
        [0.4901123135679, 0.6277975316475],
    ],
    dtype=np.float64,
)


EMBED_BATCH = 32
"""Chips that the recogniser gets at once: 17 together take half of their time one by one."""

SEARCH_THREADS = min(4, os.cpu_count() or 1)
"""Frames that are searched at the same time."""

EmbedChips = Callable[[list[UInt8Array]], Float32Array]


class DlibFaceAnalyzer(FaceAnalyzer):
    """The analyzer of the ``preview`` profile.

    Args:
        crop_size_px: Side of the aligned head crop.
        upsample: How many times a copy of the photo is doubled and searched again, see ``DlibFaceSearch``.
        embed_chips: Makes (B, 128) embeddings of (150, 150, 3) uint8 RGB chips in dlib's place; ``None`` asks dlib.

    Raises:
        ConfigError: When an argument is out of range.
    """

    landmark_scheme = "dlib5"
    embedding_size = 128

    def __init__(self, crop_size_px: int = 128, upsample: int = 2, embed_chips: EmbedChips | None = None) -> None:
        if crop_size_px < 16:
            raise ConfigError(f"crop_size_px must be at least 16, got {crop_size_px}.")
        if not 0 <= upsample <= 3:
            raise ConfigError(f"upsample must lie in [0, 3], got {upsample}.")
        self.crop_size_px = crop_size_px
        self._search = DlibFaceSearch(upsample)
        self._embed = embed_chips
        self._recogniser: Any = None
        # dlib's objects keep scratch buffers, so two threads must never be inside one at a time.
        self._lock = threading.Lock()

    def analyze(self, image: UInt8Array, thorough: bool = True) -> tuple[FaceReference, ...]:
        """Find and describe all faces, largest box first; see ``dlib_search`` for how they are found.

        Args:
            image: (H, W, 3) uint8 RGB.
            thorough: Whether to search turned copies, and for faces in any pose, where the fast search finds nothing.

        Returns:
            Faces, in px of ``image``; empty when none was found.

        Raises:
            WeightsError: When dlib's weights are not installed.
        """
        image = check_image(image)
        photo_hash = photo_sha256(image)
        faces = [self._describe(image, found, photo_hash) for found in self._search.find(image, thorough)]
        return tuple(sorted(faces, key=lambda face: face.box.area, reverse=True))

    def embed(self, image: UInt8Array, landmarks: Float32Array) -> Float32Array:
        """Embed one face: dlib's 150 px chip, aligned by all five landmarks at sub-pixel precision.

        Args:
            image: (H, W, 3) uint8 RGB.
            landmarks: (5, 2) in px of ``image``, ``dlib5`` order.

        Returns:
            (128,) float32.
        """
        embedding: Float32Array = self._embed_chips([face_chip(check_image(image), landmarks)])[0]
        return embedding

    def embed_frames(self, frames: Iterable[UInt8Array]) -> tuple[Float32Array | None, ...]:
        """See ``FaceAnalyzer.embed_frames``; frames are searched side by side, and many chips embedded at once."""
        remaining = iter(frames)
        embeddings: list[Float32Array | None] = []
        with ThreadPoolExecutor(SEARCH_THREADS, "face-search") as pool:
            while chips := list(pool.map(self._largest_chip, islice(remaining, EMBED_BATCH))):
                seen = [chip for chip in chips if chip is not None]
                made = iter(self._embed_chips(seen) if seen else ())
                embeddings.extend(None if chip is None else next(made) for chip in chips)
        return tuple(embeddings)

    def embed_aligned(self, crops: UInt8Array) -> Float32Array:
        """Embed aligned heads without searching them.

        The template fixes both eye centres of a crop. The other points of the 5-point alignment (eye corners, nose)
        are taken from dlib's mean face, scaled so that its eye centres are the template's: one fixed similarity from
        crop to chip, the same for every crop. This skips the detector and the landmarks (most of the time of
        ``analyze``); since the nose of the person is not consulted, the result differs a little from ``embed``
        (see ``tests/faces``). It is meaningful only for crops that really are aligned.

        Args:
            crops: (B, S, S, 3) uint8 RGB.

        Returns:
            (B, 128) float32.

        Raises:
            ConfigError: When the crops have another shape.
        """
        check_aligned_crops(crops)
        if not len(crops):
            return np.zeros((0, self.embedding_size), dtype=np.float32)
        landmarks = template_landmarks_px(crops.shape[1])
        return self._embed_chips([face_chip(np.ascontiguousarray(crop), landmarks) for crop in crops])

    def _describe(self, image: UInt8Array, found: FoundFace, photo_hash: str) -> FaceReference:
        """Add crop, embedding and quality to a found face."""
        embedding = self.embed(image, found.landmarks)
        return describe_face(image, found, self.landmark_scheme, embedding, self.crop_size_px, photo_hash)

    def _largest_chip(self, frame: UInt8Array) -> UInt8Array | None:
        """Cut the chip of the largest face of a frame, ``None`` where there is none."""
        frame = check_image(frame)
        largest = max(self._search.find(frame, thorough=False), key=lambda face: face.box.area, default=None)
        return None if largest is None else face_chip(frame, largest.landmarks)

    def _embed_chips(self, chips: list[UInt8Array]) -> Float32Array:
        """Return the (B, 128) embeddings of (150, 150, 3) uint8 RGB chips."""
        if self._embed is not None:
            return self._embed(chips)
        recogniser = self._load_recogniser()
        with self._lock:
            vectors = recogniser.compute_face_descriptor(chips)
        return np.array(vectors, dtype=np.float32).reshape(len(chips), self.embedding_size)

    def _load_recogniser(self) -> Any:
        """Read the weights once."""
        with self._lock:
            if self._recogniser is None:
                import dlib

                self._recogniser = dlib.face_recognition_model_v1(str(weights_path(EMBEDDING_FILE)))
            return self._recogniser


def face_chip(image: UInt8Array, landmarks: Float32Array) -> UInt8Array:
    """Cut the recogniser's chip: least-squares similarity from the five landmarks to dlib's mean face.

    dlib's own ``get_face_chip`` rounds landmarks to whole px, which costs accuracy in small frames; this passes them
    unrounded to the same dlib functions.

    Args:
        image: (H, W, 3) uint8 RGB, contiguous.
        landmarks: (5, 2) in px, ``dlib5`` order.

    Returns:
        (150, 150, 3) uint8 RGB.
    """
    import dlib

    targets = (CHIP_PADDING + MEAN_FACE) / (2 * CHIP_PADDING + 1) * CHIP_SIZE_PX
    details = dlib.chip_details(
        dlib.dpoints([dlib.dpoint(float(x), float(y)) for x, y in targets]),
        dlib.dpoints([dlib.dpoint(float(x), float(y)) for x, y in landmarks]),
        dlib.chip_dims(CHIP_SIZE_PX, CHIP_SIZE_PX),
    )
    return np.asarray(dlib.extract_image_chip(image, details), dtype=np.uint8)


def template_landmarks_px(side_px: int) -> Float32Array:
    """Return the (5, 2) ``dlib5`` landmarks of dlib's mean face, placed with its eyes on the head template."""
    points = (MEAN_FACE * side_px).astype(np.float32)
    return transform_points(head_transform(points, "dlib5", side_px), points)
