"""Bad pictures by the thousand: every one is made from its number alone.

``make_input(number)`` always gives the same bytes, so that an input which breaks something is named by its number.
"""

from __future__ import annotations

import functools
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tests.media.corpus_bases import build_bases, build_faces
from tests.pictures import encoded

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "HEIC")
SUFFIXES = (".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff", ".heic", "", ".txt")
ODD_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
FACE_SHARE = 0.02
BIG_SIDES = (0, 1, 4_000, 16_383, 20_000, 20_001, 30_000, 65_535, 2**31 - 1, 2**31, 2**32 - 1)


@dataclass(frozen=True)
class BadInput:
    """One input of the corpus.

    Args:
        number: Its number.
        kind: What was done to make it bad.
        data: The file.
        suffix: Ending of its name; ``None`` to hand over the bytes.
    """

    number: int
    kind: str
    data: bytes
    suffix: str | None


@functools.cache
def bases() -> dict[str, list[bytes]]:
    """The valid pictures, made once a process."""
    return {form: files for form, files in build_bases().items() if files}


@functools.cache
def faces() -> dict[str, list[bytes]]:
    """The valid portraits, made once a process."""
    return {form: files for form, files in build_faces().items() if files}


def make_input(number: int) -> BadInput:
    """Make one input of the corpus."""
    rng = np.random.default_rng([2026, number])
    kinds = tuple(KINDS)
    kind = kinds[number % len(kinds)]
    forms = [form for form in FORMATS if form in bases()]
    form = forms[number // len(kinds) % len(forms)]
    data, suffix = KINDS[kind](rng, form), None
    if kind == "wrong name":
        suffix = str(rng.choice(SUFFIXES))
    elif rng.random() < 0.1:
        suffix = SUFFIXES[FORMATS.index(form)]
    return BadInput(number, f"{kind}, {form}", data, suffix)


def pick(rng: np.random.Generator, form: str) -> bytearray:
    """A valid picture of a format."""
    files = faces().get(form, bases()[form]) if rng.random() < FACE_SHARE else bases()[form]
    return bytearray(files[rng.integers(len(files))])


def flip_bits(rng: np.random.Generator, form: str) -> bytes:
    """One to twenty bits anywhere."""
    data = pick(rng, form)
    for position in rng.integers(0, len(data) * 8, rng.integers(1, 21)):
        data[position // 8] ^= 1 << int(position % 8)
    return bytes(data)


def spoil_header(rng: np.random.Generator, form: str) -> bytes:
    """A few bytes near the start, where sizes and tables are."""
    data = pick(rng, form)
    for position in rng.integers(2, min(len(data), 400), rng.integers(1, 6)):
        data[position] = rng.integers(256)
    return mend_checksums(data) if form == "PNG" and rng.random() < 0.8 else bytes(data)


def plant_odd_numbers(rng: np.random.Generator, form: str) -> bytes:
    """Numbers at the edge of their type, wherever a field may be."""
    data = pick(rng, form)
    for position in rng.integers(2, max(3, min(len(data) - 4, 1_000)), rng.integers(1, 4)):
        value, order = ODD_NUMBERS[rng.integers(len(ODD_NUMBERS))], ("<", ">")[rng.integers(2)]
        size = (1, 2, 4)[rng.integers(3)]
        field = struct.pack(order + "I", value)
        data[position : position + size] = field[:size] if order == "<" else field[4 - size :]
    return mend_checksums(data) if form == "PNG" and rng.random() < 0.8 else bytes(data)


def splice(rng: np.random.Generator, form: str) -> bytes:
    """A range cut out, doubled or moved, or the head of one file on the tail of another."""
    data = pick(rng, form)
    start, end = sorted(rng.integers(0, len(data), 2))
    way = rng.integers(4)
    if way == 0:
        return bytes(data[:start] + data[end:])
    if way == 1:
        return bytes(data[:end] + data[start:])
    if way == 2:
        return bytes(data[:start] + data[start:end][::-1] + data[end:])
    other = pick(rng, list(bases())[rng.integers(len(bases()))])
    return bytes(data[:end] + other[rng.integers(len(other)) :])


def fill(rng: np.random.Generator, form: str) -> bytes:
    """A range of one byte, or of noise."""
    data = pick(rng, form)
    start = int(rng.integers(4, len(data)))
    end = min(len(data), start + int(rng.integers(1, 200)))
    way = rng.integers(3)
    data[start:end] = rng.bytes(end - start) if way == 2 else bytes([way * 255]) * (end - start)
    return bytes(data)


def truncate(rng: np.random.Generator, form: str) -> bytes:
    """The file ends anywhere, from its first byte to its last but one."""
    data = pick(rng, form)
    return bytes(data[: rng.integers(0, len(data))])


def misname(rng: np.random.Generator, form: str) -> bytes:
    """A valid picture, a text or a page; the name is chosen by ``make_input``."""
    texts = (b"hello", b"<!DOCTYPE html><html></html>", b"<svg xmlns='x'/>", b"%PDF-1.7\n", b"\0" * 50, b"{}")
    return bytes(pick(rng, form)) if rng.random() < 0.6 else texts[rng.integers(len(texts))]


def polyglot(rng: np.random.Generator, form: str) -> bytes:
    """Two formats in one file: either is first."""
    data = bytes(pick(rng, form))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a.txt", rng.bytes(30))
    tails = (
        archive.getvalue(),
        b"<script>alert(1)</script>",
        b"%PDF-1.4\n%%EOF",
        b"\0\0\0\x18ftypmp42" + rng.bytes(60),
    )
    tail = tails[rng.integers(len(tails))]
    if form == "GIF" and rng.random() < 0.5:  # the screen's width reads as the start of a comment
        return data[:6] + b"/*" + data[8:] + b"*/=1;alert(1)"
    return tail + data if rng.random() < 0.4 else data + tail


def huge_size(rng: np.random.Generator, form: str) -> bytes:
    """Another width and height where the format states them."""
    data = pick(rng, form)
    width, height = (BIG_SIDES[index] for index in rng.integers(len(BIG_SIDES), size=2))
    for place, field in SIZE_FIELDS[form](data, width, height):
        data[place : place + len(field)] = field
    return mend_checksums(data) if form == "PNG" else bytes(data)


def gif_sizes(data: bytearray, width: int, height: int) -> Iterator[tuple[int, bytes]]:
    """The screen, and for odd sums the first frame as well."""
    field = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
    frame = data.find(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    yield frame + 5, field
    if (width + height) % 2:
        yield 6, field


def jpeg_sizes(data: bytearray, width: int, height: int) -> Iterator[tuple[int, bytes]]:
    """The start of the frame."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        if marker in data:
            yield data.find(marker) + 5, struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)


def tiff_sizes(data: bytearray, width: int, height: int) -> Iterator[tuple[int, bytes]]:
    """The tags of width and height, as numbers of 16 or 32 bits."""
    for tag, value in ((256, width), (257, height)):
        for kind in (3, 4):
            place = data.find(struct.pack("<HH", tag, kind))
            if place > 0:
                yield place + 8, struct.pack("<I", value)


def webp_sizes(data: bytearray, width: int, height: int) -> Iterator[tuple[int, bytes]]:
    """The canvas and the picture."""
    for name, skip in ((b"VP8X", 12), (b"VP8 ", 14), (b"VP8L", 9)):
        if name in data:
            yield data.find(name) + skip, struct.pack("<I", (width | height << 14) & 0xFFFFFFFF)


SIZE_FIELDS: dict[str, Callable[[bytearray, int, int], Iterable[tuple[int, bytes]]]] = {
    "JPEG": jpeg_sizes,
    "PNG": lambda data, width, height: [(16, struct.pack(">II", width, height))],
    "WebP": webp_sizes,
    "GIF": gif_sizes,
    "BMP": lambda data, width, height: [(18, struct.pack("<II", width, height))],
    "TIFF": tiff_sizes,
    "HEIC": lambda data, width, height: [(data.find(b"ispe") + 8, struct.pack(">II", width, height))],
}


def nested(rng: np.random.Generator, form: str) -> bytes:
    """Directories in loops, thousands of frames, frames beyond the screen."""
    if form in ("GIF", "WebP", "PNG"):
        frame = b"\x21\xf9\x04\0\0\0\0\0\x2c" + struct.pack("<HHHH", *rng.integers(0, 70, 4)) + b"\0\x02\x02\x44\x01\0"
        count = int(rng.integers(1, 3_000))
        side = int(rng.integers(1, 60))
        return b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0" + bytes(6) + frame * count + b";"
    start = int(rng.integers(8, 40))
    count = int(rng.integers(1, 400))
    tags = rng.integers(254, 350, count)
    rows = b"".join(
        struct.pack("<HHII", tag, rng.integers(1, 14), rng.integers(1, 9), rng.integers(0, 5_000))
        for tag in sorted(tags)
    )
    sizes = struct.pack("<HHII", 256, 4, 1, 64) + struct.pack("<HHII", 257, 4, 1, 4) + rows
    table = struct.pack("<H", count + 2) + sizes + struct.pack("<I", start)
    pointer = struct.pack("<HHII", 34665, 4, 1, start) + struct.pack("<HHII", 330, 4, 1, start)
    if rng.random() < 0.5:
        table = struct.pack("<H", count + 4) + sizes + pointer + struct.pack("<I", start)
    return (b"II*\0" + struct.pack("<I", start)).ljust(start, b"\0") + table + rng.bytes(3_000)


def noise(rng: np.random.Generator, form: str) -> bytes:
    """Random bytes, most of them behind a valid mark."""
    head = bytes(pick(rng, form)[: rng.integers(0, 40)])
    return head + rng.bytes(int(rng.integers(0, 3_000)))


def chunk_bomb(rng: np.random.Generator, form: str) -> bytes:
    """Far too many parts, or parts that unpack to far more than they are."""
    many = int(rng.integers(1_000, 60_000))
    data = bytes(pick(rng, form))
    if form == "PNG":
        packed = zlib.compress(bytes(8_000_000), 9)
        bombs = (
            png_chunk(b"iCCP", b"a\0\0" + packed),
            png_chunk(b"zTXt", b"a\0\0" + packed) * 3,
            png_chunk(b"IDAT", b"") * many,
            png_chunk(b"tEXt", b"a\0b") * many,
            png_chunk(b"IDAT", packed),
            png_chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + rng.bytes(65_535 * 12)),
        )
        return data[:33] + bombs[rng.integers(len(bombs))] + data[33:]
    if form == "JPEG":
        segment = (b"\xff\xe1\0\x08Exif\0\0", b"\xff\xfe\0\x02", b"\xff\xe2\0\x10ICC_PROFILE\0\1\xff", b"\xff\xff\xff")
        return data[:2] + segment[rng.integers(len(segment))] * many + data[2:]
    if form == "GIF":
        end = 13 + 3 * 2 ** ((data[10] & 7) + 1)
        return data[:end] + b"\x21\xfe" + b"\xff" + b"x" * 255 + (b"\x01x" * many) + b"\0" + data[end:]
    if form == "WebP":
        return data[:4] + struct.pack("<I", len(data) - 8 + many * 8) + data[8:12] + b"JUNK\0\0\0\0" * many + data[12:]
    if form == "HEIC":
        return data + b"\0\0\0\x08free" * many
    if form == "TIFF":
        rows = b"".join(struct.pack("<HHII", tag, 7, 60_000, 8) for tag in range(700, 700 + min(many, 20_000)))
        return b"II*\0" + struct.pack("<I", 60_008) + rng.bytes(60_000) + struct.pack("<H", len(rows) // 12) + rows
    width = int(rng.integers(1, 4_000))
    runs = b"\1\7" * many + b"\0\2\0\0" * 10
    header = struct.pack("<IiiHHIIiiII", 40, width, int(rng.integers(1, 4_000)), 1, 8, 1, len(runs), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(runs), 0, 0, 54 + 1024) + header + bytes(1024) + runs


def scan_bomb(rng: np.random.Generator, form: str) -> bytes:
    """A progressive JPEG whose last scan comes hundreds of times, at a size that makes each cost."""
    data = bytes(bases()["JPEG"][1])
    frame = data.find(b"\xff\xc2")
    height, width = int(rng.integers(4, 200)), int(rng.integers(2_000, 10_000))
    data = data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]
    last = data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * int(rng.integers(20, 2_000)) + b"\xff\xd9"


def bad_metadata(rng: np.random.Generator, form: str) -> bytes:
    """EXIF data and colour profiles that are noise, or valid but for some bytes."""
    from PIL import Image, ImageCms

    picture = Image.new(("RGB", "L", "RGBA")[rng.integers(3)], (60, 3), "olive")
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = (b"RGB ", b"GRAY", b"CMYK", b"Lab ")[rng.integers(4)]
    for position in rng.integers(0, len(profile), rng.integers(0, 9)):
        profile[position] = rng.integers(256)
    exif = bytearray(b"Exif\0\0II*\0\x08\0\0\0\x02\0" + struct.pack("<HHII", 274, 3, 1, 6) + rng.bytes(40))
    for position in rng.integers(0, len(exif), rng.integers(0, 4)):
        exif[position] = rng.integers(256)
    if rng.random() < 0.2:
        profile, exif = bytearray(rng.bytes(200)), bytearray(rng.bytes(200))
    kind = {"PNG": "PNG", "WebP": "WEBP"}.get(form, "JPEG")
    picture = picture.convert("RGB") if kind == "JPEG" and picture.mode == "RGBA" else picture
    return encoded(picture, kind, icc_profile=bytes(profile), exif=bytes(exif))


def png_chunk(name: bytes, payload: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def mend_checksums(data: bytearray) -> bytes:
    """Give all chunks of a PNG their right checksums, so that what they say is believed."""
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(data)


KINDS: dict[str, Callable[[np.random.Generator, str], bytes]] = {
    "flipped bits": flip_bits,
    "spoilt header": spoil_header,
    "odd numbers": plant_odd_numbers,
    "spliced": splice,
    "filled": fill,
    "truncated": truncate,
    "wrong name": misname,
    "polyglot": polyglot,
    "huge size": huge_size,
    "nested": nested,
    "noise": noise,
    "chunk bomb": chunk_bomb,
    "scan bomb": scan_bomb,
    "bad metadata": bad_metadata,
}
