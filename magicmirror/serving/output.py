"""Writing what was made: a video as every other, a single picture as PNG, each with its settings beside it."""

from __future__ import annotations

from pathlib import Path

from magicmirror.errors import VideoError
from magicmirror.media import complete_file, sidecar_path, write_image, write_result
from magicmirror.media.video_record import sidecar_text
from magicmirror.types import GeneratedVideo


def write_output(video: GeneratedVideo, path: Path) -> Path:
    """Write a video, or for a name ending in ``.png`` its first frame, and the JSON sidecar.

    Raises:
        VideoError: When it cannot be written.
        ImageError: When the picture cannot be written.
    """
    if path.suffix.lower() != ".png":
        return write_result(video, path)
    with complete_file(sidecar_path(path), VideoError) as partial:
        partial.write_text(sidecar_text(video, video.frames[:1]), encoding="utf-8")
    return write_image(video.frames[0], path)
