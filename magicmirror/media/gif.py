"""Video out as a GIF: a palette made for its frames, and timing as exact as the format allows."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

from magicmirror.errors import VideoError
from magicmirror.media.ffmpeg import encode_frames
from magicmirror.media.files import complete_files
from magicmirror.media.video_record import check_output_path, checked_frames, exact_rate, sidecar_path, sidecar_text
from magicmirror.types import GeneratedVideo, UInt8Array

MAX_GIF_FPS = 50
"""A picture is shown for whole hundredths of a second, and browsers slow down to ten fps below two of them."""
_PALETTE = "split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse=dither=sierra2_4a:diff_mode=rectangle"


def write_gif(video: GeneratedVideo, path: str | os.PathLike[str]) -> Path:
    """Write an endless GIF of 256 colours, and the JSON sidecar (``out.gif.json``).

    Every frame begins within 1/100 s of its time; 8 fps alternates between 0.12 and 0.13 s. The file is read back
    before it gets its name: number, size and times of the frames must be what was asked for.

    Args:
        video: Frames of any size, and their settings.
        path: Name ending in ``.gif``.

    Returns:
        The path.

    Raises:
        VideoError: As ``write_video``; also above ``MAX_GIF_FPS``.
        ConfigError: When the settings are no JSON.
    """
    path = check_output_path(path, (".gif",))
    frames = checked_frames(video)
    rate = exact_rate(video.fps)
    if rate > MAX_GIF_FPS:
        raise VideoError(f"A GIF shows at most {MAX_GIF_FPS} frames per second, got {video.fps}.", "Write an mp4.")
    sidecar = sidecar_text(video, frames)
    with complete_files((path, sidecar_path(path)), VideoError, frames.nbytes // 2) as (partial, partial_json):
        partial_json.write_text(sidecar, encoding="utf-8")
        encode_frames(frames, rate, ("-filter_complex", _PALETTE, "-fps_mode", "passthrough", "-f", "gif"), partial)
        _check_written(partial, frames, rate)
    return path


def _check_written(path: Path, frames: UInt8Array, rate: Fraction) -> None:
    """Compare a GIF with what it was made of.

    Raises:
        VideoError: When they differ.
    """
    from PIL import Image

    num_frames, height, width = frames.shape[:3]
    with Image.open(path, formats=("GIF",)) as picture:
        if (picture.size, getattr(picture, "n_frames", 1)) != ((width, height), num_frames):
            raise VideoError("The written GIF reads back with another size or number of frames.", "Write an mp4.")
        time_s = Fraction(0)
        for number in range(num_frames):
            picture.seek(number)
            if abs(time_s - number / rate) > Fraction(1, 100):
                raise VideoError(f"Frame {number} of the written GIF comes at {float(time_s)} s.", "Write an mp4.")
            time_s += Fraction(int(picture.info["duration"]), 1000)
