"""Image file directories: the tables in which TIFF and EXIF keep their tags.

Read with bounds everywhere: a directory is one table of a known size, values are fetched only on request, and no
pointer to a further directory is ever followed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

ORIENTATION = 274
_EXIF_PREFIX = b"Exif\0\0"
# Type number -> (struct letter, bytes). Rationals are kept as bytes.
TYPES = {1: ("B", 1), 2: ("s", 1), 3: ("H", 2), 4: ("I", 4), 5: ("s", 8), 7: ("s", 1), 16: ("Q", 8)}


@dataclass(frozen=True)
class Entry:
    """One row of a directory.

    Args:
        kind: Type number of the TIFF specification.
        count: Number of values.
        offset: Where the values start in the file.
    """

    kind: int
    count: int
    offset: int


@dataclass(frozen=True)
class Directory:
    """The first directory of a file.

    Args:
        data: The file that holds it.
        order: ``<`` little or ``>`` big endian.
        entries: Tag -> row; the first row of a repeated tag.
    """

    data: bytes
    order: Literal["<", ">"]
    entries: dict[int, Entry]

    def raw(self, tag: int, max_count: int) -> bytes | None:
        """Return the bytes of a tag's values; ``None`` when it is absent, of an unknown type, too long or cut off."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in TYPES or not 0 < entry.count <= max_count:
            return None
        end = entry.offset + entry.count * TYPES[entry.kind][1]
        return self.data[entry.offset : end] if end <= len(self.data) else None

    def integers(self, tag: int, max_count: int = 64) -> tuple[int, ...]:
        """Return a tag's whole numbers; empty when it has none that can be read."""
        values = self.raw(tag, max_count)
        if values is None:
            return ()
        entry = self.entries[tag]
        letter = TYPES[entry.kind][0]
        return () if letter == "s" else struct.unpack(f"{self.order}{entry.count}{letter}", values)

    def integer(self, tag: int, default: int) -> int:
        """Return a tag's first whole number."""
        return (*self.integers(tag), default)[0]


def read_directory(data: bytes) -> Directory | None:
    """Read the first directory of a TIFF or BigTIFF file.

    Returns:
        The directory, or ``None`` when the file ends before it does or it has no place in the file.
    """
    order: Literal["<", ">"] = "<" if data[:2] == b"II" else ">"
    try:
        big = struct.unpack_from(order + "H", data, 2)[0] == 43
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        row = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
        first = start + (8 if big else 2)
        if count > 65535 or first + count * row.size > len(data):
            return None
    except struct.error:
        return None
    entries: dict[int, Entry] = {}
    room = 8 if big else 4
    for position in range(first, first + count * row.size, row.size):
        tag, kind, values, field = row.unpack_from(data, position)
        offset = position + row.size - room
        if kind in TYPES and values * TYPES[kind][1] > room:
            (offset,) = struct.unpack(order + ("Q" if big else "I"), field)
        entries.setdefault(tag, Entry(kind, values, offset))
    return Directory(data, order, entries)


def exif_orientation(exif: bytes) -> int:
    """Return the orientation in a block of EXIF data.

    Args:
        exif: The block, with or without its prefix.

    Returns:
        1 to 8; 1 (upright) when the block is damaged or says nothing.
    """
    data = exif.removeprefix(_EXIF_PREFIX)
    directory = read_directory(data) if data[:2] in (b"II", b"MM") else None
    value = directory.integer(ORIENTATION, 1) if directory else 1
    return value if 1 <= value <= 8 else 1
