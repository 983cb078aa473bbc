"""Average ID similarity against a group of pictures of the person (sections 4.1 and A.4).

The paper compares generated faces with the *mean* similarity that a group of photos of the person has, so that pasting
the reference into every frame does not win. It gives no formula. Here, with cosines of the recogniser's embeddings:

* ``s``: mean over frames and over the group of the cosine; the *average ID similarity*, on the scale of the
  paper's Table 1;
* ``s_group``: mean cosine between two different pictures of the group: how alike photos of this person are;
* ``gap = s - s_group``: the distance of the generated faces to that mean. 0 is another photo of the person, below 0 is
  somebody else, above 0 is closer than photos of one person are to each other.

The reference itself must not be in the group. A copy of it then scores what any one photo scores: a gap near 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from magicmirror.errors import ConfigError
from magicmirror.types import Float32Array


@dataclass(frozen=True)
class GroupSimilarity:
    """Cosines of a video's faces with a group of pictures.

    Args:
        similarity: Average ID similarity ``s`` in [-1, 1].
        group: ``s_group`` in [-1, 1]; ``None`` for a group of one.
        gap: ``similarity - group``; ``None`` for a group of one.
    """

    similarity: float
    group: float | None
    gap: float | None


def group_similarity(faces: Float32Array, group: Float32Array) -> GroupSimilarity | None:
    """Compare the faces of a video with a group of pictures of the person.

    Args:
        faces: (F, E) embeddings of the frames; rows of NaN (frames without a face) are left out.
        group: (G, E) embeddings of at least one picture; not the reference.

    Returns:
        The similarities; ``None`` when no frame has a face.

    Raises:
        ConfigError: When the shapes do not fit or an embedding has no length.
    """
    if faces.ndim != 2 or group.ndim != 2 or faces.shape[1] != group.shape[1] or not len(group):
        raise ConfigError(f"Embeddings must be (F, E) and (G, E) with G > 0, got {faces.shape} and {group.shape}.")
    seen = faces[~np.isnan(faces).any(axis=1)]
    if not len(seen):
        return None
    units, members = _unit(seen), _unit(group)
    similarity = float((units @ members.T).mean())
    within = _mean_within(members)
    return GroupSimilarity(similarity, within, None if within is None else similarity - within)


def _mean_within(units: np.ndarray) -> float | None:
    """Mean cosine of all pairs of different rows."""
    count = len(units)
    if count < 2:
        return None
    return float(((units @ units.T).sum() - count) / (count * (count - 1)))


def _unit(embeddings: Float32Array) -> np.ndarray:
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    if not lengths.all():
        raise ConfigError("The cosine of a zero embedding is undefined.")
    return np.asarray(embeddings / lengths)
