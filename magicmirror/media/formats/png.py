"""PNG: chunks are walked, their checksums verified, and only those of the still picture are kept."""

from __future__ import annotations

import struct
import zlib

from magicmirror.media.formats.header import (
    MAX_ICC_BYTES,
    PictureHeader,
    check_size,
    refuse_costly,
    refuse_damaged,
    refuse_truncated,
)
from magicmirror.media.formats.ifd import exif_orientation

MAX_CHUNKS = 50_000
SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ONCE = (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf")


def read_png(data: bytes, max_pixels: int) -> PictureHeader:
    """Read the header of a PNG and put its still picture together again.

    All pixel data becomes one chunk; text, animation frames, unknown chunks and what follows the end are dropped. An
    animation's picture is its default image.

    Raises:
        ImageError: One of its kinds, see ``load_image``.
    """
    once, pixels = _walk(data, max_pixels)
    width, height, bits = struct.unpack_from(">IIB", once[b"IHDR"])
    kept = [(b"IHDR", once[b"IHDR"])]
    if b"PLTE" in once:
        kept.append((b"PLTE", once[b"PLTE"][: 3 * 256]))
    if b"tRNS" in once and bits <= 8:  # of a 16-bit picture the decoder keeps 8 bits, which a 16-bit key cannot meet
        kept.append((b"tRNS", once[b"tRNS"][:256]))
    kept += [(b"IDAT", pixels), (b"IEND", b"")]
    return PictureHeader(
        format="PNG",
        width_px=width,
        height_px=height,
        data=SIGNATURE + b"".join(_chunk(name, payload) for name, payload in kept),
        icc_profile=_profile(once.get(b"iCCP", b"")),
        orientation=exif_orientation(once.get(b"eXIf", b"")),
        sample_bits=bits,
    )


def _walk(data: bytes, max_pixels: int) -> tuple[dict[bytes, bytes], bytes]:
    """Return the chunks that occur once, and the joined pixel data."""
    once: dict[bytes, bytes] = {}
    pixels: list[bytes] = []
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            refuse_truncated("PNG")
        (length,) = struct.unpack_from(">I", data, position)
        name = data[position + 4 : position + 8]
        end = position + 8 + length
        if not once:
            _check_first(data, name, length, max_pixels)
        if not name.isalpha():
            refuse_damaged("PNG", "a chunk has no valid name")
        if end + 4 > len(data):
            refuse_truncated("PNG")
        if name == b"IEND":
            break
        if name == b"IDAT":
            pixels.append(_payload(data, position, end))
        elif name in _ONCE:
            once.setdefault(name, _payload(data, position, end))
        position = end + 4
    else:
        refuse_costly("PNG", f"it has more than {MAX_CHUNKS:,} chunks")
    if not pixels:
        refuse_damaged("PNG", "it holds no pixels")
    return once, b"".join(pixels)


def _check_first(data: bytes, name: bytes, length: int, max_pixels: int) -> None:
    """Check the size before anything else can go wrong, so that a bomb is called a bomb."""
    if name != b"IHDR" or length != 13:
        refuse_damaged("PNG", "it does not start with its size")
    if len(data) < len(SIGNATURE) + 8 + length:
        refuse_truncated("PNG")
    width, height = struct.unpack_from(">II", data, len(SIGNATURE) + 8)
    check_size(width, height, max_pixels)


def _payload(data: bytes, position: int, end: int) -> bytes:
    """Return what the chunk at ``position`` holds, once its checksum has been verified."""
    if zlib.crc32(memoryview(data)[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
        refuse_damaged("PNG", f"the checksum of {data[position + 4 : position + 8].decode()} is wrong")
    return data[position + 8 : end]


def _chunk(name: bytes, payload: bytes) -> bytes:
    """Encode one chunk."""
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def _profile(chunk: bytes) -> bytes:
    """Unpack a colour profile, but never more than ``MAX_ICC_BYTES`` of it; empty when it is damaged."""
    _, _, packed = chunk.partition(b"\0")
    try:
        profile = zlib.decompressobj().decompress(packed[1:], MAX_ICC_BYTES + 1)
    except zlib.error:
        return b""
    return profile if len(profile) <= MAX_ICC_BYTES else b""
