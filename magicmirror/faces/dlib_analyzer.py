"""Face analysis with dlib: HOG detector, 5-point landmarks, 128-d ResNet embedding.

The weights (CC0) come from the package ``face_recognition_models``, which is located but never imported: its
``__init__`` needs the removed ``pkg_resources``.
"""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.faces.alignment import align_head, head_transform, transform_points
from magicmirror.faces.analyzer import FaceAnalyzer, check_image, photo_sha256
from magicmirror.faces.quality import face_quality
from magicmirror.types import FaceBox, FaceReference, Float32Array, UInt8Array

WEIGHTS_PACKAGE = "face_recognition_models"
LANDMARK_FILE = "shape_predictor_5_face_landmarks.dat"
EMBEDDING_FILE = "dlib_face_recognition_resnet_model_v1.dat"

MIN_DETECTION_SIDE_PX = 256
MAX_DETECTION_SIDE_PX = 1280
FALLBACK_SIDE_PX = 2560

CHIP_SIZE_PX = 150
CHIP_PADDING = 0.25
# dlib's mean face in its unit square (get_face_chip_details); the recogniser was trained on chips aligned to it.
MEAN_FACE = np.array(
    [
        [0.8595674595992, 0.2134981538014],
        [0.6460604764104, 0.2289674387677],
        [0.1205750620789, 0.2137274526848],
        [0.3340850613712, 0.2290642403242],
        [0.4901123135679, 0.6277975316475],
    ],
    dtype=np.float32,
)


@dataclass(frozen=True)
class _Networks:
    """dlib's three loaded models."""

    detector: Any
    predictor: Any
    recogniser: Any


class DlibFaceAnalyzer(FaceAnalyzer):
    """The analyzer of the ``preview`` profile.

    Args:
        crop_size_px: Side of the aligned head crop.
        upsample: How many times a photo without a found face is doubled and searched again; each costs four times
            the search before it.

    Raises:
        ConfigError: When an argument is out of range.
    """

    landmark_scheme = "dlib5"
    embedding_size = 128

    def __init__(self, crop_size_px: int = 128, upsample: int = 1) -> None:
        if crop_size_px < 16:
            raise ConfigError(f"crop_size_px must be at least 16, got {crop_size_px}.")
        if not 0 <= upsample <= 3:
            raise ConfigError(f"upsample must lie in [0, 3], got {upsample}.")
        self.crop_size_px = crop_size_px
        self.upsample = upsample
        self._networks: _Networks | None = None
        # dlib's objects keep scratch buffers, so two threads must never be inside one at a time.
        self._lock = threading.Lock()

    def analyze(self, image: UInt8Array) -> tuple[FaceReference, ...]:
        """Find and describe all faces, largest box first.

        The search runs on a copy whose shorter side has at least 256 px (so that 128 px video frames work) and whose
        longer side has at most 1280 px; all results are in px of ``image``.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            Faces; empty when none was found.

        Raises:
            WeightsError: When dlib's weights are not installed.
        """
        image = check_image(image)
        photo_hash = photo_sha256(image)
        faces = [self._describe(image, *found, photo_hash) for found in self._detect(image)]
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
        if crops.ndim != 4 or crops.shape[1] != crops.shape[2] or crops.shape[3] != 3 or crops.dtype != np.uint8:
            raise ConfigError(f"Aligned crops must be (B, S, S, 3) uint8, got {crops.shape} {crops.dtype}.")
        if not len(crops):
            return np.zeros((0, self.embedding_size), dtype=np.float32)
        landmarks = template_landmarks_px(crops.shape[1])
        return self._embed_chips([face_chip(np.ascontiguousarray(crop), landmarks) for crop in crops])

    def _detect(self, image: UInt8Array) -> list[tuple[FaceBox, Float32Array, float]]:
        """Return (box, (5, 2) landmarks, score) of each face, in px of ``image``."""
        import cv2

        height, width = image.shape[:2]
        networks = self._load()
        for scale in detection_scales(height, width, self.upsample):
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
            scaled = image if size == (width, height) else cv2.resize(image, size, interpolation=method)
            ratio = np.array([width / size[0], height / size[1]], dtype=np.float32)
            with self._lock:
                boxes, scores, _ = networks.detector.run(scaled, 0, 0.0)
                shapes = [networks.predictor(scaled, box) for box in boxes]
            if boxes:
                return [
                    (_box(box, ratio), _points(shape, ratio), float(score))
                    for box, shape, score in zip(boxes, shapes, scores, strict=True)
                ]
        return []

    def _describe(
        self, image: UInt8Array, box: FaceBox, landmarks: Float32Array, score: float, photo_hash: str
    ) -> FaceReference:
        """Add crop, embedding and quality to a found face."""
        crop = align_head(image, landmarks, self.landmark_scheme, self.crop_size_px)
        return FaceReference(
            box=box,
            landmarks=landmarks,
            landmark_scheme=self.landmark_scheme,
            crop=crop,
            embedding=self.embed(image, landmarks),
            score=score,
            quality=face_quality(crop, landmarks, self.landmark_scheme),
            photo_sha256=photo_hash,
        )

    def _embed_chips(self, chips: list[UInt8Array]) -> Float32Array:
        """Return the (B, 128) embeddings of (150, 150, 3) uint8 RGB chips."""
        recogniser = self._load().recogniser
        with self._lock:
            vectors = recogniser.compute_face_descriptor(chips)
        return np.array(vectors, dtype=np.float32).reshape(len(chips), self.embedding_size)

    def _load(self) -> _Networks:
        """Read the weights once."""
        with self._lock:
            if self._networks is None:
                import dlib

                self._networks = _Networks(
                    detector=dlib.get_frontal_face_detector(),
                    predictor=dlib.shape_predictor(str(weights_path(LANDMARK_FILE))),
                    recogniser=dlib.face_recognition_model_v1(str(weights_path(EMBEDDING_FILE))),
                )
            return self._networks


