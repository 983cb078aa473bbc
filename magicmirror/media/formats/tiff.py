"""TIFF and BigTIFF: the first directory is read with bounds and written anew, with known tags only.

The decoder never sees another directory, a pointer to one, or a tag of unknown meaning.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import ceil

from magicmirror.errors import UnsupportedImage
from magicmirror.media.formats.header import (
    EXPORT,
    MAX_ICC_BYTES,
    PictureHeader,
    check_size,
    refuse_costly,
    refuse_damaged,
    refuse_truncated,
)
from magicmirror.media.formats.ifd import ORIENTATION, TYPES, Directory, read_directory
from magicmirror.media.formats.jpeg import MAX_SCAN_SAMPLES

MAX_PARTS = 50_000
MAX_TILE_BYTES = 64 * 1024 * 1024
MAX_UNPACKED_BYTES = 400_000_000

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
SUB_DIRECTORIES, SAMPLE_FORMAT, JPEG_TABLES, ICC_PROFILE, DNG_VERSION = 330, 339, 347, 34675, 50706
PART_TAGS = (STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES)
# Tags that are handed on, with the most values that each may have.
KEPT_TAGS = {
    **dict.fromkeys((WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS_PER_STRIP, PLANAR), 1),
    **dict.fromkeys((TILE_WIDTH, TILE_HEIGHT, 266, 292, 293, 317, 332, 531), 1),  # fill order, fax, predictor, inks
    **dict.fromkeys((BITS, SAMPLE_FORMAT, 338, 529, 530, 532), 8),  # extra samples; how YCbCr is coded
    **dict.fromkeys(PART_TAGS, MAX_PARTS),
    320: 3 * 256,  # palette
    JPEG_TABLES: 65_536,
}
# none, fax (3), LZW, JPEG, deflate (2), PackBits, Zstandard
JPEG = 7
READ_COMPRESSIONS = {1, 2, 3, 4, 5, JPEG, 8, 32773, 32946, 50000}


@dataclass(frozen=True)
class _Layout:
    """How the pixels are cut into strips or tiles."""

    count: int
    part_width: int
    part_height: int
    offsets_tag: int
    bytes_tag: int


def read_tiff(data: bytes, max_pixels: int) -> PictureHeader:
    """Read the first picture of a TIFF.

    Raises:
        ImageError: One of its kinds, see ``load_image``.
    """
    directory = read_directory(data)
    if directory is None:
        refuse_truncated("TIFF")
    if DNG_VERSION in directory.entries or (SUB_DIRECTORIES in directory.entries and directory.integer(SUBFILE, 0) & 1):
        raise UnsupportedImage("The file is not a picture but a camera's raw data.", EXPORT)
    width, height = directory.integer(WIDTH, 0), directory.integer(HEIGHT, 0)
    check_size(width, height, max_pixels)
    compression = directory.integer(COMPRESSION, 1)
    if compression not in READ_COMPRESSIONS:
        raise UnsupportedImage(f"This kind of TIFF is not read (compression {compression}).", EXPORT)
    bits = directory.integers(BITS, 8) or (1,)
    samples = directory.integer(SAMPLES, len(bits))
    if not 1 <= samples <= 8 or not 1 <= max(bits) <= 32:
        raise UnsupportedImage(f"This kind of TIFF is not read ({samples} channels, {bits[0]} bits).", EXPORT)
    layout = _layout(directory, width, height, samples, max(bits) * samples / 8)
    if compression == 1 and layout.count > samples and directory.integer(PLANAR, 1) == 2 and max(bits) > 8:
        raise UnsupportedImage("This kind of TIFF is not read (separate channels of 16 bits).", EXPORT)
    profile = directory.raw(ICC_PROFILE, MAX_ICC_BYTES)
    orientation = directory.integer(ORIENTATION, 1)
    return PictureHeader(
        format="TIFF",
        width_px=width,
        height_px=height,
        data=_rewrite(directory, layout),
        icc_profile=profile or b"",
        orientation=orientation if 1 <= orientation <= 8 else 1,
        sample_bits=bits[0],
        signed=directory.integer(SAMPLE_FORMAT, 1) == 2,
        white_is_zero=directory.integer(PHOTOMETRIC, 1) == 0,
    )


def _layout(directory: Directory, width: int, height: int, samples: int, pixel_bytes: float) -> _Layout:
    """Return the checked layout of strips or tiles."""
    planes = samples if directory.integer(PLANAR, 1) == 2 else 1
    if width * height * pixel_bytes > MAX_UNPACKED_BYTES:
        refuse_costly("TIFF", f"its pixels take more than {MAX_UNPACKED_BYTES:,} bytes")
    if TILE_OFFSETS in directory.entries:
        part_width, part_height = directory.integer(TILE_WIDTH, 0), directory.integer(TILE_HEIGHT, 0)
        tags = TILE_OFFSETS, TILE_BYTES
    else:
        part_width, part_height = width, min(directory.integer(ROWS_PER_STRIP, height), height)
        tags = STRIP_OFFSETS, STRIP_BYTES
    if part_width <= 0 or part_height <= 0:
        refuse_damaged("TIFF", "its strips or tiles have no size")
    count = ceil(width / part_width) * ceil(height / part_height) * planes
    if count > MAX_PARTS:
        refuse_costly("TIFF", f"it is cut into {count:,} parts")
    area = part_width * part_height
    if tags[0] == TILE_OFFSETS and (
        area * pixel_bytes > MAX_TILE_BYTES or area * (count // planes) > 2 * width * height + 64_000_000
    ):
        refuse_costly("TIFF", f"it has tiles of {part_width} x {part_height} pixels")
    scans = directory.data.count(b"\xff\xda") if directory.integer(COMPRESSION, 1) == JPEG else 0
    if scans * area * samples > MAX_SCAN_SAMPLES:
        refuse_costly("TIFF", f"its {scans:,} JPEG scans pass over the pixels too many times")
    layout = _Layout(count, part_width, part_height, *tags)
    _check_parts(directory, layout)
    return layout


def _check_parts(directory: Directory, layout: _Layout) -> None:
    """Check that all strips or tiles are inside the file, and are not the same bytes again and again."""
    entry = directory.entries.get(layout.offsets_tag)
    if entry is None:
        refuse_damaged("TIFF", "it holds no pixels")
    offsets = _parts(directory, layout.offsets_tag, layout.count)
    if len(offsets) < layout.count:
        if entry.count >= layout.count:
            refuse_truncated("TIFF")
        refuse_damaged("TIFF", f"{layout.count - len(offsets)} of its parts are missing")
    sizes = _parts(directory, layout.bytes_tag, layout.count) or (1,) * layout.count
    size = len(directory.data)
    if any(offset + length > size for offset, length in zip(offsets, sizes, strict=False)):
        refuse_truncated("TIFF")
    if sum(sizes) > 2 * size + 65_536:
        refuse_costly("TIFF", "it unpacks the same data again and again")


def _parts(directory: Directory, tag: int, count: int) -> tuple[int, ...]:
    """Return the first ``count`` numbers of a tag that describes strips or tiles."""
    entry = directory.entries.get(tag)
    if entry is None or entry.kind not in (3, 4, 16):
        return ()
    letter, size = TYPES[entry.kind]
    number = min(entry.count, count)
    if entry.offset + number * size > len(directory.data):
        return ()
    return struct.unpack_from(f"{directory.order}{number}{letter}", directory.data, entry.offset)


def _rewrite(directory: Directory, layout: _Layout) -> bytes:
    """Return the file with one new classic directory at its end, of known tags only."""
    order, data = directory.order, directory.data
    rows = []
    for tag, most in sorted(KEPT_TAGS.items()):
        row = _kept_row(directory, layout, tag, most)
        if row is not None:
            rows.append((tag, *row))
    start = len(data) + len(data) % 2
    values_at = start + 2 + 12 * len(rows) + 4
    table = values = b""
    for tag, kind, count, packed in rows:
        if len(packed) <= 4:
            room = packed.ljust(4, b"\0")
        else:
            room = struct.pack(order + "I", values_at + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        table += struct.pack(order + "HHI", tag, kind, count) + room
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    padding = b"\0" * (start - len(data))
    size, no_next = struct.pack(order + "H", len(rows)), struct.pack(order + "I", 0)
    return b"".join((header, data[8:], padding, size, table, no_next, values))


def _kept_row(directory: Directory, layout: _Layout, tag: int, most: int) -> tuple[int, int, bytes] | None:
    """Return type, count and packed values of a tag for the new directory; ``None`` to leave it out."""
    entry = directory.entries.get(tag)
    if entry is None or entry.kind not in TYPES:
        return None
    if tag in PART_TAGS:
        wanted = tag in (layout.offsets_tag, layout.bytes_tag)
        numbers = _parts(directory, tag, layout.count) if wanted else ()
    elif TYPES[entry.kind][0] == "s":
        raw = directory.raw(tag, most)
        return None if raw is None else (entry.kind, entry.count, raw)
    else:
        numbers = directory.integers(tag, most)
    if not numbers:
        return None
    kind = 4 if entry.kind == 16 else entry.kind  # a classic file has no numbers of 64 bits
    capped = [min(number, 2**32 - 1) for number in numbers]
    return kind, len(capped), struct.pack(f"{directory.order}{len(capped)}{TYPES[kind][0]}", *capped)
