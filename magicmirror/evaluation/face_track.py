"""The face of every frame of a video: where it is and what the recogniser makes of it, found once for all metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from magicmirror.faces.alignment import eye_centres, eye_distance_px
from magicmirror.faces.analyzer import FaceAnalyzer
from magicmirror.types import Float32Array, LandmarkScheme, UInt8Array

NOSE_INDEX: dict[LandmarkScheme, int] = {"dlib5": 4, "arcface5": 2}


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """The largest face of each frame; all of a row is NaN where no face was found.

    Args:
        landmarks: (F, 5, 2) float32, x and y in px of the frame.
        embeddings: (F, E) float32, raw.
        scheme: Order of the landmarks.
    """

    landmarks: Float32Array
    embeddings: Float32Array
    scheme: LandmarkScheme

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """(F,) whether a frame has a face."""
        return np.asarray(~np.isnan(self.landmarks).any(axis=(1, 2)))

    @property
    def face_share(self) -> float:
        """Share of the frames with a face."""
        return float(self.found.mean())

    @property
    def mean_embedding(self) -> Float32Array | None:
        """(E,) mean of the raw embeddings, ``None`` when no frame has a face."""
        found = self.found
        return np.asarray(self.embeddings[found].mean(axis=0), dtype=np.float32) if found.any() else None

    def landmarks_between(self) -> Float32Array:
        """(F, 5, 2) landmarks; those of frames without a face are interpolated from their neighbours in time.

        All NaN when no frame has a face.
        """
        found = np.flatnonzero(self.found)
        if not len(found):
            return self.landmarks
        frames = np.arange(len(self.landmarks))
        flat = self.landmarks.reshape(len(frames), -1)
        filled = np.stack([np.interp(frames, found, column[found]) for column in flat.T], axis=1)
        return np.asarray(filled.reshape(self.landmarks.shape), dtype=np.float32)

    def eyes_and_nose(self) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Centre of the eye on the picture's left, of that on its right, and the nose, each (F, 2) in px, interpolated.

        The nose is its base (``dlib5``) or its tip (``arcface5``).
        """
        points = self.landmarks_between()
        eyes = [eye_centres(frame, self.scheme) for frame in points]
        left, right = (np.array(side, dtype=np.float32) for side in zip(*eyes, strict=True))
        return left, right, points[:, NOSE_INDEX[self.scheme]]


def track_faces(frames: Iterable[UInt8Array], analyzer: FaceAnalyzer) -> FaceTrack:
    """Find and embed the largest face of each frame.

    Args:
        frames: (H, W, 3) uint8 RGB each; a (F, H, W, 3) array is one such series.
        analyzer: Finds and embeds.

    Returns:
        The face of each frame. A face whose eyes coincide counts as none, since nothing can be aligned to it.
    """
    landmarks, embeddings = [], []
    for frame in frames:
        faces = analyzer.analyze(frame, thorough=False)
        seen = bool(faces) and eye_distance_px(faces[0].landmarks, analyzer.landmark_scheme) >= 1.0
        landmarks.append(faces[0].landmarks if seen else np.full((5, 2), np.nan))
        embeddings.append(faces[0].embedding if seen else np.full(analyzer.embedding_size, np.nan))
    return FaceTrack(
        np.asarray(landmarks, dtype=np.float32), np.asarray(embeddings, dtype=np.float32), analyzer.landmark_scheme
    )
