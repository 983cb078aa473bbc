"""Real clips as a row of the report: what flicker, sharpness and motion of the face are in footage.

Every clip is brought to the shape of the profile's videos, framed like the training data: the head of the first frame
fixes a window, which then stays where it is, so motion of head and camera are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from magicmirror.data.motion import ClipSpec
from magicmirror.errors import ConfigError, FaceError
from magicmirror.evaluation.cases import Case
from magicmirror.evaluation.portraits import Portrait, Subject
from magicmirror.evaluation.sources import VideoSource
from magicmirror.faces.alignment import align_head
from magicmirror.faces.analyzer import FaceAnalyzer
from magicmirror.faces.selection import choose_face
from magicmirror.media import iterate_frames, read_properties
from magicmirror.types import GeneratedVideo, UInt8Array, VideoShape

CLIP_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})


def find_clips(folder: Path, limit: int, analyzer: FaceAnalyzer) -> tuple[Case, ...]:
    """Take clips whose first frame shows one clear face.

    Args:
        folder: Searched with its subfolders, in the order of the names.
        limit: Most clips to take.
        analyzer: Finds the face.

    Returns:
        A case a clip; it asks for nothing, and its reference is the first frame.

    Raises:
        ConfigError: When there is no such clip, or two have one name.
    """
    cases: list[Case] = []
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in CLIP_SUFFIXES)
    for path in paths:
        if len(cases) == limit:
            break
        try:
            face = choose_face(analyzer.analyze(next(iterate_frames(path))))
        except FaceError:
            continue
        cases.append(Case(Subject(Portrait(path, path.parent.name), face), "clip", ClipSpec(()), 0))
    if not cases:
        raise ConfigError(f'None of {len(paths)} clips in "{folder}" starts with one clear face.')
    if len({case.name for case in cases}) < len(cases):
        raise ConfigError(f'Two clips below "{folder}" have the same name.', "Rename one.")
    return tuple(cases)


def real_videos(shape: VideoShape) -> VideoSource:
    """Return the source that cuts clips to the shape of a profile, square with the shorter side."""
    side = min(shape.height_px, shape.width_px)

    def source(case: Case) -> GeneratedVideo:
        path = case.subject.portrait.path
        fps = float(read_properties(path).fps)
        reference = case.subject.reference
        frames = [
            align_head(frame, reference.landmarks, reference.landmark_scheme, side)
            for frame in _evenly(path, fps / shape.fps, shape.num_frames)
        ]
        return GeneratedVideo(np.stack(frames), min(float(shape.fps), fps), {"source": path.name})

    return source


def _evenly(path: Path, step: float, count: int) -> Iterator[UInt8Array]:
    """Yield at most ``count`` frames, ``step`` frames apart (every frame of a clip that is slower than that)."""
    wanted = 0.0
    taken = 0
    for index, frame in enumerate(iterate_frames(path)):
        if taken == count:
            return
        if index >= round(wanted):
            yield frame
            taken += 1
            wanted += max(step, 1.0)
