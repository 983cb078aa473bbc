"""The only place that reads or writes pictures and video.

Files appear under their final name complete or not at all: everything is written to a hidden file in the same folder
and moved over the final name in one step.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from magicmirror.errors import ConfigError, ImageError, UserInputError, VideoError
from magicmirror.types import GeneratedVideo, UInt8Array

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_IMAGE_BYTES = 20 * 1024 * 1024
MAX_IMAGE_PIXELS = 50_000_000
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
VIDEO_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
CONSTANT_RATE_FACTOR = 16
"""x264's quality; 16 is visually lossless."""
MAX_SETTINGS_CHARS = 100_000
_TO_BT709 = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int"
_TAG_BT709 = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
# What Pillow's readers have been seen to raise on damaged files, its EXIF reader included.
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error)
_READ_AS = "Save it as JPEG or PNG and try again."


def load_image(
    source: str | os.PathLike[str] | bytes,
    max_bytes: int = MAX_IMAGE_BYTES,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> UInt8Array:
    """Read a photo upright, in RGB.

    Size limits are checked before anything is decoded. The EXIF orientation is applied; palette, grey, 16-bit and
    CMYK pictures become RGB; transparency is laid over white; of an animation the first frame is taken.

    Args:
        source: Path of the file, or its bytes.
        max_bytes: Largest accepted file.
        max_pixels: Largest accepted number of pixels.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: When the file is missing, empty, too large, truncated or no picture.
    """
    from PIL import Image, UnidentifiedImageError

    data = _read_bytes(source, max_bytes)
    try:
        picture = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(f"The picture has more than the {max_pixels:,} pixels accepted.", "Reduce it.") from error
    except (UnidentifiedImageError, *_DAMAGED) as error:
        raise ImageError("The file is not a picture that can be read.", _READ_AS) from error
    with picture:
        width, height = picture.size
        if width * height > max_pixels:
            raise ImageError(
                f"The picture has {width} x {height} pixels; at most {max_pixels:,} are accepted.", "Reduce it."
            )
        try:
            picture.load()
            return _to_rgb(picture)
        except _DAMAGED as error:
            raise ImageError("The picture is damaged or truncated.", _READ_AS) from error


def write_image(image: UInt8Array, path: str | os.PathLike[str]) -> Path:
    """Write a picture; the suffix decides the format.

    Args:
        image: (H, W, 3) uint8 RGB.
        path: Name ending in ``.png``, ``.jpg``, ``.jpeg`` or ``.webp``.

    Returns:
        The path.

    Raises:
        ImageError: When the suffix or shape is unsuitable, or the file cannot be written.
    """
    from PIL import Image

    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ImageError(f'Pictures are not written as "{path.suffix}".', "End the name in .png, .jpg or .webp.")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(f"A picture must be (H, W, 3) uint8, got {image.shape} {image.dtype}.")
    with _complete_file(path, ImageError) as partial:
        Image.fromarray(image).save(partial, quality=95)
    return path


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
    with _complete_file(sidecar_path(path), VideoError) as partial_json:
        partial_json.write_text(sidecar + "\n", encoding="utf-8")
        with _complete_file(path, VideoError) as partial:
            _encode(frames, video.fps, comment, partial)
    return path


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
    probe = _ffmpeg(*_input(video), "-map", "0:v:0", "-frames:v", "1", "-f", "framecrc", "-").decode()
    size = re.search(r"^#dimensions 0: (\d+)x(\d+)$", probe, re.MULTILINE)
    time_base = re.search(r"^#tb 0: (\d+)/(\d+)$", probe, re.MULTILINE)
    if size is None or time_base is None:
        raise VideoError(f'"{video.name}" has no pictures in it.', "Use an mp4 video.")
    width, height = int(size[1]), int(size[2])
    limit = () if max_frames is None else ("-frames:v", str(max_frames))
    options = ("-map", "0:v:0", "-fps_mode", "passthrough", *limit, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    frames = np.frombuffer(_ffmpeg(*_input(video), *options), dtype=np.uint8)
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
        metadata = _ffmpeg(*_input(video), "-f", "ffmetadata", "-").decode("utf-8", errors="replace")
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


def _read_bytes(source: str | os.PathLike[str] | bytes, max_bytes: int) -> bytes:
    """Return the bytes of a picture file, within the limit."""
    if isinstance(source, bytes):
        size = len(source)
    else:
        path = Path(source)
        if not path.is_file():
            raise ImageError(f'There is no picture "{path}".', "Check the name.")
        size = path.stat().st_size
    if size == 0:
        raise ImageError("The picture file is empty.", "Save or upload it again.")
    if size > max_bytes:
        raise ImageError(f"The picture file has {size:,} bytes; at most {max_bytes:,} are accepted.", "Reduce it.")
    if isinstance(source, bytes):
        return source
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f'"{path}" cannot be read: {error.strerror}.') from error


def _to_rgb(picture: Image) -> UInt8Array:
    """Return a decoded picture as upright (H, W, 3) uint8 RGB."""
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I") or upright.mode == "F":
        # Grey with 16 bits or more; Pillow itself would cut values off at 255 instead of scaling.
        values = np.asarray(upright, dtype=np.float32)
        upright = Image.fromarray((np.clip(values / 65535.0, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(upright.convert("RGB"), dtype=np.uint8)


def _encode(frames: UInt8Array, fps: float, comment: str, path: Path) -> None:
    """Encode (F, H, W, 3) uint8 RGB into an mp4 under ``path``."""
    height, width = frames.shape[1:3]
    rate = str(Fraction(fps).limit_denominator(100_000))
    _ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate, "-i", "-", "-an"),
        *("-vf", f"{_TO_BT709},format=yuv420p,{_TAG_BT709}"),
        *("-c:v", "libx264", "-preset", "medium", "-crf", str(CONSTANT_RATE_FACTOR)),
        *("-movflags", "+faststart", "-metadata", f"comment={comment}", "-y", "-f", "mp4", str(path)),
        stdin=frames.data.cast("B"),
    )


def _ffmpeg(*arguments: str, stdin: memoryview | None = None) -> bytes:
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


def _input(path: Path) -> tuple[str, ...]:
    """Return ffmpeg's input arguments: this file only, and only as a video container, never as a playlist."""
    return ("-protocol_whitelist", "file", "-format_whitelist", VIDEO_DEMUXERS, "-i", f"file:{path}")


def _existing_video(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that exists and is not empty."""
    path = Path(path)
    if not path.is_file() or path.stat().st_size == 0:
        raise VideoError(f'There is no video "{path}", or it is empty.', "Check the name.")
    return path


def _json(record: dict[str, Any], indent: int | None = None) -> str:
    """Return plain ASCII JSON, refusing what JSON cannot hold."""
    try:
        return json.dumps(record, indent=indent, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The settings of a video must be plain JSON: {error}.") from error


@contextmanager
def _complete_file(path: Path, error_type: type[UserInputError]) -> Iterator[Path]:
    """Give a hidden name beside ``path``, and move it there once it is complete and on disk."""
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.partial{path.suffix}")
    try:
        yield partial
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise error_type(f'"{path}" cannot be written: {error.strerror or error}.') from error
    finally:
        partial.unlink(missing_ok=True)
