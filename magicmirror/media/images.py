"""Pictures in and out: one loader for photos, one writer.

``load_image`` does four things in a row: read the bytes (never more than the limit, never from a pipe), recognise the
format by its content (``formats.recognition``), check and cut down the file before a pixel is decoded (``formats``),
and convert the decoded picture strip by strip (``decoding``, ``colour``).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np

from magicmirror.errors import EmptyImage, ImageError, ImageFileTooLarge
from magicmirror.media.colour import to_srgb, turn_upright
from magicmirror.media.decoding import decode, decoder_errors
from magicmirror.media.files import complete_file
from magicmirror.media.formats import READERS, PictureHeader
from magicmirror.media.formats.header import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, MAX_IMAGE_SIDE_PX, check_size
from magicmirror.media.formats.recognition import recognise
from magicmirror.types import UInt8Array

__all__ = ["MAX_IMAGE_BYTES", "MAX_IMAGE_PIXELS", "MAX_IMAGE_SIDE_PX", "load_image", "write_image"]


def load_image(
    source: str | os.PathLike[str] | bytes,
    max_bytes: int = MAX_IMAGE_BYTES,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> UInt8Array:
    """Read a photo upright, in sRGB.

    Reads JPEG, PNG, WebP, GIF, BMP, TIFF and, where ``pillow-heif`` is installed, HEIC. Size limits are checked before
    anything is decoded. The EXIF orientation and the colour profile are applied; palette, grey, 16-bit and CMYK
    pictures become RGB; transparency is laid over white; of an animation the first frame is taken. ``docs/files.md``
    states every rule.

    Args:
        source: Path of the file, or its bytes. A path's suffix must not contradict the content.
        max_bytes: Largest accepted file.
        max_pixels: Largest accepted number of pixels; no side may be longer than ``MAX_IMAGE_SIDE_PX``.

    Returns:
        (H, W, 3) uint8 RGB, contiguous and writeable.

    Raises:
        EmptyImage: When the file has no bytes.
        ImageFileTooLarge: When it has more than ``max_bytes``.
        ImageTooLarge: When it has too many pixels or too long a side; ``CostlyImage`` when it is built so that decoding
            would cost far more than the picture is worth.
        TruncatedImage: When it ends too early.
        DamagedImage: When it contradicts its own format.
        MislabelledImage: When its suffix says one picture format and the content is something else.
        UnsupportedImage: When it is no picture, or of a kind that is not read.
        ImageError: When there is no such file, or it cannot be read.
    """
    name = "" if isinstance(source, bytes) else os.fspath(source)
    data = _read_source(source, max_bytes)
    form = recognise(data, name)
    with decoder_errors(form):
        header = READERS[form](data, max_pixels)
        check_size(*header.size_px, max_pixels)
    del data
    return _render(header)


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
    with complete_file(path, ImageError) as partial:
        Image.fromarray(image).save(partial, quality=95)
    return path


def _render(header: PictureHeader) -> UInt8Array:
    """Decode a checked picture, convert it and turn it upright; each step frees what it started from."""
    picture = decode(header)
    with decoder_errors(header.format):
        pixels = to_srgb(picture, header)
    del picture
    if header.canvas_px and header.canvas_px != (header.width_px, header.height_px):
        left, top = header.offset_px
        canvas = np.full((header.canvas_px[1], header.canvas_px[0], 3), 255, dtype=np.uint8)
        canvas[top : top + header.height_px, left : left + header.width_px] = pixels
        pixels = canvas
    return turn_upright(pixels, header.orientation)


def _read_source(source: str | os.PathLike[str] | bytes, max_bytes: int) -> bytes:
    """Return the bytes of a picture file, within the limit."""
    if isinstance(source, bytes):
        _check_file_size(len(source), max_bytes)
        return source
    path = Path(source)
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise ImageError(f'"{path}" is a folder, not a picture.', "Name a file.")
        if not stat.S_ISREG(kind):
            # A pipe or a device might never end.
            raise ImageError(f'"{path}" is not an ordinary file.', "Save the picture to a file.")
        with path.open("rb") as file:
            _check_file_size(os.fstat(file.fileno()).st_size, max_bytes)
            data = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise ImageError(f'There is no picture "{path}".', "Check the name.") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f'"{path}" cannot be read: {reason}.', "Check its name and its permissions.") from error
    _check_file_size(len(data), max_bytes)
    return data


def _check_file_size(size: int, max_bytes: int) -> None:
    """Refuse a file by its size."""
    if size == 0:
        raise EmptyImage("The picture file is empty.", "Save or upload it again.")
    if size > max_bytes:
        raise ImageFileTooLarge(
            f"The picture file has {size:,} bytes; at most {max_bytes:,} are accepted.", "Scale the picture down."
        )
