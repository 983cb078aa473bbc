"""What every way of writing a video shares: names and frames are checked, the settings become JSON."""

from __future__ import annotations

import json
import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from magicmirror.errors import ConfigError, VideoError
from magicmirror.media.files import check_target
from magicmirror.types import GeneratedVideo, UInt8Array

SETTINGS_FILE = "settings.json"
MIN_FPS, MAX_FPS = 0.1, 240.0
_MAX_SIDECAR_BYTES = 10_000_000
_MAX_DENOMINATOR = 100_000  # far finer than any common rate, and still a valid time scale


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """Return the JSON file that belongs to a video.

    ``out.mp4`` -> ``out.json``; ``out.gif`` -> ``out.gif.json``, as both may stand side by side; of a folder of frames,
    a name without suffix, the ``settings.json`` in it.
    """
    path = Path(path)
    if not path.suffix:
        return path / SETTINGS_FILE
    return path.with_suffix(".json") if path.suffix.lower() == ".mp4" else path.with_name(path.name + ".json")


def check_output_path(path: str | os.PathLike[str], suffixes: tuple[str, ...] = (".mp4",)) -> Path:
    """Check that a video can be written under a name, before any time is spent on making it.

    Args:
        path: Name of the video.
        suffixes: Accepted ends of the name.

    Returns:
        The path.

    Raises:
        VideoError: When the name ends otherwise or is too long, is that of a folder, its folder is missing or cannot
            be written to, or something else than a video's settings has the name of its sidecar.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        ends = " or ".join(suffixes)
        raise VideoError(f'Videos are written as {ends}, got "{path.name}".', f"End the name in {ends}.")
    for file in (path, sidecar_path(path)):
        check_target(file, VideoError)
    _check_sidecar(sidecar_path(path))
    return path


def checked_frames(video: GeneratedVideo) -> UInt8Array:
    """Return the frames, contiguous in memory.

    Raises:
        VideoError: When there are none, or they are not (F, H, W, 3) uint8.
    """
    frames = video.frames
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or frames.size == 0:
        raise VideoError(f"Frames must be (F, H, W, 3) uint8, got {frames.shape} {frames.dtype}.")
    return np.ascontiguousarray(frames)


def exact_rate(fps: float) -> Fraction:
    """Return a frame rate as the fraction that is stored: 23.976 -> 2997/125, 24000 / 1001 -> 24000/1001.

    Raises:
        VideoError: When it is outside the range that players know.
    """
    if not math.isfinite(fps) or not MIN_FPS <= fps <= MAX_FPS:
        raise VideoError(f"A video has {MIN_FPS} to {MAX_FPS:g} frames per second, got {fps}.", "Choose another rate.")
    return Fraction(fps).limit_denominator(_MAX_DENOMINATOR)


def settings_record(video: GeneratedVideo) -> dict[str, Any]:
    """Return what travels with a video: its settings and likeness."""
    return {**video.settings, "likeness": list(video.likeness)}


def sidecar_text(video: GeneratedVideo, frames: UInt8Array, **more: Any) -> str:
    """Return the sidecar: settings, likeness, timings, and size and rate of the frames as they are stored.

    Args:
        video: What was made.
        frames: (F, H, W, 3), as stored.
        more: Further facts on the stored frames.

    Raises:
        ConfigError: When the settings are no JSON.
    """
    num_frames, height, width = frames.shape[:3]
    size = {"num_frames": num_frames, "height_px": height, "width_px": width, "fps": video.fps, **more}
    return as_json({**settings_record(video), "timings_s": video.timings_s, "video": size}, indent=2) + "\n"


def as_json(record: dict[str, Any], indent: int | None = None) -> str:
    """Return plain ASCII JSON.

    Raises:
        ConfigError: For what JSON cannot hold, not-a-number included.
    """
    try:
        return json.dumps(record, indent=indent, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The settings of a video must be plain JSON: {error}.") from error


def _check_sidecar(path: Path) -> None:
    """Refuse to write over a file that is no sidecar: a person names the video, and may not think of this file.

    Raises:
        VideoError: When there is such a file.
    """
    if not os.path.lexists(path):
        return
    try:
        record = json.loads(path.read_bytes()) if path.stat().st_size <= _MAX_SIDECAR_BYTES else None
    except (OSError, ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or "likeness" not in record:
        raise VideoError(
            f'"{path}" would be replaced by the settings of the video, and it holds something else.',
            "Choose another name for the video, or move that file away.",
        )
