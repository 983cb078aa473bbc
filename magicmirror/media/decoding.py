"""Decoders of pictures, behind one face: a decoded picture gives horizontal strips.

A strip at a time is converted to RGB, so that a large picture is never in memory in more than one intermediate form.
"""

from __future__ import annotations

import io
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from magicmirror.errors import CostlyImage, DamagedImage, UnsupportedImage
from magicmirror.media.formats.header import EXPORT, SAVE_AGAIN, PictureHeader, refuse_damaged, refuse_truncated

if TYPE_CHECKING:
    from PIL.Image import Image

    from magicmirror.types import UInt8Array

# What the decoders have been seen to raise on damaged files.
_DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class DecodedPicture(ABC):
    """A decoded picture in its own mode.

    Args:
        mode: Pillow's name of the mode.
        size_px: Width and height.
        has_alpha: Whether anything in it may be transparent.
    """

    def __init__(self, mode: str, size_px: tuple[int, int], has_alpha: bool) -> None:
        self.mode = mode
        self.size_px = size_px
        self.has_alpha = has_alpha

    @abstractmethod
    def strip(self, top: int, bottom: int) -> Image:
        """Return the rows from ``top`` up to but not including ``bottom``."""


class PillowPicture(DecodedPicture):
    """A picture decoded by Pillow.

    Args:
        picture: The loaded picture.
    """

    def __init__(self, picture: Image) -> None:
        super().__init__(picture.mode, picture.size, picture.has_transparency_data)
        self._picture = picture

    def strip(self, top: int, bottom: int) -> Image:
        """Return the rows from ``top`` up to but not including ``bottom``."""
        return self._picture.crop((0, top, self.size_px[0], bottom))


class ArrayPicture(DecodedPicture):
    """A picture decoded into an array.

    Args:
        pixels: (H, W) or (H, W, C) uint8.
        mode: Pillow's mode of a strip.
        layout: Pillow's name of the order of channels in ``pixels``.
    """

    def __init__(self, pixels: UInt8Array, mode: str, layout: str) -> None:
        super().__init__(mode, (pixels.shape[1], pixels.shape[0]), mode in ("RGBA", "LA"))
        self._pixels = pixels
        self._layout = layout

    def strip(self, top: int, bottom: int) -> Image:
        """Return the rows from ``top`` up to but not including ``bottom``."""
        from PIL import Image

        rows = self._pixels[top:bottom]
        return Image.frombytes(self.mode, (self.size_px[0], len(rows)), rows.tobytes(), "raw", self._layout)


def decode(header: PictureHeader) -> DecodedPicture:
    """Decode a checked picture.

    Args:
        header: From one of ``formats.READERS``.

    Returns:
        The picture in its own mode, of the header's size.

    Raises:
        TruncatedImage: When pixels are missing.
        DamagedImage: When the decoder cannot make sense of the data.
        UnsupportedImage: When the decoder does not know this kind of the format.
    """
    with decoder_errors(header.format):
        if header.format == "WebP":
            picture = _decode_webp(header)
        elif header.format == "HEIC":
            picture = _decode_heic(header)
        else:
            picture = _decode_with_pillow(header)
    if picture.size_px != (header.width_px, header.height_px):
        refuse_damaged(header.format, "it states two different sizes")
    return picture


@contextmanager
def decoder_errors(form: str) -> Iterator[None]:
    """Turn what a decoder raises into one of our errors."""
    try:
        yield
    except _DECODER_ERRORS as error:
        if "truncated" in str(error).lower():
            refuse_truncated(form)
        raise DamagedImage(f"The {form} picture is damaged: its pixels cannot be decoded.", SAVE_AGAIN) from error
    except MemoryError as error:
        raise CostlyImage(f"The {form} picture needs more memory than there is.", "Scale it down.") from error


def _decode_with_pillow(header: PictureHeader) -> DecodedPicture:
    """Decode through the one plugin that the format needs; no other is ever offered the file."""
    picture = _open_with_pillow(header)
    if picture.size != (header.width_px, header.height_px):
        refuse_damaged(header.format, "it states two different sizes")
    picture.load()
    return PillowPicture(picture)


def _open_with_pillow(header: PictureHeader) -> Image:
    """Open a file with the plugin of its format."""
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

    plugins: dict[str, Any] = {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
    }
    try:
        picture: Image = plugins[header.format](io.BytesIO(header.data))
    except (SyntaxError, KeyError) as error:
        if header.format == "TIFF" and "unknown" in str(error):
            raise UnsupportedImage(
                "This kind of TIFF is not read (its channels are of an unknown kind).", EXPORT
            ) from (error)
        raise
    return picture


def _decode_webp(header: PictureHeader) -> DecodedPicture:
    """Decode a still WebP with OpenCV: Pillow's decoder of animations keeps four copies of a picture in memory."""
    import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(header.data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(str(error)) from error
    if pixels is None or pixels.ndim != 3 or pixels.dtype != np.uint8:
        refuse_damaged("WebP", "its pixels cannot be decoded")
    if pixels.shape[2] == 4:
        return ArrayPicture(np.asarray(pixels, dtype=np.uint8), "RGBA", "BGRA")
    return ArrayPicture(np.asarray(pixels, dtype=np.uint8), "RGB", "BGR")


def _decode_heic(header: PictureHeader) -> DecodedPicture:
    """Decode the picture that ``formats.heic`` has opened."""
    picture = header.handle
    pixels = np.asarray(picture)
    if picture.mode not in ("L", "LA", "RGB", "RGBA", "RGBa") or pixels.dtype != np.uint8:
        raise UnsupportedImage(f"This kind of HEIC is not read (mode {picture.mode}).", EXPORT)
    width = picture.size[0]  # rows may be padded
    return ArrayPicture(pixels[:, :width], "RGBA" if picture.mode == "RGBa" else picture.mode, picture.mode)
