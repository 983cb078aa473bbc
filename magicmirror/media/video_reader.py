"""Video in: frames, and the settings that a video was made with."""

from __future__ import annotations

import json
import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from magicmirror.errors import VideoError
from magicmirror.media.ffmpeg import run_ffmpeg, video_input
from magicmirror.types import UInt8Array


def read_video(path: str | os.PathLike[str], max_frames: int | None = None) -> tuple[UInt8Array, float]:
    """Read all frames of a video, upright, without dropping or repeating any.

    Args:
        path: An mp4, mov, mkv, webm or avi file.
        max_frames: Read no more than this many.

    Returns:
        (F, H, W, 3) uint8 RGB, frames per second.

    Raises:
        VideoError: When the file is missing or no video.
    """
    video = _existing_video(path)
    # The frame checksum format states size (after rotation) and time base, exactly and in a fixed form.
    probe = run_ffmpeg(*video_input(video), "-map", "0:v:0", "-frames:v", "1", "-f", "framecrc", "-").decode()
    size = re.search(r"^#dimensions 0: (\d+)x(\d+)$", probe, re.MULTILINE)
    time_base = re.search(r"^#tb 0: (\d+)/(\d+)$", probe, re.MULTILINE)
    if size is None or time_base is None:
        raise VideoError(f'"{video.name}" has no pictures in it.', "Use an mp4 video.")
    width, height = int(size[1]), int(size[2])
    limit = () if max_frames is None else ("-frames:v", str(max_frames))
    options = ("-map", "0:v:0", "-fps_mode", "passthrough", *limit, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    frames = np.frombuffer(run_ffmpeg(*video_input(video), *options), dtype=np.uint8)
    return frames.reshape(-1, height, width, 3).copy(), float(Fraction(int(time_base[2]), int(time_base[1])))


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the settings that a video was made with, from the mp4 itself or from a ``.json`` sidecar.

    Returns:
        The settings as given to ``write_video``, and ``likeness``.

    Raises:
        VideoError: When the file is missing, no video, or carries no settings.
    """
    video = _existing_video(path)
    if video.suffix.lower() == ".json":
        text = video.read_text(encoding="utf-8", errors="replace")
    else:
        metadata = run_ffmpeg(*video_input(video), "-f", "ffmetadata", "-").decode("utf-8", errors="replace")
        # A value ends at a line break that no backslash precedes; a backslash quotes the next character.
        found = re.search(r"^comment=((?:\\.|[^\\\n])*)", metadata, re.MULTILINE | re.DOTALL)
        text = re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL) if found else ""
    try:
        settings = json.loads(text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise VideoError(f'"{video.name}" carries no settings.', "Use a video as this program wrote it.")
    return settings


def _existing_video(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that exists and is not empty."""
    path = Path(path)
    if not path.is_file() or path.stat().st_size == 0:
        raise VideoError(f'There is no video "{path}", or it is empty.', "Check the name.")
    return path
