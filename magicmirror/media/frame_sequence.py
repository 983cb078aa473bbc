"""Video out as a folder of PNG pictures, without any loss."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from magicmirror.errors import VideoError
from magicmirror.media.files import check_target, complete_folder
from magicmirror.media.video_record import SETTINGS_FILE, checked_frames, exact_rate, sidecar_text
from magicmirror.types import GeneratedVideo, UInt8Array


def write_frames(video: GeneratedVideo, folder: str | os.PathLike[str]) -> Path:
    """Write ``frame_0000.png``, ``frame_0001.png``... and ``settings.json`` into a new folder.

    The folder appears with everything in it, or not at all. Every picture is read back and compared before that.

    Args:
        video: Frames of any size, and their settings.
        folder: Not there yet, or empty; a folder with anything in it is never touched.

    Returns:
        The folder.

    Raises:
        VideoError: As ``write_video``; also when the folder is not empty.
        ConfigError: When the settings are no JSON.
    """
    folder = Path(folder)
    frames = checked_frames(video)
    exact_rate(video.fps)
    settings = sidecar_text(video, frames)
    check_target(folder, VideoError, as_folder=True)
    digits = max(4, len(str(len(frames) - 1)))
    with complete_folder(folder, VideoError, frames.nbytes) as partial:
        for number, frame in enumerate(frames):
            _write_frame(frame, partial / f"frame_{number:0{digits}}.png")
        (partial / SETTINGS_FILE).write_text(settings, encoding="utf-8")
    return folder


def _write_frame(frame: UInt8Array, path: Path) -> None:
    """Write a picture and compare what is read back."""
    from PIL import Image

    Image.fromarray(frame).save(path, "PNG", compress_level=4)
    with Image.open(path, formats=("PNG",)) as picture:
        if not np.array_equal(np.asarray(picture), frame):
            raise VideoError(f'"{path.name}" reads back differently.', "Check the disk.")
