"""Finding faces with dlib: a fast search that most photos end with, and slower ones for those it finds nothing in.

1. **Upright** (HOG detector), on a copy that is enlarged step by step. Portraits and video frames end here.
2. **Turned** by 90, 180 and 270 degrees, where nothing sure was found: photos whose orientation tag was lost. Results
   are given in px of the photo as it is; the aligned crop is upright anyway.
3. **Any pose** (dlib's convolutional detector): profiles, faces that are half covered or lit from behind.

Every search ends with the 5-point landmarks. Figures on how often each step is needed are in ``docs/faces.md``.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from magicmirror.errors import WeightsError
from magicmirror.faces.description import FoundFace, best_score, is_same_face, search_turned
from magicmirror.types import FaceBox, Float32Array, UInt8Array

WEIGHTS_PACKAGE = "face_recognition_models"
LANDMARK_FILE = "shape_predictor_5_face_landmarks.dat"
ANY_POSE_FILE = "mmod_human_face_detector.dat"

MIN_PICTURE_SIDE_PX = 8
"""In a picture that is narrower no detector finds a face, and enlarging it to search it takes seconds."""
MIN_DETECTION_SIDE_PX = 256
MAX_DETECTION_SIDE_PX = 1280
FALLBACK_SIDE_PX = 2560
TURNED_SIDE_PX = 640
ANY_POSE_SIDE_PX = 512
"""The convolutional detector takes about 1 s at this size on one core, and four times that at twice of it."""
ANY_POSE_MIN_SIDE_PX = 40
"""Its smallest face. On a copy that is far thinner (8 x 512 px) it writes beyond its buffers or raises."""

SMALL_FACE_PX = 160
"""A face smaller than this in the searched copy may have comparable neighbours below the detector's 80 px."""
SURE_SCORE = 0.2
"""Least HOG score of a face that is found only in an enlarged or turned copy, where false alarms are commoner. A photo
whose only face scores below it is left to the convolutional detector."""
DOUBTFUL_SCORE = 1.3
"""Below this HOG score turned copies are searched too: 43 % of heads that hang upside down look like a weak upright
face (at most 0.94 in 150 portraits), while 95 % of upright ones score above it."""
ANY_POSE_SCORE = 0.6
"""Least confidence of the convolutional detector; faces score about 1."""


