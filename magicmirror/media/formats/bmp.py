"""BMP: the header is read and run-length coding is bounded."""

from __future__ import annotations

import struct

from magicmirror.errors import UnsupportedImage
from magicmirror.media.formats.header import (
    EXPORT,
    PictureHeader,
    check_size,
    refuse_costly,
    refuse_truncated,
)

HEADER_BYTES = (12, 16, 40, 52, 56, 64, 108, 124)
MAX_RUN_LENGTH_BYTES = 1024 * 1024
"""Pillow undoes run-length coding in Python, at about a megabyte a second; nobody codes photos so."""
_PLAIN, _BIT_FIELDS = (0,), (3, 6)
_RUN_LENGTH = (1, 2)


def read_bmp(data: bytes, max_pixels: int) -> PictureHeader:
    """Read the header of a BMP.

    Raises:
        ImageError: One of its kinds, see ``load_image``.
    """
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if len(data) < 14 + header_bytes:
        refuse_truncated("BMP")
    compression = 0
    if header_bytes == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    if header_bytes >= 40:
        (compression,) = struct.unpack_from("<I", data, 30)
    height = abs(height)  # negative: rows from top to bottom
    check_size(width, height, max_pixels)
    if compression in _RUN_LENGTH:
        if len(data) > MAX_RUN_LENGTH_BYTES:
            refuse_costly("BMP", f"it is run-length coded and has more than {MAX_RUN_LENGTH_BYTES:,} bytes")
    elif compression not in _PLAIN + _BIT_FIELDS:
        raise UnsupportedImage(f"This kind of BMP is not read (compression {compression}).", EXPORT)
    return PictureHeader("BMP", width, height, data)
