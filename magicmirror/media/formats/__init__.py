"""One reader per picture format: each checks a file before a pixel is decoded and cuts it down to one picture."""

from __future__ import annotations

from collections.abc import Callable

from magicmirror.media.formats.bmp import read_bmp
from magicmirror.media.formats.gif import read_gif
from magicmirror.media.formats.header import PictureFormat, PictureHeader
from magicmirror.media.formats.heic import read_heic
from magicmirror.media.formats.jpeg import read_jpeg
from magicmirror.media.formats.png import read_png
from magicmirror.media.formats.tiff import read_tiff
from magicmirror.media.formats.webp import read_webp

READERS: dict[PictureFormat, Callable[[bytes, int], PictureHeader]] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "WebP": read_webp,
    "GIF": read_gif,
    "BMP": read_bmp,
    "TIFF": read_tiff,
    "HEIC": read_heic,
}

__all__ = ["READERS", "PictureFormat", "PictureHeader"]