class DlibFaceSearch:
    """dlib's detectors and landmark predictor; weights are read on first use. May be shared by threads.

    Args:
        upsample: How many times a copy is doubled and searched again; each costs four times the one before it.
    """

    def __init__(self, upsample: int = 2) -> None:
        self.upsample = upsample
        # dlib's objects keep scratch buffers, so two threads must never be inside one at a time. Of the fast detector
        # each thread is lent its own, as dlib lets other threads run while it works; the rest is shared.
        self._lock = threading.Lock()
        self._idle_detectors: list[Any] = []
        self._predictor: Any = None
        self._any_pose_detector: Any = None

    def find(self, image: UInt8Array, thorough: bool = True) -> list[FoundFace]:
        """Find the faces of a picture.

        Args:
            image: (H, W, 3) uint8 RGB, contiguous.
            thorough: Whether to go on with larger and turned copies, and the slow detector, where nothing sure was
                found.

        Returns:
            Faces in no particular order.

        Raises:
            WeightsError: When dlib's weights are not installed.
        """
        if min(image.shape[:2]) < MIN_PICTURE_SIDE_PX:
            return []
        # No search looks at more than this, so a photo of 50 megapixels is gone through once.
        reduced, ratio = _scaled(image, min(1.0, FALLBACK_SIDE_PX / max(image.shape[:2])))
        return [_to_larger(face, ratio) for face in self._find_in_reduced(reduced, thorough)]

    def _find_in_reduced(self, image: UInt8Array, thorough: bool) -> list[FoundFace]:
        """Do one search after the other until something sure is found."""
        found = self._find_upright(image, thorough)
        if not thorough or best_score(found) >= DOUBTFUL_SCORE:
            return found
        turned = self._find_turned(image)
        surest = turned if best_score(turned) > best_score(found) else found
        return surest if best_score(surest) >= SURE_SCORE else self._find_in_any_pose(image)

    def _find_upright(self, image: UInt8Array, thorough: bool) -> list[FoundFace]:
        """Search enlarged copies until a face is found that is large enough to have no comparable one missed."""
        found: list[FoundFace] = []
        height, width = image.shape[:2]
        upsample = self.upsample if thorough else min(self.upsample, 1)
        for step, scale in enumerate(detection_scales(height, width, upsample)):
            new = self._search(image, scale, minimum=SURE_SCORE if found or step > 1 else 0.0)
            found += [face for face in new if not any(is_same_face(face.box, old.box) for old in found)]
            if found and (not thorough or max(face.box.height for face in found) * scale >= SMALL_FACE_PX):
                break
        return found

    def _find_turned(self, image: UInt8Array) -> list[FoundFace]:
        """Search a reduced copy, turned."""
        small, ratio = _scaled(image, min(1.0, TURNED_SIDE_PX / max(image.shape[:2])))
        found = search_turned(small, lambda turned: self._search(turned, 1.0, minimum=SURE_SCORE))
        return [_to_larger(face, ratio) for face in found]

    def _find_in_any_pose(self, image: UInt8Array) -> list[FoundFace]:
        """Search once with the convolutional detector."""
        height, width = image.shape[:2]
        scaled, ratio = _scaled(image, ANY_POSE_SIDE_PX / max(height, width))
        if min(scaled.shape[:2]) < ANY_POSE_MIN_SIDE_PX:
            return []
        predictor = self._load_predictor()
        with self._lock:
            if self._any_pose_detector is None:
                import dlib

                self._any_pose_detector = dlib.cnn_face_detection_model_v1(str(weights_path(ANY_POSE_FILE)))
            hits = [hit for hit in self._any_pose_detector(scaled, 0) if hit.confidence >= ANY_POSE_SCORE]
            return [_found(hit.rect, predictor(scaled, hit.rect), hit.confidence, ratio) for hit in hits]

    def _search(self, image: UInt8Array, scale: float, minimum: float) -> list[FoundFace]:
        """Search one scaled copy with the HOG detector."""
        scaled, ratio = _scaled(image, scale)
        predictor = self._load_predictor()
        with self._lent_detector() as detector:
            boxes, scores, _ = detector.run(scaled, 0, minimum)
        with self._lock:
            return [_found(box, predictor(scaled, box), score, ratio) for box, score in zip(boxes, scores, strict=True)]

    @contextmanager
    def _lent_detector(self) -> Iterator[Any]:
        """A HOG detector that nobody else is in; made where all are lent."""
        import dlib

        with self._lock:
            detector = self._idle_detectors.pop() if self._idle_detectors else None
        detector = detector or dlib.get_frontal_face_detector()
        try:
            yield detector
        finally:
            with self._lock:
                self._idle_detectors.append(detector)

    def _load_predictor(self) -> Any:
        with self._lock:
            if self._predictor is None:
                import dlib

                self._predictor = dlib.shape_predictor(str(weights_path(LANDMARK_FILE)))
            return self._predictor


def detection_scales(height: int, width: int, upsample: int) -> tuple[float, ...]:
    """Return the scales at which a picture is searched, in order.

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


def weights_path(file_name: str) -> Path:
    """Locate one of dlib's weight files (CC0) in the installed package, without importing it.

    Its ``__init__`` needs the removed ``pkg_resources``.

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


def _scaled(image: UInt8Array, scale: float) -> tuple[UInt8Array, Float32Array]:
    """Return a scaled copy and the (2,) px of the photo that one of its px spans, x then y."""
    import cv2

    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    ratio = np.array([width / size[0], height / size[1]], dtype=np.float32)
    if size == (width, height):
        return image, ratio
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8), ratio


def _found(rectangle: Any, shape: Any, score: float, ratio: Float32Array) -> FoundFace:
    """Map dlib's rectangle (inclusive right and bottom) and landmarks to px of the picture before it was scaled."""
    points = np.array([[part.x, part.y] for part in shape.parts()], dtype=np.float32)
    box = FaceBox(rectangle.left(), rectangle.top(), rectangle.right() + 1, rectangle.bottom() + 1)
    return _to_larger(FoundFace(box, points, float(score)), ratio)


def _to_larger(face: FoundFace, ratio: Float32Array) -> FoundFace:
    """Map a face of a scaled picture to one of which ``ratio`` (x, y) px made one px."""
    x, y = (float(each) for each in ratio)
    box = FaceBox(face.box.left * x, face.box.top * y, face.box.right * x, face.box.bottom * y)
    # An index names the centre of its pixel.
    return FoundFace(box, np.asarray((face.landmarks + 0.5) * ratio - 0.5, dtype=np.float32), face.score)
