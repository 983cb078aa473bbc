"""Small valid pictures of every accepted format: what the bad inputs of the corpus are made from."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from tests.pictures import encoded

EXAMPLE = Path(__file__).resolve().parents[2] / "assets" / "examples" / "woman_1.jpg"


def run_length_bmp(width: int = 40, height: int = 5) -> bytes:
    """A BMP with 8-bit run-length coding, which Pillow cannot write."""
    rows = bytearray()
    for row in range(height):
        rows += bytes([width - 3, row * 40, 0, 3, 7, 8, 9, 0, 0, 0])
    rows += b"\0\1"
    palette = bytes(value for index in range(256) for value in (index, 255 - index, index, 0))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rows), 0, 0, 256, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + palette + bytes(rows)


def tiled_tiff(tile: int = 16, across: int = 6, down: int = 1) -> bytes:
    """An uncompressed tiled grey TIFF, which Pillow cannot write."""
    count = across * down
    pixels = np.random.default_rng(3).integers(0, 256, (count, tile, tile), dtype=np.uint8).tobytes()
    offsets = [8 + index * tile * tile for index in range(count)]
    tags = {256: across * tile, 257: down * tile, 258: 8, 259: 1, 262: 1, 277: 1, 322: tile, 323: tile}
    start = 8 + len(pixels)
    values_at = start + 2 + 12 * (len(tags) + 2) + 4
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    table += struct.pack("<HHII", 324, 4, count, values_at) + struct.pack("<HHII", 325, 4, count, values_at + 4 * count)
    values = struct.pack(f"<{count}I", *offsets) + struct.pack(f"<{count}I", *[tile * tile] * count)
    return b"II*\0" + struct.pack("<I", start) + pixels + struct.pack("<H", len(tags) + 2) + table + b"\0" * 4 + values


def exif_of(orientation: int) -> Image.Exif:
    """EXIF data with an orientation and some text."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    return exif


def build_bases() -> dict[str, list[bytes]]:
    """Format -> valid files. Most are long and flat, because those are searched for faces quickly."""
    rng = np.random.default_rng(0)
    noise = np.cumsum(rng.integers(-9, 10, (3, 96, 3)), axis=1).clip(-100, 100) + 128
    flat = Image.fromarray(noise.astype(np.uint8))
    tall = flat.transpose(Image.Transpose.ROTATE_90)
    grey = flat.convert("L")
    clear = flat.copy()
    clear.putalpha(Image.linear_gradient("L").resize(flat.size))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    real = Image.fromarray(np.asarray(grey).astype(np.float32) / 255)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"s\0R\0G\0B", b"q\0R\0G\0B")
    more = {"save_all": True, "append_images": [tall.resize(flat.size), flat]}
    about = {"exif": exif_of(6), "icc_profile": srgb}
    return {
        "JPEG": [
            encoded(flat, "JPEG", **about),
            encoded(flat, "JPEG", progressive=True),
            encoded(grey, "JPEG", exif=exif_of(3)),
            encoded(flat.convert("CMYK"), "JPEG", progressive=True),
            encoded(tall, "JPEG", restart_marker_blocks=1),
            encoded(flat, "MPO", save_all=True, append_images=[flat]),
        ],
        "PNG": [
            encoded(flat, "PNG", **about),
            encoded(clear, "PNG"),
            encoded(flat.convert("P"), "PNG", transparency=3),
            encoded(deep, "PNG"),
            encoded(grey.convert("1"), "PNG"),
            encoded(flat, "PNG", **more),
        ],
        "WebP": [
            encoded(flat, "WEBP", **about),
            encoded(clear, "WEBP", lossless=True),
            encoded(clear, "WEBP", quality=50),
            encoded(flat, "WEBP", **more),
        ],
        "GIF": [encoded(flat, "GIF"), encoded(flat, "GIF", **more), encoded(tall, "GIF", transparency=1)],
        "BMP": [
            encoded(flat, "BMP"),
            encoded(flat.convert("P"), "BMP"),
            encoded(grey.convert("1"), "BMP"),
            encoded(clear, "BMP"),
            run_length_bmp(),
        ],
        "TIFF": [
            encoded(flat, "TIFF", **about),
            encoded(flat, "TIFF", compression="tiff_lzw"),
            encoded(clear, "TIFF", compression="tiff_adobe_deflate"),
            encoded(flat, "TIFF", compression="packbits", big_tiff=True),
            encoded(flat, "TIFF", compression="jpeg"),
            encoded(grey.convert("1"), "TIFF", compression="group4"),
            encoded(grey.convert("1"), "TIFF", compression="group3"),
            encoded(deep, "TIFF"),
            encoded(real, "TIFF"),
            encoded(flat.convert("CMYK"), "TIFF", compression="tiff_lzw"),
            encoded(flat.convert("P"), "TIFF", **more),
            tiled_tiff(),
        ],
        "HEIC": heic_files(flat, clear),
    }


def build_faces() -> dict[str, list[bytes]]:
    """Format -> a valid portrait. A search that finds no face in one takes seconds, so they are few."""
    face = Image.open(EXAMPLE).convert("RGB").resize((96, 96))
    return {
        "JPEG": [encoded(face, "JPEG")],
        "PNG": [encoded(face, "PNG")],
        "WebP": [encoded(face, "WEBP")],
        "BMP": [encoded(face, "BMP")],
        "TIFF": [encoded(face, "TIFF", compression="tiff_lzw")],
        "HEIC": heic_files(face),
    }


def heic_files(*pictures: Image.Image) -> list[bytes]:
    """One HEIC for each picture and one with all of them; none where the library is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return []
    every = pillow_heif.HeifFile()
    files = []
    for picture in pictures:
        every.add_from_pillow(picture)
        files.append(pillow_heif.from_pillow(picture))
    return [_saved(file) for file in (*files, every)]


def _saved(file: Any) -> bytes:
    """The bytes of a HEIC."""
    buffer = io.BytesIO()
    file.save(buffer, quality=50, enc_params={"preset": "ultrafast"})
    return buffer.getvalue()
