"""Other pictures of a test person: the group for the average ID similarity, and altered references.

A folder of portraits has one picture a person. Real further pictures are used where there are any; else the group is
rendered from the portrait: other poses, light, colour and sharpness, by the same function as references for training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from magicmirror.data.animation import reference_view
from magicmirror.data.manifest import name_hash, picture_paths
from magicmirror.errors import FaceError, ImageError
from magicmirror.evaluation.portraits import Subject
from magicmirror.faces.analyzer import FaceAnalyzer, create_face_analyzer
from magicmirror.faces.selection import choose_face
from magicmirror.media import load_image
from magicmirror.types import FaceReference, Float32Array, UInt8Array

GROUP_SIZE = 6
MIN_GROUP = 2
ALTERATIONS = ("mirrored", "lit from the left", "darkened")


def group_embeddings(subject: Subject, analyzer: FaceAnalyzer, folder: Path | None = None) -> tuple[Float32Array, str]:
    """Embed a group of pictures of a person, without the reference.

    Args:
        subject: The person.
        analyzer: The one that analysed the reference.
        folder: Has a folder of further pictures for each person, named like the portrait; a person without one gets
            rendered pictures.

    Returns:
        (G, E) float32, and where they come from: ``photos`` or ``rendered``.
    """
    own = folder / subject.name if folder is not None else None
    if own is not None and own.is_dir():
        found = [_photo_embedding(own / path, analyzer) for path in picture_paths(own)]
        photos = [embedding for embedding in found if embedding is not None]
        if len(photos) >= MIN_GROUP:
            return np.stack(photos), "photos"
    return analyzer.embed_aligned(rendered_views(subject)), "rendered"


def rendered_views(subject: Subject, count: int = GROUP_SIZE) -> UInt8Array:
    """Render other pictures of a person; always the same ones for one portrait.

    Args:
        subject: The person.
        count: Number of pictures G.

    Returns:
        (G, S, S, 3) uint8 RGB head crops of the reference's size.
    """
    photo = load_image(subject.portrait.path)
    landmarks = animation_landmarks(subject.reference, photo)
    rng = np.random.default_rng([name_hash(subject.name) % 2**32, count])
    side = subject.reference.crop.shape[0]
    return np.stack([reference_view(photo, landmarks, rng, side) for _ in range(count)])


def animation_landmarks(reference: FaceReference, photo: UInt8Array) -> Float32Array:
    """Return the (5, 2) ``dlib5`` landmarks in px of the photo, which the animation needs whatever the recogniser is.

    Raises:
        NoFaceFound: When the reference has other landmarks and dlib finds no face.
    """
    if reference.landmark_scheme == "dlib5":
        return reference.landmarks
    return choose_face(create_face_analyzer("dlib").analyze(photo)).landmarks


def altered_references(subject: Subject) -> UInt8Array:
    """Return the reference in each of ``ALTERATIONS``.

    A video that merely copies pixels is near the reference; one that shows the person is also nearest to these.

    Returns:
        (3, S, S, 3) uint8 RGB head crops.
    """
    crop = subject.reference.crop
    side = crop.shape[1]
    light = np.linspace(1.3, 0.5, side, dtype=np.float32)[None, :, None]
    lit = np.clip(crop * light, 0, 255).astype(np.uint8)
    dark = np.clip(crop.astype(np.float32) * np.float32(0.55), 0, 255).astype(np.uint8)
    return np.stack([crop[:, ::-1], lit, dark])


def _photo_embedding(path: Path, analyzer: FaceAnalyzer) -> Float32Array | None:
    try:
        return choose_face(analyzer.analyze(load_image(path))).embedding
    except (FaceError, ImageError):
        return None
