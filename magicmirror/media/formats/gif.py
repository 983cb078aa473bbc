"""GIF: the file is cut down to its first frame."""

from __future__ import annotations

import struct

from magicmirror.media.formats.header import PictureHeader, check_size, refuse_damaged, refuse_truncated

_EXTENSION, _FRAME, _END = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9


def read_gif(data: bytes, max_pixels: int) -> PictureHeader:
    """Read the header of a GIF and cut it after its first frame.

    Comments and other extensions are dropped, as are all further frames. A frame may reach over the stated screen;
    the picture then covers both, and both together are held to the limits.

    Raises:
        ImageError: One of its kinds, see ``load_image``.
    """
    if len(data) < 13:
        refuse_truncated("GIF")
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    check_size(max(1, width), max(1, height), max_pixels)
    position = 13 + _palette_bytes(flags)
    start, control = data[:position], b""
    while True:
        if position >= len(data):
            refuse_truncated("GIF")
        kind = data[position]
        if kind == _FRAME:
            break
        if kind == _END:
            refuse_damaged("GIF", "it holds no pixels")
        if kind != _EXTENSION:
            refuse_damaged("GIF", f"an unknown block ({kind})")
        end = _after_blocks(data, position + 2)
        if data[position + 1] == _GRAPHIC_CONTROL and end == position + 8:
            control = data[position:end]
        position = end
    if position + 10 > len(data):
        refuse_truncated("GIF")
    left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, position + 1)
    if not frame_width or not frame_height:
        refuse_damaged("GIF", "its first frame has no pixels")
    width, height = max(width, left + frame_width), max(height, top + frame_height)
    check_size(width, height, max_pixels)
    end = _after_blocks(data, position + 10 + _palette_bytes(flags) + 1)
    frame = data[position:end]
    return PictureHeader("GIF", width, height, start + control + frame + bytes([_END]))


def _palette_bytes(flags: int) -> int:
    """Return the size of the colour table that some flags announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, position: int) -> int:
    """Return where a chain of sub-blocks ends."""
    while True:
        if position >= len(data):
            refuse_truncated("GIF")
        length = data[position]
        position += 1 + length
        if length == 0:
            return position
