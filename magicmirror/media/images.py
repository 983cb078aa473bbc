"""Pictures in and out: one loader for photos, one writer."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from magicmirror.errors import ImageError
from magicmirror.media.files import complete_file
from magicmirror.types import UInt8Array

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_IMAGE_BYTES = 20 * 1024 * 1024
MAX_IMAGE_PIXELS = 50_000_000
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
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
    with complete_file(path, ImageError) as partial:
        Image.fromarray(image).save(partial, quality=95)
    return path


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
