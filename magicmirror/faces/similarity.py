"""Likeness of faces: cosine for people to read, a recogniser's own distance for same-person decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from magicmirror.errors import ConfigError
from magicmirror.faces.analyzer import FaceAnalyzer
from magicmirror.types import FaceReference, Float32Array, UInt8Array

SAME_PERSON_DISTANCE = 0.6
"""dlib's published threshold: two photos with a smaller Euclidean distance show the same person."""

ARCFACE_SIZE = 512
ARCFACE_SAME_PERSON_COSINE = 0.4
"""insightface's own default threshold: embeddings of one person have a larger cosine, those of strangers are near 0."""


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


def person_distance(first: Float32Array, second: Float32Array) -> float:
    """Return the distance by which a recogniser decides whether two (E,) raw embeddings are one person's.

    dlib (E = 128): Euclidean distance. ArcFace (E = 512): 1 - cosine.

    Raises:
        ConfigError: When the shapes differ.
    """
    if first.shape == (ARCFACE_SIZE,):
        return 1.0 - cosine_similarity(first, second)
    return euclidean_distance(first, second)


def same_person_limit(embedding_size: int) -> float:
    """Return the largest ``person_distance`` that counts as one person, by the length of the embedding."""
    return 1.0 - ARCFACE_SAME_PERSON_COSINE if embedding_size == ARCFACE_SIZE else SAME_PERSON_DISTANCE


def average_face(references: Sequence[FaceReference]) -> FaceReference:
    """Return the first reference with the mean of all unit embeddings, at the mean of their lengths."""
    if len(references) == 1:
        return references[0]
    mean = np.mean([reference.normalized_embedding for reference in references], axis=0)
    length = fmean(float(np.linalg.norm(reference.embedding)) for reference in references)
    unit = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return replace(references[0], embedding=(unit * length).astype(np.float32))


def likeness_curve(
    frames: Iterable[UInt8Array], reference: FaceReference, analyzer: FaceAnalyzer
) -> tuple[float | None, ...]:
    """Compare the largest face of each frame with the reference.

    Args:
        frames: As ``FaceAnalyzer.embed_frames`` takes them.
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
    embeddings = analyzer.embed_frames(frames)
    return tuple(None if each is None else cosine_similarity(each, reference.embedding) for each in embeddings)


def mean_likeness(curve: Sequence[float | None]) -> float | None:
    """Return the mean over the frames in which a face was found, ``None`` when there is none."""
    found = [value for value in curve if value is not None]
    return fmean(found) if found else None


def likeness_decay(curve: Sequence[float | None]) -> float | None:
    """Return how much the likeness falls over a video (the similarity decay of section 4.1).

    The paper samples frames uniformly and does not say how their fall is summed up. Here: the fall of the least-squares
    line through all frames with a face, from the first frame to the last; one poor frame cannot decide it.

    Args:
        curve: Of ``likeness_curve``.

    Returns:
        Likeness at the start minus likeness at the end, so above 0 where it fades; ``None`` with fewer than two faces.
    """
    seen = [(index, value) for index, value in enumerate(curve) if value is not None]
    if len(seen) < 2:
        return None
    index, value = np.array(seen, dtype=np.float64).T
    slope = float(np.polyfit(index, value, 1)[0])
    return -slope * (len(curve) - 1)


def _pair(first: Float32Array, second: Float32Array) -> tuple[np.ndarray, np.ndarray]:
    """Return both embeddings as float64 after a check of their shapes."""
    if first.ndim != 1 or first.shape != second.shape:
        raise ConfigError(f"Embeddings must be (E,) of one length, got {first.shape} and {second.shape}.")
    return first.astype(np.float64), second.astype(np.float64)
