"""What a video file is, before and after its frames are decoded; every reason to refuse one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from magicmirror.errors import VideoError
from magicmirror.media.ffmpeg import FFmpegFailed, run_ffmpeg

MAX_FRAME_PIXELS = 4096 * 2304
"""Largest frame that is decoded: 4K; of 8K a decoder alone would take gigabytes."""
PROBE_TIMEOUT_S = 30.0
_USE = "Use an mp4, mov, webm, mkv, avi or gif video."
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif"
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"pnot", b"udta", b"meta", b"sidx")
_MAX_BOXES = 10_000
_STREAM = re.compile(
    r"^ +Stream #0:.*?: Video: (?P<codec>\w+)(?: \((?P<profile>[^)/]+)\))?(?: \([^)]*\))?, (?P<pixel_format>\w+)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class VideoProperties:
    """What is known of a video.

    Args:
        width_px: Of a frame, upright.
        height_px: Of a frame, upright.
        fps: Frames per second; of a video with a varying rate, and of a GIF, the nearest constant one.
        duration_s: As the file states it, ``None`` if it does not.
        codec: ffmpeg's name, for example ``h264``.
        profile: Of the codec, for example ``High``; empty where the codec has none.
        pixel_format: ffmpeg's name, for example ``yuv420p``.
        frame_times: Time of every decoded frame, in units of ``1 / fps``; of the first frame alone unless all were
            asked for.
        comment: The ``comment`` tag, which holds the settings in videos of this program; empty without one.
    """

    width_px: int
    height_px: int
    fps: Fraction
    duration_s: float | None
    codec: str
    profile: str
    pixel_format: str
    frame_times: tuple[int, ...]
    comment: str


def read_properties(path: str | os.PathLike[str], timeout_s: float = PROBE_TIMEOUT_S) -> VideoProperties:
    """Read what a video is; its first frame is decoded.

    Raises:
        VideoError: When the file is missing, no video, cut off, damaged, over a limit, or takes too long.
    """
    return probe_video(path, timeout_s, all_frames=False)


def probe_video(path: str | os.PathLike[str], timeout_s: float, all_frames: bool) -> VideoProperties:
    """Decode the first frame, or all, and return what the video is; see ``read_properties``."""
    video = existing_video(path)
    limit = () if all_frames else ("-frames:v", "1")
    with reading_errors(video):
        # Checksums of frames state size (after rotation), rate and times exactly and in a fixed form. Flushed line by
        # line, they do not mix with the second output, the tags.
        frames = ("-map", "0:v:0", "-fps_mode", "passthrough", *limit, "-flush_packets", "1", "-f", "framecrc", "-")
        done = run_ffmpeg(*video_input(video), *frames, "-f", "ffmetadata", "-", timeout_s=timeout_s)
    text = done.output.decode("utf-8", errors="replace")
    size = re.search(r"^#dimensions 0: (\d+)x(\d+)$", text, re.MULTILINE)
    time_base = re.search(r"^#tb 0: (\d+)/(\d+)$", text, re.MULTILINE)
    stream = _STREAM.search(done.report)
    if size is None or time_base is None or stream is None:
        raise VideoError(f'"{video.name}" has no pictures in it.', _USE)
    duration = re.search(r"^  Duration: (\d+):(\d+):(\d+\.\d+)", done.report, re.MULTILINE)
    return VideoProperties(
        width_px=int(size[1]),
        height_px=int(size[2]),
        fps=Fraction(int(time_base[2]), int(time_base[1])),
        duration_s=int(duration[1]) * 3600 + int(duration[2]) * 60 + float(duration[3]) if duration else None,
        codec=stream["codec"],
        profile=stream["profile"] or "",
        pixel_format=stream["pixel_format"],
        frame_times=tuple(int(time) for time in re.findall(r"^0, *-?\d+, *(-?\d+),", text, re.MULTILINE)),
        comment=_comment(text),
    )


def read_comment(path: Path) -> str:
    """Return the ``comment`` tag of a video, without decoding anything; empty without one.

    Raises:
        VideoError: When the file is missing, no video, cut off, or takes too long.
    """
    video = existing_video(path)
    with reading_errors(video):
        done = run_ffmpeg(*video_input(video), "-f", "ffmetadata", "-", timeout_s=PROBE_TIMEOUT_S)
    return _comment(done.output.decode("utf-8", errors="replace"))


def existing_video(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that begins as a video and, if it is an mp4, is not cut off.

    Text, playlists (which would make ffmpeg open other files) and pictures end here, before ffmpeg sees them.

    Raises:
        VideoError: When the file is missing, empty, unreadable, no video, or cut off.
    """
    video = Path(path)
    if not os.path.isfile(video):
        raise VideoError(f'There is no video "{path}".', "Check the name.")
    try:
        size = video.stat().st_size
        with video.open("rb") as file:
            start = file.read(12)
            is_cut = start[4:8] in _MP4_BOXES and _ends_within_box(file, size)
    except OSError as error:
        raise VideoError(f'"{path}" cannot be read: {error.strerror}.', "Check who may read it.") from error
    if size == 0:
        raise VideoError(f'The video "{path}" is empty.', "Save or upload it again.")
    if not begins_as_video(start):
        raise VideoError(f'"{video.name}" is no video that can be read.', _USE)
    if is_cut:
        raise VideoError(f'The video "{video.name}" is cut off.', "Save, copy or upload it again.")
    return video


