"""One way out for all kinds of video: the end of the name decides."""

from __future__ import annotations

import os
from pathlib import Path

from magicmirror.media.frame_sequence import write_frames
from magicmirror.media.gif import write_gif
from magicmirror.media.video_record import check_output_path
from magicmirror.media.video_writer import write_video
from magicmirror.types import GeneratedVideo

OUTPUT_SUFFIXES = (".mp4", ".gif")
"""What ``write_result`` takes besides folders; for ``check_output_path``."""


def write_result(video: GeneratedVideo, path: str | os.PathLike[str]) -> Path:
    """Write ``out.mp4``, ``out.gif`` or, for a name without suffix, a folder of PNG frames.

    Returns:
        The path; ``sidecar_path`` says where its settings are.

    Raises:
        VideoError: As ``write_video``; also for another suffix.
        ConfigError: When the settings are no JSON.
    """
    path = Path(path)
    if not path.suffix:
        return write_frames(video, path)
    check_output_path(path, OUTPUT_SUFFIXES)
    return write_gif(video, path) if path.suffix.lower() == ".gif" else write_video(video, path)
