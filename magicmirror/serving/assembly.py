"""From an order to a result: its parts are made one after the other, then ranked or joined to a film."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from magicmirror.errors import ConfigError, VideoError
from magicmirror.faces.similarity import mean_likeness
from magicmirror.media import complete_files, read_settings, read_video, sidecar_path
from magicmirror.serving.jobs import JobResult, Take
from magicmirror.serving.likeness import LikenessLevel
from magicmirror.serving.motion import measure_motion
from magicmirror.serving.orders import Order
from magicmirror.serving.output import write_output
from magicmirror.serving.ranking import rank_takes
from magicmirror.types import GeneratedVideo, GenerationRequest

PathOf = Callable[[int], Path]
"""Where part k goes, from 1; 0 is the job's own file."""
MakePart = Callable[[int, GenerationRequest, Path], Take]
_LEVELS: tuple[LikenessLevel, ...] = ("close", "same", "some", "none", "unseen")
_OF_ONE_SHOT = ("prompt", "negative_prompt", "seed", "num_inference_steps", "guidance_scale", "identity_scale")


def make_order(order: Order, make_part: MakePart, path_of: PathOf) -> JobResult:
    """Make all parts of an order and put them together.

    Args:
        order: What to make.
        make_part: Makes part k, from 1.
        path_of: Where files go.

    Raises:
        MagicMirrorError: As the parts; nothing is put together then.
    """
    alone = len(order.parts) == 1
    takes = []
    for number, part in enumerate(order.parts, start=1):
        path = path_of(0 if alone else number)
        takes.append(keep_shot(part, path) if isinstance(part, Take) else make_part(number, part, path))
    ranking = rank_takes(takes)
    own = join_shots(takes, path_of(0)) if order.kind == "film" else takes[ranking[0]]
    return JobResult(**vars(own), kind=order.kind, takes=tuple(takes), ranking=ranking)


def keep_shot(shot: Take, path: Path) -> Take:
    """Copy a shot of an earlier film.

    Raises:
        ConfigError: When its file is gone.
    """
    if not (shot.video_path.is_file() and shot.settings_path.is_file()):
        raise ConfigError("A shot of the earlier film was removed.", "Make the whole film again.")
    with complete_files((path, sidecar_path(path)), VideoError) as partials:
        for source, partial in zip((shot.video_path, shot.settings_path), partials, strict=True):
            shutil.copyfile(source, partial)
    return Take(path, sidecar_path(path), shot.settings, shot.likeness, shot.level, shot.motion)


def join_shots(shots: list[Take], path: Path) -> Take:
    """Write one film of finished shots.

    All shots are read back from their files, the new ones too, so that a shot looks the same in a film that was made
    at once and in one where another shot was taken again.

    Raises:
        ConfigError: When the shots differ in size or rate.
        VideoError: When a file cannot be read or the film not be written.
    """
    clips = [read_video(shot.video_path) for shot in shots]
    if len({(frames.shape[1:], fps) for frames, fps in clips}) != 1:
        raise ConfigError("The shots differ in size or frame rate, so they make no film.", "Make them all again.")
    frames, fps = np.concatenate([frames for frames, _ in clips]), clips[0][1]
    likeness = tuple(value for shot in shots for value in shot.likeness)
    video = GeneratedVideo(frames, fps, film_settings(shots), likeness)
    write_output(video, path)
    motions = [shot.motion for shot in shots if shot.motion is not None]
    return Take(
        path,
        sidecar_path(path),
        read_settings(sidecar_path(path)),
        likeness,
        _film_level(shots),
        sum(motions) / len(motions) if motions else measure_motion(frames, fps),
    )


def film_settings(shots: list[Take]) -> dict[str, Any]:
    """Return the first shot's settings with ``film``, a list of what belongs to each shot alone."""
    first = {name: value for name, value in shots[0].settings.items() if name not in ("timings_s", "video", "likeness")}
    each = [{name: shot.settings.get(name) for name in _OF_ONE_SHOT} for shot in shots]
    return {**first, "num_frames": sum(len(shot.likeness) for shot in shots), "film": each}


def _film_level(shots: list[Take]) -> LikenessLevel:
    """Return the level of the shot that is least alike: a film is of one person only where all of it is."""
    measured = [shot for shot in shots if mean_likeness(shot.likeness) is not None]
    return max((shot.level for shot in measured), key=_LEVELS.index, default="unseen")
