"""Likeness of faces: cosine for people to read, dlib's distance for same-person decisions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from magicmirror.errors import ConfigError
from magicmirror.faces.analyzer import FaceAnalyzer
from magicmirror.types import FaceReference, Float32Array, UInt8Array

SAME_PERSON_DISTANCE = 0.6
"""dlib's published threshold: two photos with a smaller Euclidean distance show the same person."""


def cosine_similarity(first: Float32Array, second: Float32Array) -> float:
    """Return the cosine of two (E,) embeddings, in [-1, 1].

    dlib's embeddings share a large common part, so unrelated people score about 0.85 rather than 0.

    Raises:
        ConfigError: When the shapes differ or an embedding has no length.
    """
    a, b = _pair(first, second)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0.0:
        raise ConfigError("The cosine of a zero embedding is undefined.")
    return float(np.clip(float(a @ b) / norms, -1.0, 1.0))


def euclidean_distance(first: Float32Array, second: Float32Array) -> float:
    """Return the Euclidean distance of two (E,) raw embeddings; for dlib below 0.6 means the same person.

    Raises:
        ConfigError: When the shapes differ.
    """
    a, b = _pair(first, second)
    return float(np.linalg.norm(a - b))


def likeness_curve(
    frames: Sequence[UInt8Array] | UInt8Array, reference: FaceReference, analyzer: FaceAnalyzer
) -> tuple[float | None, ...]:
    """Compare the largest face of each frame with the reference.

    Args:
        frames: (F, H, W, 3) uint8 RGB.
        reference: The face to compare with, analysed by the same kind of analyzer.
        analyzer: Finds and embeds the face of each frame.

    Returns:
        One cosine in [-1, 1] per frame, ``None`` where no face was found.

    Raises:
        ConfigError: When the reference was embedded by another recogniser.
    """
    if reference.embedding.shape != (analyzer.embedding_size,):
        raise ConfigError(
            f"The reference has an embedding of {reference.embedding.shape[0]} numbers, "
            f"the analyzer makes {analyzer.embedding_size}.",
            "Analyse the reference with the same analyzer.",
        )
    curve: list[float | None] = []
    for frame in frames:
        faces = analyzer.analyze(frame)
        curve.append(cosine_similarity(faces[0].embedding, reference.embedding) if faces else None)
    return tuple(curve)


def _pair(first: Float32Array, second: Float32Array) -> tuple[np.ndarray, np.ndarray]:
    """Return both embeddings as float64 after a check of their shapes."""
    if first.ndim != 1 or first.shape != second.shape:
        raise ConfigError(f"Embeddings must be (E,) of one length, got {first.shape} and {second.shape}.")
    return first.astype(np.float64), second.astype(np.float64)