def detection_scales(height: int, width: int, upsample: int) -> tuple[float, ...]:
    """Return the scales at which a picture is searched, in order, until a face is found.

    The first makes the shorter side at least 256 px and then the longer one at most 1280 px. Each further one doubles
    it, as long as the longer side stays within 2560 px.

    Args:
        height: Height in px.
        width: Width in px.
        upsample: Number of doublings.

    Returns:
        One to ``upsample + 1`` scales.
    """
    first = max(1.0, MIN_DETECTION_SIDE_PX / min(height, width))
    first = min(first, MAX_DETECTION_SIDE_PX / max(height, width))
    doubled = [first * 2**times for times in range(1, upsample + 1)]
    return (first, *(scale for scale in doubled if scale * max(height, width) <= FALLBACK_SIDE_PX))


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
    return transform_points(head_transform(MEAN_FACE * side_px, "dlib5", side_px), MEAN_FACE * side_px)


def weights_path(file_name: str) -> Path:
    """Locate one of dlib's weight files in the installed package, without importing it.

    Raises:
        WeightsError: When the package or the file is missing.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"The package {WEIGHTS_PACKAGE} is not installed.", f"Run: pip install {WEIGHTS_PACKAGE}")
    path = Path(spec.submodule_search_locations[0]) / "models" / file_name
    if not path.is_file():
        raise WeightsError(f"{WEIGHTS_PACKAGE} has no file {file_name}.", f"Reinstall {WEIGHTS_PACKAGE}.")
    return path


def _box(rectangle: Any, ratio: Float32Array) -> FaceBox:
    """Map dlib's rectangle (inclusive right and bottom) to px of the photo."""
    return FaceBox(
        left=float(rectangle.left() * ratio[0]),
        top=float(rectangle.top() * ratio[1]),
        right=float((rectangle.right() + 1) * ratio[0]),
        bottom=float((rectangle.bottom() + 1) * ratio[1]),
    )


def _points(shape: Any, ratio: Float32Array) -> Float32Array:
    """Map dlib's landmarks to px of the photo; an index names the centre of its pixel."""
    points = np.array([[part.x, part.y] for part in shape.parts()], dtype=np.float32)
    return np.asarray((points + 0.5) * ratio - 0.5, dtype=np.float32)
