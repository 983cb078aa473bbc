"""Video out: H.264 in mp4, with its settings inside and in a JSON sidecar, read back before it gets its name."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from magicmirror.errors import ConfigError, VideoError
from magicmirror.media.ffmpeg import encode_frames
from magicmirror.media.files import complete_files
from magicmirror.media.video_probe import probe_video
from magicmirror.media.video_record import (
    as_json,
    check_output_path,
    checked_frames,
    exact_rate,
    settings_record,
    sidecar_path,
    sidecar_text,
)
from magicmirror.types import GeneratedVideo, UInt8Array

CONSTANT_RATE_FACTOR = 16
"""x264's quality; 16 is visually lossless."""
MAX_SETTINGS_CHARS = 100_000
VERIFY_TIMEOUT_S = 600.0
_TO_BT709 = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int"
_TAG_BT709 = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"


def write_video(video: GeneratedVideo, path: str | os.PathLike[str]) -> Path:
    """Write H.264 High profile, yuv420p, index first (faststart), one picture per frame, and the JSON sidecar.

    Settings and likeness travel in the ``comment`` tag of the mp4; the sidecar has them too, with timings and sizes.
    Timings stay out of the mp4, so that equal frames and settings make equal files. Colours are BT.709, and tagged so.
    H.264 with yuv420p has even sides only: an odd last row or column is repeated once, and the sidecar states the
    stored size and how many rows and columns were added (``padded_bottom_px``, ``padded_right_px``).

    The file is decoded again before it gets its name: number, size and times of the frames, codec, profile, pixel
    format and settings must be what was asked for.

    Args:
        video: Frames and their settings; fps may be a fraction, 24000 / 1001 for example.
        path: Name ending in ``.mp4``.

    Returns:
        The path.

    Raises:
        VideoError: When the frames or the name are unsuitable, the disk is full, the folder read-only or gone, or the
            file reads back differently; nothing new is left then.
        ConfigError: When the settings are no JSON.
    """
    path = check_output_path(path)
    frames = checked_frames(video)
    rate = exact_rate(video.fps)
    bottom, right = frames.shape[1] % 2, frames.shape[2] % 2
    padded = {"padded_bottom_px": bottom, "padded_right_px": right} if bottom or right else {}
    if padded:
        frames = np.pad(frames, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="edge")
    comment = as_json(settings_record(video))
    sidecar = sidecar_text(video, frames, **padded)
    if len(comment) > MAX_SETTINGS_CHARS:
        raise ConfigError(f"The settings take {len(comment)} characters, at most {MAX_SETTINGS_CHARS} fit in an mp4.")
    # Three bytes a pixel as given; even noise takes less than one in the file.
    with complete_files((path, sidecar_path(path)), VideoError, frames.nbytes // 3) as (partial, partial_json):
        partial_json.write_text(sidecar, encoding="utf-8")
        encode_frames(frames, rate, _mp4_options(comment), partial)
        _check_written(partial, frames, rate, comment)
    return path


def _mp4_options(comment: str) -> tuple[str, ...]:
    return (
        *("-vf", f"{_TO_BT709},format=yuv420p,{_TAG_BT709}"),
        *("-c:v", "libx264", "-profile:v", "high", "-preset", "medium", "-crf", str(CONSTANT_RATE_FACTOR)),
        *("-movflags", "+faststart", "-metadata", f"comment={comment}", "-f", "mp4"),
    )


def _check_written(path: Path, frames: UInt8Array, rate: Fraction, comment: str) -> None:
    """Compare a file with what it was made of.

    Raises:
        VideoError: When they differ.
    """
    found = probe_video(path, VERIFY_TIMEOUT_S, all_frames=True)
    num_frames, height, width = frames.shape[:3]
    pairs = {
        "number of frames": (len(found.frame_times), num_frames),
        "times of the frames": (found.frame_times, tuple(range(num_frames))),
        "size": ((found.width_px, found.height_px), (width, height)),
        "frames per second": (found.fps, rate),
        "encoding": ((found.codec, found.profile, found.pixel_format), ("h264", "High", "yuv420p")),
        "settings": (found.comment, comment),
    }
    for name, (there, expected) in pairs.items():
        if there != expected:
            raise VideoError(
                f"The written video reads back with another {name}: {there}, expected {expected}."[:300],
                "Use the ffmpeg of imageio-ffmpeg.",
            )
