"""WebP: chunks are walked and the file is cut down to one still picture."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from magicmirror.media.formats.header import (
    MAX_ICC_BYTES,
    PictureHeader,
    check_size,
    refuse_costly,
    refuse_damaged,
    refuse_truncated,
)
from magicmirror.media.formats.ifd import exif_orientation

MAX_CHUNKS = 10_000
_ALPHA_FLAG = 0x10


def read_webp(data: bytes, max_pixels: int) -> PictureHeader:
    """Read the header of a WebP and cut out its picture, or the first frame of its animation.

    Raises:
        ImageError: One of its kinds, see ``load_image``.
    """
    parts: dict[bytes, bytes] = {}
    frame = b""
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    for name, payload in _chunks(data, 12, end):
        parts.setdefault(name, payload)
        if name == b"ANMF" and not frame:
            frame = payload
    canvas, offset = None, (0, 0)
    if b"VP8X" in parts:
        canvas = _canvas(parts[b"VP8X"])
        check_size(*canvas, max_pixels)
    if frame:
        offset, parts = _first_frame(frame, parts)
    width, height, picture = _still(parts, max_pixels)
    canvas = canvas or (width, height)
    if offset[0] + width > canvas[0] or offset[1] + height > canvas[1]:
        refuse_damaged("WebP", "a frame is larger than the canvas")
    profile = parts.get(b"ICCP", b"")
    return PictureHeader(
        format="WebP",
        width_px=width,
        height_px=height,
        data=picture,
        icc_profile=profile if len(profile) <= MAX_ICC_BYTES else b"",
        orientation=exif_orientation(parts.get(b"EXIF", b"")),
        offset_px=offset,
        canvas_px=canvas,
    )


def _chunks(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and payload of the chunks in a range."""
    position = start
    for _ in range(MAX_CHUNKS):
        if position + 8 > end:
            return
        if position + 8 > len(data):
            refuse_truncated("WebP")
        name = data[position : position + 4]
        (length,) = struct.unpack_from("<I", data, position + 4)
        stop = position + 8 + length
        if stop > len(data):
            refuse_truncated("WebP")
        yield name, data[position + 8 : stop]
        position = stop + length % 2
    refuse_costly("WebP", f"it has more than {MAX_CHUNKS:,} chunks")


def _canvas(payload: bytes) -> tuple[int, int]:
    """Return width and height of the canvas."""
    if len(payload) < 10:
        refuse_damaged("WebP", "its size is missing")
    return int.from_bytes(payload[4:7], "little") + 1, int.from_bytes(payload[7:10], "little") + 1


def _first_frame(frame: bytes, parts: dict[bytes, bytes]) -> tuple[tuple[int, int], dict[bytes, bytes]]:
    """Return where the first frame of an animation lies, and its chunks with the file's metadata."""
    if len(frame) < 16:
        refuse_truncated("WebP")
    left, top = (2 * int.from_bytes(frame[at : at + 3], "little") for at in (0, 3))
    inner = dict(reversed(list(_chunks(frame, 16, len(frame)))))
    for name in (b"ICCP", b"EXIF"):
        if name in parts:
            inner[name] = parts[name]
    return (left, top), inner


def _still(parts: dict[bytes, bytes], max_pixels: int) -> tuple[int, int, bytes]:
    """Return width, height and file of one picture without metadata."""
    if b"VP8L" in parts:
        payload = parts[b"VP8L"]
        if len(payload) < 5 or payload[0] != 0x2F:
            refuse_damaged("WebP", "its size is missing")
        bits = int.from_bytes(payload[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        chunks = _chunk(b"VP8L", payload)
    elif b"VP8 " in parts:
        payload = parts[b"VP8 "]
        if len(payload) < 10 or payload[3:6] != b"\x9d\x01\x2a":
            refuse_damaged("WebP", "its size is missing")
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", payload, 6))
        chunks = _chunk(b"VP8 ", payload)
        if b"ALPH" in parts:
            sides = b"".join((side - 1).to_bytes(3, "little") for side in (max(width, 1), max(height, 1)))
            chunks = _chunk(b"VP8X", bytes([_ALPHA_FLAG, 0, 0, 0]) + sides) + _chunk(b"ALPH", parts[b"ALPH"]) + chunks
    else:
        refuse_damaged("WebP", "it holds no pixels")
    check_size(width, height, max_pixels)
    return width, height, b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def _chunk(name: bytes, payload: bytes) -> bytes:
    """Encode one chunk."""
    return name + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)
