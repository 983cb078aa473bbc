"""Which shots of a video become real clips (paper, A.1, set D): one face, seen, large enough, moving, one person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from magicmirror.data.embedding import AlignedEmbedder
from magicmirror.data.framing import cut_window, head_window
from magicmirror.data.motion_score import motion_score
from magicmirror.data.near_duplicates import perceptual_hash
from magicmirror.data.records import Box
from magicmirror.errors import ConfigError
from magicmirror.faces.alignment import eye_distance_px
from magicmirror.faces.description import FoundFace
from magicmirror.faces.quality import MIN_EYE_DISTANCE_PX
from magicmirror.faces.similarity import person_distance
from magicmirror.faces.tracking import FacePath, follow_faces
from magicmirror.types import UInt8Array

NEIGHBOUR_SHARE = 0.3
NEIGHBOUR_AREA = 0.25
"""A second face counts when it is there for this share of the time, with this share of the first one's area."""
MAX_WINDOW = 1.6
"""Largest window, in head windows of the median size: beyond, the face would be small in it."""
FINGERPRINT_PX = 64


@dataclass(frozen=True)
class ClipRules:
    """What makes a real clip.

    Args:
        min_s: Shortest clip; 17 frames at 8 per second take 2 s.
        max_s: Longest; a longer shot gives several clips.
        min_fps: Least frame rate of a video; below that of training, frames would have to be repeated.
        looks_per_s: How often a second faces are looked for.
        min_hit_share: Least share of the looks in which the face is found.
        min_eye_distance_px: Least median distance of the eye centres.
        min_motion: Least motion score, in sides of the head's window per second (``motion_score``).
        max_motion: Largest motion score: above, the picture shakes or the tracker jumped.
        max_distance: Largest distance of two faces of the clip (``faces.similarity.person_distance``).
        max_faces: Most faces that are noted as reference pictures.

    Raises:
        ConfigError: When a number cannot work.
    """

    min_s: float = 2.0
    max_s: float = 10.0
    min_fps: float = 8.0
    looks_per_s: float = 8.0
    min_hit_share: float = 0.9
    min_eye_distance_px: float = MIN_EYE_DISTANCE_PX
    min_motion: float = 0.03
    max_motion: float = 1.5
    max_distance: float = 0.5
    max_faces: int = 12

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        if not 0 < self.min_s <= self.max_s or self.looks_per_s <= 0 or self.max_faces < 2:
            raise ConfigError(f"These rules leave no clip: {self}.")


@dataclass(frozen=True, eq=False)
class Look:
    """A frame in which faces were looked for.

    Args:
        frame: Its number in the video.
        faces: What was found, in px of the frame.
        crops: (128, 128, 3) uint8 RGB each, the aligned heads of ``faces``.
        small: (h, w, 3) uint8 RGB, the frame reduced.
        scale: Px of ``small`` per px of the frame.
    """

    frame: int
    faces: tuple[FoundFace, ...]
    crops: tuple[UInt8Array, ...]
    small: UInt8Array
    scale: float


@dataclass(frozen=True, eq=False)
class Selection:
    """The part of a shot that becomes a clip; see ``records.RealClipRecord``."""

    start_frame: int
    end_frame: int
    box: Box
    motion: float
    fingerprints: tuple[str, ...]
    faces: tuple[tuple[int, FoundFace], ...]


def select_clip(
    looks: Sequence[Look], end_frame: int, fps: float, embedder: AlignedEmbedder, rules: ClipRules
) -> Selection | str:
    """Choose the clip of a shot.

    Args:
        looks: The looks of the shot, in order.
        end_frame: One past the last frame of the shot.
        fps: Frames per second of the video.
        embedder: Embeds aligned heads.
        rules: What makes a clip.

    Returns:
        The clip, or the reason why there is none.
    """
    if not looks or end_frame - looks[0].frame < rules.min_s * fps:
        return "too short"
    paths = follow_faces([look.faces for look in looks])
    if not paths:
        return "no face"
    main = paths[0]
    if any(_is_neighbour(other, main) for other in paths[1:]):
        return "several faces"
    end = looks[main.last + 1].frame if main.last + 1 < len(looks) else end_frame
    if end - looks[main.first].frame < rules.min_s * fps or main.hit_share < rules.min_hit_share:
        return "face lost"
    if median(eye_distance_px(face.landmarks, "dlib5") for face in main.faces.values()) < rules.min_eye_distance_px:
        return "face too small"
    box = _window(main)
    if box is None:
        return "face wanders"
    return _measured(looks, main, end, box, fps, embedder, rules)


def _measured(
    looks: Sequence[Look],
    main: FacePath,
    end: int,
    box: Box,
    fps: float,
    embedder: AlignedEmbedder,
    rules: ClipRules,
) -> Selection | str:
    """Apply the rules that look at pixels."""
    shown = looks[main.first : main.last + 1]
    scaled: Box = tuple(side * shown[0].scale for side in box)  # type: ignore[assignment]
    looks_per_s = fps * (len(shown) - 1) / max(shown[-1].frame - shown[0].frame, 1)
    motion = motion_score([look.small for look in shown], scaled, looks_per_s)
    if not rules.min_motion <= motion <= rules.max_motion:
        return "no motion" if motion < rules.min_motion else "too much motion"
    numbers = list(main.faces)
    chosen = [numbers[i] for i in np.unique(np.linspace(0, len(numbers) - 1, rules.max_faces).round().astype(int))]
    crops = np.stack([looks[n].crops[looks[n].faces.index(main.faces[n])] for n in chosen])
    embeddings = embedder.embed_aligned(crops)
    middle = embeddings[len(chosen) // 2]
    if max(person_distance(each, middle) for each in embeddings) > rules.max_distance:
        return "not the same person"
    ends = (shown[0], shown[len(shown) // 2], shown[-1])
    prints = (perceptual_hash(cut_window(look.small, scaled, FINGERPRINT_PX, FINGERPRINT_PX)) for look in ends)
    return Selection(
        start_frame=shown[0].frame,
        end_frame=end,
        box=box,
        motion=round(motion, 4),
        fingerprints=tuple(f"{each:064x}" for each in prints),
        faces=tuple((looks[n].frame, main.faces[n]) for n in chosen),
    )


def _is_neighbour(other: FacePath, main: FacePath) -> bool:
    """Whether another face is there at the same time, and large enough to be meant as well."""
    together = len(other.faces.keys() & main.faces.keys())
    return together >= NEIGHBOUR_SHARE * len(main.faces) and other.median_area >= NEIGHBOUR_AREA * main.median_area


def _window(path: FacePath) -> Box | None:
    """Return one square for the whole clip, of a head's size or as large as its way; ``None`` if that is too large."""
    windows = np.array([head_window(face.landmarks) for face in path.faces.values()])
    boxes = np.array([(f.box.left, f.box.top, f.box.right, f.box.bottom) for f in path.faces.values()])
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    head = float(np.median(windows[:, 2] - windows[:, 0]))
    side = max(head, float((high - low).max()))
    if side > MAX_WINDOW * head:
        return None
    x, y = (windows[:, :2].min(axis=0) + windows[:, 2:].max(axis=0)) / 2
    left, top = round(float(x) - side / 2, 2), round(float(y) - side / 2, 2)
    return left, top, round(left + side, 2), round(top + side, 2)
