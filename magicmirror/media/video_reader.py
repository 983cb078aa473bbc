"""Video in: frames, all at once or one at a time, and the settings that a video was made with.

Neither memory nor time grows with what a file claims: see the limits of ``media.video_probe`` and below.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from magicmirror.errors import ConfigError, VideoError
from magicmirror.media.ffmpeg import stream_ffmpeg
from magicmirror.media.video_probe import (
    VideoProperties,
    existing_video,
    read_comment,
    read_properties,
    reading_errors,
    video_input,
)
from magicmirror.media.video_record import sidecar_path
from magicmirror.types import UInt8Array

MAX_VIDEO_PIXELS = 100_000_000
"""Most pixels of all frames together that ``read_video`` holds; three bytes each."""
READ_TIMEOUT_S = 300.0
_MAX_SETTINGS_BYTES = 10_000_000


def read_video(
    path: str | os.PathLike[str],
    max_frames: int | None = None,
    max_pixels: int = MAX_VIDEO_PIXELS,
    timeout_s: float = READ_TIMEOUT_S,
) -> tuple[UInt8Array, float]:
    """Read all frames of a video, upright, without dropping or repeating any.

    Args:
        path: An mp4, mov, mkv, webm, avi or gif file.
        max_frames: Read no more than this many.
        max_pixels: Most pixels of all frames together; longer videos are for ``iterate_frames``.
        timeout_s: How long decoding may take.

    Returns:
        (F, H, W, 3) uint8 RGB, frames per second.

    Raises:
        VideoError: When the file is missing, no video, cut off, damaged, over a limit, or takes too long.
    """
    properties = read_properties(path)
    height, width = properties.height_px, properties.width_px
    pixels = bytearray()
    for frame in _stream(Path(path), properties, 1, max_frames, timeout_s):
        if len(pixels) + len(frame) > 3 * max_pixels:
            raise VideoError(
                f'"{Path(path).name}" has more than {max_pixels:,} pixels in its frames of {width} x {height}.',
                "Shorten or reduce it.",
            )
        pixels += frame
    return np.frombuffer(pixels, dtype=np.uint8).reshape(-1, height, width, 3), float(properties.fps)


def iterate_frames(
    path: str | os.PathLike[str],
    every: int = 1,
    max_frames: int | None = None,
    timeout_s: float = READ_TIMEOUT_S,
) -> Iterator[UInt8Array]:
    """Give the frames of a video one by one; memory does not depend on its length.

    Args:
        path: An mp4, mov, mkv, webm, avi or gif file.
        every: Give the frames 0, ``every``, 2 ``every``...
        max_frames: Give no more than this many.
        timeout_s: How long decoding may take in all; time spent on the frames by the caller does not count.

    Yields:
        (H, W, 3) uint8 RGB, read-only.

    Raises:
        VideoError: As ``read_video``; damage within the file shows when it is reached.
        ConfigError: When ``every`` is below 1.
    """
    if every < 1:
        raise ConfigError(f"every must be at least 1, got {every}.")
    properties = read_properties(path)
    for frame in _stream(Path(path), properties, every, max_frames, timeout_s):
        yield np.frombuffer(frame, dtype=np.uint8).reshape(properties.height_px, properties.width_px, 3)


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the settings that a video was made with.

    Args:
        path: An mp4, which holds them itself; or a ``.json`` sidecar; or a gif or a folder of frames that have one.

    Returns:
        The settings as given to ``write_video``, and ``likeness``.

    Raises:
        VideoError: When the file is missing, no video, or carries no settings.
    """
    source = Path(path)
    if os.path.isdir(source) or source.suffix.lower() == ".gif":
        source = sidecar_path(source)
    text = _read_text(source) if source.suffix.lower() == ".json" else read_comment(source)
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise VideoError(f'"{Path(path).name}" carries no settings.', "Use a video as this program wrote it.")
    return settings


def _stream(
    path: Path, properties: VideoProperties, every: int, max_frames: int | None, timeout_s: float
) -> Iterator[bytes]:
    """Decode frames as RGB bytes."""
    if max_frames is not None and max_frames < 1:
        return
    video = existing_video(path)
    limit = () if max_frames is None else ("-frames:v", str(max_frames))
    chosen = () if every == 1 else ("-vf", f"select=not(mod(n\\,{every}))")
    options = ("-map", "0:v:0", "-fps_mode", "passthrough", *chosen, *limit)
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    frame_bytes = 3 * properties.height_px * properties.width_px
    arguments = ("-loglevel", "error", *video_input(video), *options, *raw)
    with reading_errors(video):
        yield from stream_ffmpeg(*arguments, chunk_bytes=frame_bytes, timeout_s=timeout_s)


def _read_text(path: Path) -> str:
    """Return the text of a sidecar, empty if it is far too large for one."""
    if not os.path.isfile(path):
        raise VideoError(f'There is no file "{path}".', "Check the name.")
    try:
        if path.stat().st_size > _MAX_SETTINGS_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise VideoError(f'"{path}" cannot be read: {error.strerror}.', "Check who may read it.") from error
