"""ffmpeg as a process: the one of ``imageio-ffmpeg``, its errors as ours."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from magicmirror.errors import VideoError

VIDEO_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"


def run_ffmpeg(*arguments: str, stdin: memoryview | None = None) -> bytes:
    """Run ffmpeg and return what it printed.

    Raises:
        VideoError: When it fails, with its last line.
    """
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", *arguments]
    # Without input of its own, ffmpeg must not read the terminal's keys.
    source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    done = subprocess.run(command, capture_output=True, check=False, **source)
    if done.returncode:
        lines = done.stderr.decode("utf-8", errors="replace").strip().splitlines()
        raise VideoError(f"The video cannot be read or written: {lines[-1] if lines else 'ffmpeg failed'}.")
    return bytes(done.stdout)


def video_input(path: Path) -> tuple[str, ...]:
    """Return ffmpeg's input arguments: this file only, and only as a video container, never as a playlist."""
    return ("-protocol_whitelist", "file", "-format_whitelist", VIDEO_DEMUXERS, "-i", f"file:{path}")
