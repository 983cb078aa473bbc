"""JPEG, and the first picture of an MPO: markers are walked, metadata is taken out, scans are counted."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

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
from magicmirror.media.formats.ifd import exif_orientation

MAX_SEGMENTS = 5_000
MAX_SCAN_SAMPLES = 1_300_000_000
"""Samples that all scans together may pass over. A progressive CMYK picture of 50 megapixels, written as usual, has 24
passes over its samples: 1.2e9."""

_MARKER = re.compile(rb"\xff[\x01-\xfe]")
# Inside entropy-coded data FF 00 stands for FF, and D0 to D7 are restart marks.
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_SOI, _EOI, _SOS, _COM, _APP0, _APP1, _APP2, _APP14 = 0xD8, 0xD9, 0xDA, 0xFE, 0xE0, 0xE1, 0xE2, 0xEE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_READ_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # baseline, extended, progressive; Huffman and arithmetic
_STANDALONE = {0x01, _SOI, *range(0xD0, 0xD8)}
_ICC_PREFIX = b"ICC_PROFILE\0"


@dataclass
class _Walk:
    """What has been seen of a file."""

    kept: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    frame: bytes = b""
    scan_components: int = 0
    orientation: int = 0
    profile_parts: dict[int, bytes] = field(default_factory=dict)
    ended: bool = False


def read_jpeg(data: bytes, max_pixels: int) -> PictureHeader:
    """Read the header of a JPEG and take out everything but its first picture.

    What follows the end of that picture (an MPO's second view, a phone's clip, an appended archive) is dropped, and so
    are all application segments but those that say how its colours are coded.

    Raises:
        ImageError: One of its kinds, see ``load_image``.
    """
    walk = _walk(data, max_pixels)
    if not walk.frame or not walk.scan_components:
        if walk.ended:
            refuse_damaged("JPEG", "it holds no pixels")
        refuse_truncated("JPEG")
    height, width = struct.unpack_from(">HH", walk.frame, 1)
    profile = b"".join(part for _, part in sorted(walk.profile_parts.items()))
    return PictureHeader(
        format="JPEG",
        width_px=width,
        height_px=height,
        data=b"".join(walk.kept),
        icc_profile=profile if len(profile) <= MAX_ICC_BYTES else b"",
        orientation=walk.orientation or 1,
    )


def _walk(data: bytes, max_pixels: int) -> _Walk:
    """Follow the markers to the end of the first picture."""
    walk = _Walk()
    position = 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            return walk
        position, marker = found.end(), data[found.end() - 1]
        if marker == _EOI:
            walk.kept.append(b"\xff\xd9")
            walk.ended = True
            return walk
        if marker in _STANDALONE:
            continue
        if position + 2 > len(data):
            refuse_truncated("JPEG")
        (length,) = struct.unpack_from(">H", data, position)
        if length < 2:
            refuse_damaged("JPEG", f"a segment has the length {length}")
        if position + length > len(data):
            refuse_truncated("JPEG")
        end = position + length
        if marker == _SOS:
            after = _AFTER_SCAN.search(data, end)
            end = after.start() if after else len(data)
            _count_scan(walk, data[position + 2 : position + 3])
        _take(walk, marker, data[position + 2 : position + length], b"\xff" + data[position - 1 : end], max_pixels)
        position = end
    return refuse_costly("JPEG", f"it has more than {MAX_SEGMENTS:,} segments")


def _take(walk: _Walk, marker: int, payload: bytes, segment: bytes, max_pixels: int) -> None:
    """Note what a segment says, and keep it if the decoder needs it."""
    if marker == _APP1 and payload.startswith(b"Exif\0") and not walk.orientation:
        walk.orientation = exif_orientation(payload)
    elif marker == _APP2 and payload.startswith(_ICC_PREFIX) and len(payload) > 14:
        walk.profile_parts.setdefault(payload[12], payload[14:])
    if marker in _FRAMES:
        _check_frame(walk, marker, payload, max_pixels)
    is_colour_mark = (marker == _APP14 and payload.startswith(b"Adobe")) or (
        marker == _APP0 and payload.startswith(b"JFIF\0")
    )
    if is_colour_mark or not (_APP0 <= marker <= 0xEF or marker == _COM):
        walk.kept.append(segment)


def _check_frame(walk: _Walk, marker: int, payload: bytes, max_pixels: int) -> None:
    """Check the segment that states size and channels."""
    if walk.frame:
        refuse_damaged("JPEG", "it states its size twice")
    if len(payload) < 6:
        refuse_damaged("JPEG", "its size is missing")
    bits, height, width, components = struct.unpack_from(">BHHB", payload)
    if marker not in _READ_FRAMES or bits != 8 or components not in (1, 3, 4):
        raise UnsupportedImage(
            f"This kind of JPEG is not read (type {marker - 0xC0}, {bits} bits, {components} channels).", EXPORT
        )
    check_size(width, height, max_pixels)
    walk.frame = payload


def _count_scan(walk: _Walk, components: bytes) -> None:
    """Add up the samples that the scans pass over."""
    if not walk.frame:
        refuse_damaged("JPEG", "its pixels come before its size")
    height, width = struct.unpack_from(">HH", walk.frame, 1)
    walk.scan_components += max(1, min(4, int.from_bytes(components)))
    if walk.scan_components * width * height > MAX_SCAN_SAMPLES:
        refuse_costly("JPEG", f"its scans pass over the {width} x {height} pixels too many times")
