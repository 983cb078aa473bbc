"""Video out: H.264 in mp4, with its settings inside and in a JSON sidecar."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from magicmirror.errors import ConfigError, VideoError
from magicmirror.media.ffmpeg import run_ffmpeg
from magicmirror.media.files import complete_file
from magicmirror.types import GeneratedVideo, UInt8Array

CONSTANT_RATE_FACTOR = 16
"""x264's quality; 16 is visually lossless."""
MAX_SETTINGS_CHARS = 100_000
_TO_BT709 = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int"
_TAG_BT709 = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"


def check_output_path(path: str | os.PathLike[str]) -> Path:
    """Check that a video can be written under a name, before any time is spent on making it.

    Returns:
        The path.

    Raises:
        VideoError: When the name does not end in ``.mp4``, or its folder is missing or not writable.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise VideoError(f'Videos are written as .mp4, got "{path.name}".', "End the name in .mp4.")
    if not path.parent.is_dir():
        raise VideoError(f'The folder "{path.parent}" does not exist.', "Make it first.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise VideoError(f'"{path}" cannot be written.', "Choose another name or folder.")
    return path


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """Return the name of the JSON file that belongs to a video: ``out.mp4`` -> ``out.json``."""
    return Path(path).with_suffix(".json")


def write_video(video: GeneratedVideo, path: str | os.PathLike[str]) -> Path:
    """Write H.264, yuv420p, index first (faststart), one picture per frame, and the JSON sidecar.

    Settings and likeness travel in the ``comment`` tag of the mp4; the sidecar has them too, with timings and sizes.
    Timings stay out of the mp4, so that equal frames and settings make equal files. Colours are BT.709, and tagged so.

    Args:
        video: Frames with even height and width, and their settings.
        path: Name ending in ``.mp4``.

    Returns:
        The path.

    Raises:
        VideoError: When the frames or the name are unsuitable, or writing fails; no file is left then.
        ConfigError: When the settings are no JSON.
    """
    path = check_output_path(path)
    frames = np.ascontiguousarray(video.frames)
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or frames.size == 0:
        raise VideoError(f"Frames must be (F, H, W, 3) uint8, got {frames.shape} {frames.dtype}.")
    num_frames, height, width = frames.shape[:3]
    if height % 2 or width % 2 or video.fps <= 0:
        raise VideoError(f"H.264 needs even sides and fps above 0, got {width} x {height} at {video.fps} fps.")
    record = {**video.settings, "likeness": list(video.likeness)}
    comment = _json(record)
    size = {"num_frames": num_frames, "height_px": height, "width_px": width, "fps": video.fps}
    sidecar = _json({**record, "timings_s": video.timings_s, "video": size}, indent=2)
    if len(comment) > MAX_SETTINGS_CHARS:
        raise ConfigError(f"The settings take {len(comment)} characters, at most {MAX_SETTINGS_CHARS} fit in an mp4.")
    with complete_file(sidecar_path(path), VideoError) as partial_json:
        partial_json.write_text(sidecar + "\n", encoding="utf-8")
        with complete_file(path, VideoError) as partial:
            _encode(frames, video.fps, comment, partial)
    return path


def _encode(frames: UInt8Array, fps: float, comment: str, path: Path) -> None:
    """Encode (F, H, W, 3) uint8 RGB into an mp4 under ``path``."""
    height, width = frames.shape[1:3]
    rate = str(Fraction(fps).limit_denominator(100_000))
    run_ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate, "-i", "-", "-an"),
        *("-vf", f"{_TO_BT709},format=yuv420p,{_TAG_BT709}"),
        *("-c:v", "libx264", "-preset", "medium", "-crf", str(CONSTANT_RATE_FACTOR)),
        *("-movflags", "+faststart", "-metadata", f"comment={comment}", "-y", "-f", "mp4", str(path)),
        stdin=frames.data.cast("B"),
    )


def _json(record: dict[str, Any], indent: int | None = None) -> str:
    """Return plain ASCII JSON, refusing what JSON cannot hold."""
    try:
        return json.dumps(record, indent=indent, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The settings of a video must be plain JSON: {error}.") from error
