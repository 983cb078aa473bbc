"""HEIC and HEIF, where the library ``pillow-heif`` is installed: boxes are bounded before it opens the file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from magicmirror.errors import TruncatedImage, UnsupportedImage
from magicmirror.media.formats.header import (
    MAX_ICC_BYTES,
    PictureHeader,
    check_size,
    refuse_costly,
    refuse_damaged,
    refuse_truncated,
)

MAX_ITEMS = 2_000
PADDING_PX = 63
_META = b"meta"


def read_heic(data: bytes, max_pixels: int) -> PictureHeader:
    """Read the header of the primary picture of a HEIC file.

    Its own transformations (turns, mirrors, cuts) are applied by the decoder and take precedence over EXIF, as the
    format's specification says.

    Raises:
        ImageError: One of its kinds, see ``load_image``.
    """
    _check_boxes(data, max_pixels)
    try:
        import pillow_heif
    except ImportError as error:
        raise UnsupportedImage(
            "HEIC pictures are not read here, because the library pillow-heif is not installed.",
            "Run: pip install pillow-heif. Or export the picture as JPEG.",
        ) from error
    try:
        opened = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
        picture: Any = opened[opened.primary_index]
        width, height = picture.size
    except (ValueError, RuntimeError, OSError, EOFError, SyntaxError, IndexError, KeyError, TypeError) as error:
        refuse_damaged("HEIC", str(error).rstrip(".") or "it cannot be opened")
    check_size(width, height, max_pixels)
    profile = picture.info.get("icc_profile") or b""
    return PictureHeader(
        format="HEIC",
        width_px=width,
        height_px=height,
        data=data,
        icc_profile=profile if len(profile) <= MAX_ICC_BYTES else b"",
        handle=picture,
    )


def _check_boxes(data: bytes, max_pixels: int) -> None:
    """Check that all boxes end inside the file, that every stated size is accepted, and that no byte is used often."""
    has_meta = False
    for name, start, end in _boxes(data, 0, len(data)):
        if name != _META:
            continue
        has_meta = True
        for inner, inner_start, inner_end in _boxes(data, start + 4, end):
            if inner == b"iloc":
                _check_locations(data[inner_start:inner_end], len(data))
            elif inner == b"iprp":
                _check_properties(data, inner_start, inner_end, max_pixels)
    if not has_meta:
        refuse_truncated("HEIC")


def _check_properties(data: bytes, start: int, end: int, max_pixels: int) -> None:
    """Check the size of every item."""
    for name, inner, stop in _boxes(data, start, end):
        if name != b"ipco":
            continue
        for prop, at, after in _boxes(data, inner, stop):
            if prop == b"ispe" and after - at >= 12:
                width, height = struct.unpack_from(">II", data, at + 4)
                # Coded pictures are padded and then cut; the size that is left is checked once it is known.
                check_size(max(width - PADDING_PX, 1), max(height - PADDING_PX, 1), max_pixels)


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the payload of each box in a range."""
    position = start
    for _ in range(MAX_ITEMS):
        if position + 8 > end:
            return
        (length,) = struct.unpack_from(">I", data, position)
        name = data[position + 4 : position + 8]
        head = 8
        if length == 1 and position + 16 <= end:
            (length,) = struct.unpack_from(">Q", data, position + 8)
            head = 16
        stop = end if length == 0 else position + length
        if stop < position + head:
            refuse_damaged("HEIC", "a box is shorter than its head")
        if stop > end:
            refuse_truncated("HEIC")
        yield name, position + head, stop
        position = stop
    refuse_costly("HEIC", f"it has more than {MAX_ITEMS:,} boxes")


def _check_locations(box: bytes, file_bytes: int) -> None:
    """Check that the items together are not much longer than the file: thousands of items may share its bytes."""
    numbers = _Numbers(box)
    version = numbers.take(4) >> 24
    sizes = numbers.take(2)
    offset_bytes, length_bytes, base_bytes, index_bytes = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    index_bytes = index_bytes if version in (1, 2) else 0
    items = numbers.take(4 if version == 2 else 2)
    if items > MAX_ITEMS:
        refuse_costly("HEIC", f"it has {items:,} items")
    total = extents = 0
    for _ in range(items):
        numbers.take((4 if version == 2 else 2) + (2 if version in (1, 2) else 0) + 2 + base_bytes)
        for _ in range(numbers.take(2)):
            numbers.take(index_bytes + offset_bytes)
            total += numbers.take(length_bytes) or file_bytes
            extents += 1
            if total > 2 * file_bytes + 65_536 or extents > 10 * MAX_ITEMS:
                refuse_costly("HEIC", "its items use the same data again and again")


class _Numbers:
    """Reads big-endian numbers one after another.

    Args:
        data: The bytes to read from.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> int:
        """Return the next number of ``size`` bytes.

        Raises:
            TruncatedImage: When the data ends before it.
        """
        end = self._position + size
        if end > len(self._data):
            raise TruncatedImage("The HEIC picture is truncated: a table ends too early.", "Copy it again.")
        value = int.from_bytes(self._data[self._position : end], "big")
        self._position = end
        return value
