"""The lines of manifests: a portrait, the identity pairs of one target picture, a real clip.

Every record names its source and the licence that allows its use, and checks itself. Paths are relative to the root of
the collection, so that a manifest holds on every machine.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np

from magicmirror.data.caption_phrases import PERSON_WORDS
from magicmirror.errors import ConfigError, PromptError
from magicmirror.pipeline.person_word import TRIGGER, find_person_word, remove_trigger
from magicmirror.types import Float32Array

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
HELD_OUT_ONE_IN = 10
PaperSet = Literal["A", "B", "C"]
PAPER_SETS: tuple[PaperSet, ...] = ("A", "B", "C")
_SEXES = {"male": "man", "female": "woman"}

Points = tuple[tuple[float, float], ...]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Origin:
    """Where pictures or videos come from and what allows their use."""

    source: str
    licence: str


@dataclass(frozen=True)
class PortraitRecord:
    """One portrait of a manifest.

    Args:
        path: Of the picture, relative to the root, with forward slashes.
        source: Who or what made it.
        licence: What allows its use.
        person_id: Equal for pictures of one person.
        group: Key of ``caption_phrases.PERSON_WORDS``: how captions name the person.
        stratum: Part of the collection that is sampled evenly, e.g. ``female_asian``.
        landmarks: Five (x, y) in px of the picture, ``dlib5`` order.
        box: Left, top, right, bottom of the face in px.
        split: ``train`` or ``validation``.

    Raises:
        ConfigError: When a value cannot be right.
    """

    path: str
    source: str
    licence: str
    person_id: str
    group: str
    stratum: str
    landmarks: Points
    box: Box
    split: Split

    def __post_init__(self) -> None:
        """Check what JSON cannot."""
        _check_origin(self)
        _check_landmarks(self.landmarks)
        _check_box(self.box)

    @property
    def landmark_array(self) -> Float32Array:
        """(5, 2) float32."""
        return np.array(self.landmarks, dtype=np.float32)


@dataclass(frozen=True)
class ReferencePicture:
    """Another picture of the person of a target.

    Args:
        path: Of the picture, relative to the root.
        landmarks: Five (x, y) in px of the picture, ``dlib5`` order.
        distance: Of its face to that of the target, as the recogniser measures (``faces.similarity``); 0 is equal.

    Raises:
        ConfigError: When a value cannot be right.
    """

    path: str
    landmarks: Points
    distance: float

    def __post_init__(self) -> None:
        """Check what JSON cannot."""
        _check_path(self.path)
        _check_landmarks(self.landmarks)
        if not _is_number(self.distance) or self.distance < 0:
            raise ConfigError(f"distance must be a number from 0, got {self.distance!r}.")

    @property
    def landmark_array(self) -> Float32Array:
        """(5, 2) float32."""
        return np.array(self.landmarks, dtype=np.float32)


@dataclass(frozen=True)
class IdentityPairRecord:
    """All identity pairs of one target picture (paper, A.1, sets A to C).

    Args:
        path: Of the target, relative to the root.
        source: Who or what made it.
        licence: What allows its use.
        person_id: Equal for pictures of one person.
        group: Key of ``caption_phrases.PERSON_WORDS``.
        stratum: Part of the collection that is sampled evenly.
        landmarks: Of the face of the target, five (x, y) in px, ``dlib5`` order.
        box: Of that face: left, top, right, bottom in px.
        split: By the person, so that no pair straddles it.
        paper_set: ``A`` self-reference with a caption, ``B`` self-reference between black borders with the fixed
            caption, ``C`` other pictures of the person.
        caption: What the target shows; the trigger ``img`` follows the person word.
        references: Of set C one or more; else none, since the target is its own reference.

    Raises:
        ConfigError: When a value cannot be right.
    """

    path: str
    source: str
    licence: str
    person_id: str
    group: str
    stratum: str
    landmarks: Points
    box: Box
    split: Split
    paper_set: PaperSet
    caption: str
    references: tuple[ReferencePicture, ...]

    def __post_init__(self) -> None:
        """Check what JSON cannot."""
        _check_origin(self)
        _check_landmarks(self.landmarks)
        _check_box(self.box)
        _check_caption(self.caption)
        if self.paper_set not in PAPER_SETS:
            raise ConfigError(f"paper_set must be one of {', '.join(PAPER_SETS)}, got {self.paper_set!r}.")
        if (self.paper_set == "C") != bool(self.references):
            raise ConfigError(
                f"paper_set {self.paper_set} with {len(self.references)} references.",
                "Set C has references, A and B have none.",
            )
        if any(reference.path == self.path for reference in self.references):
            raise ConfigError(f"{self.path!r} is a reference of itself.", "A pair is two different pictures.")

    @property
    def landmark_array(self) -> Float32Array:
        """(5, 2) float32."""
        return np.array(self.landmarks, dtype=np.float32)


@dataclass(frozen=True)
class FrameFace:
    """The face of one frame of a clip.

    Args:
        frame: Number of the frame in the video, from 0.
        landmarks: Five (x, y) in px of the frame, ``dlib5`` order.

    Raises:
        ConfigError: When a value cannot be right.
    """

    frame: int
    landmarks: Points

    def __post_init__(self) -> None:
        """Check what JSON cannot."""
        if not _is_count(self.frame):
            raise ConfigError(f"frame must be a whole number from 0, got {self.frame!r}.")
        _check_landmarks(self.landmarks)

    @property
    def landmark_array(self) -> Float32Array:
        """(5, 2) float32."""
        return np.array(self.landmarks, dtype=np.float32)


@dataclass(frozen=True)
class RealClipRecord:
    """A part of a video that shows one person without a cut (paper, A.1, set D).

    Args:
        path: Of the video, relative to the root.
        source: Who made it.
        licence: What allows its use.
        person_id: Video and first frame; whether two clips show one person is not known.
        group: Key of ``caption_phrases.PERSON_WORDS``.
        stratum: Part of the collection that is sampled evenly.
        split: By the video.
        start_frame: First frame.
        end_frame: One past the last.
        fps: Frames per second of the video.
        box: Window around the head for the whole clip: left, top, right, bottom in px; square, may leave the picture.
        caption: What the clip shows; the trigger ``img`` follows the person word.
        motion: Motion score, see ``motion_score``.
        fingerprints: Perceptual hashes of the window at the start, in the middle and at the end, hexadecimal.
        faces: Faces at two or more frames of the clip, in order: the reference pictures.

    Raises:
        ConfigError: When a value cannot be right.
    """

    path: str
    source: str
    licence: str
    person_id: str
    group: str
    stratum: str
    split: Split
    start_frame: int
    end_frame: int
    fps: float
    box: Box
    caption: str
    motion: float
    fingerprints: tuple[str, ...]
    faces: tuple[FrameFace, ...]

    def __post_init__(self) -> None:
        """Check what JSON cannot."""
        _check_origin(self)
        _check_box(self.box)
        _check_caption(self.caption)
        if not _is_count(self.start_frame) or not _is_count(self.end_frame) or self.end_frame <= self.start_frame:
            raise ConfigError(f"start_frame {self.start_frame!r} must be below end_frame {self.end_frame!r}.")
        if not _is_number(self.fps) or self.fps <= 0 or not _is_number(self.motion) or self.motion < 0:
            raise ConfigError(f"fps {self.fps!r} must be positive and motion {self.motion!r} not negative.")
        if not all(isinstance(print_, str) and _is_hexadecimal(print_) for print_ in self.fingerprints):
            raise ConfigError(f"fingerprints must be hexadecimal numbers, got {self.fingerprints!r}.")
        frames = [face.frame for face in self.faces]
        if len(frames) < 2 or frames != sorted(set(frames)):
            raise ConfigError(f"faces must be of two or more frames in order, got frames {frames}.")
        if frames[0] < self.start_frame or frames[-1] >= self.end_frame:
            raise ConfigError(f"faces must lie in frames [{self.start_frame}, {self.end_frame}), got frames {frames}.")


Record = PortraitRecord | IdentityPairRecord | RealClipRecord


def split_of(file_name: str) -> Split:
    """Return the split of a picture, from its file name (without folders): one in ten is held out of training."""
    return "validation" if name_hash(file_name) % HELD_OUT_ONE_IN == 0 else "train"


def name_hash(file_name: str) -> int:
    """Return a number that depends on a file name alone; split and order of the test people follow from it."""
    return int(hashlib.sha1(file_name.encode(), usedforsecurity=False).hexdigest(), 16)


def group_and_stratum(stem: str, otherwise: str) -> tuple[str, str]:
    """Read group and stratum from a name such as ``female_asian_27f1`` (woman, ``female_asian``).

    Args:
        stem: Name of a picture, a folder or a video, without suffix.
        otherwise: Stratum of a name that does not begin with ``male_`` or ``female_``; the group is ``person`` then.
    """
    words = stem.split("_")
    group = _SEXES.get(words[0], "person")
    return (group, "_".join(words[:-1]) or words[0]) if group != "person" else (group, otherwise)


def rounded_points(landmarks: Float32Array) -> Points:
    """Return (5, 2) landmarks as a record holds them, to a thousandth of a px."""
    return tuple((round(float(x), 3), round(float(y), 3)) for x, y in landmarks)


def _check_origin(record: Any) -> None:
    for name in ("path", "source", "licence", "person_id", "stratum"):
        if not isinstance(getattr(record, name), str) or not getattr(record, name):
            raise ConfigError(f"{name} must be a text that is not empty, got {getattr(record, name)!r}.")
    _check_path(record.path)
    if record.group not in PERSON_WORDS:
        raise ConfigError(f"group must be one of {', '.join(PERSON_WORDS)}, got {record.group!r}.")
    if record.split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}, got {record.split!r}.")


def _check_path(path: Any) -> None:
    if not isinstance(path, str) or not path or Path(path).is_absolute() or ".." in Path(path).parts:
        raise ConfigError(f"path must lie below the root, got {path!r}.")


def _check_landmarks(landmarks: Any) -> None:
    if not isinstance(landmarks, tuple):
        raise ConfigError(f"landmarks and box must be lists of numbers, got {landmarks!r}.")
    if len(landmarks) != 5 or not all(_are_numbers(point, 2) for point in landmarks):
        raise ConfigError(f"landmarks must be five pairs of numbers, got {landmarks!r}.")


def _check_box(box: Any) -> None:
    if not _are_numbers(box, 4) or box[2] <= box[0] or box[3] <= box[1]:
        raise ConfigError(f"box must be left < right and top < bottom, got {box!r}.")


def _check_caption(caption: Any) -> None:
    if not isinstance(caption, str) or remove_trigger(caption) == caption:
        raise ConfigError(f'caption must have "{TRIGGER}" after the person word, got {caption!r}.')
    try:
        find_person_word(caption)
    except PromptError as error:
        raise ConfigError(f"caption: {error.message}", error.remedy) from error


def _are_numbers(values: Any, count: int) -> bool:
    return isinstance(values, tuple) and len(values) == count and all(_is_number(value) for value in values)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_hexadecimal(text: str) -> bool:
    try:
        return int(text, 16) >= 0
    except ValueError:
        return False