def begins_as_video(start: bytes) -> bool:
    """Whether the first 12 bytes of a file are those of a video or GIF; HEIC and AVIF pictures begin like an mp4."""
    is_avi = start[:4] == b"RIFF" and start[8:12] == b"AVI "
    return is_avi or start[4:8] in _MP4_BOXES or start.startswith((b"\x1aE\xdf\xa3", b"GIF87a", b"GIF89a"))


def video_input(path: Path) -> tuple[str, ...]:
    """Return ffmpeg's input arguments: this file only, as a video container only, with bounded memory."""
    allowed = ("-protocol_whitelist", "file", "-format_whitelist", _DEMUXERS)
    return (*allowed, "-max_pixels", str(MAX_FRAME_PIXELS), "-threads", "2", "-i", f"file:{path}")


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Say what ffmpeg's failure means to the owner of a video."""
    try:
        yield
    except FFmpegFailed as error:
        if error.timed_out:
            message, remedy = f'"{path.name}" takes too long to read.', "Shorten it, or save it again as mp4."
        elif "exceeds specified max pixel count" in error.report:
            found = re.search(r"Picture size (\d+)x(\d+) exceeds", error.report)
            size = f"{found[1]} x {found[2]}" if found else "too many"
            message = f'"{path.name}" has {size} pixels a frame; at most {MAX_FRAME_PIXELS:,} are accepted.'
            remedy = "Reduce it."
        elif "matches no streams" in error.report:
            message, remedy = f'"{path.name}" has no pictures in it.', _USE
        else:
            message = f'The video "{path.name}" is damaged or cut off ({error.last_line}).'
            remedy = "Save, copy or upload it again."
        raise VideoError(message, remedy) from error


def _ends_within_box(file: BinaryIO, size: int) -> bool:
    """Tell whether an mp4 file ends before its last box does; ffmpeg would only show fewer frames."""
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(16)
        if len(header) < 8 or header[4:8] not in _MP4_BOXES:
            return False
        length = int.from_bytes(header[:4], "big")
        if length == 0:  # to the end of the file
            return False
        if length == 1:
            length = int.from_bytes(header[8:], "big")
        position += max(length, 8)
        if position > size:
            return True
    return False


def _comment(metadata: str) -> str:
    """Return the comment from ffmpeg's text form of the tags."""
    # A value ends at a line break that no backslash precedes; a backslash quotes the next character.
    found = re.search(r"^comment=((?:\\.|[^\\\n])*)", metadata, re.MULTILINE | re.DOTALL)
    return re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL) if found else ""
