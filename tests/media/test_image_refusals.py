"""What is refused: every reason has its own error, its own words and a remedy."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from magicmirror import errors
from magicmirror.media import MAX_IMAGE_SIDE_PX, load_image
from tests.media.corpus import png_chunk
from tests.media.corpus_bases import heic_files
from tests.pictures import encoded

FLAT = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIC")


def file_of(kind: str) -> bytes:
    """A valid picture."""
    if kind == "HEIC":
        pytest.importorskip("pillow_heif")
        return heic_files(FLAT)[0]
    return encoded(FLAT, kind)


def refusal(source, **limits) -> errors.ImageError:
    """The error with which a source is refused."""
    with pytest.raises(errors.ImageError) as caught:
        load_image(source, **limits)
    assert caught.value.remedy
    return caught.value


def test_every_reason_has_its_own_error() -> None:
    png = file_of("PNG")
    cases = {
        errors.EmptyImage: refusal(b""),
        errors.ImageFileTooLarge: refusal(png, max_bytes=100),
        errors.ImageTooLarge: refusal(png, max_pixels=1_000),
        errors.CostlyImage: refusal(png[:33] + png_chunk(b"tEXt", b"") * 60_000 + png[33:]),
        errors.TruncatedImage: refusal(png[:-30]),
        errors.DamagedImage: refusal(png[:60] + b"\0" * 9 + png[69:]),
        errors.UnsupportedImage: refusal(b"%PDF-1.7"),
    }
    assert [type(error) for error in cases.values()] == list(cases)
    assert len({error.message for error in cases.values()}) == len(cases)
    assert issubclass(errors.CostlyImage, errors.ImageTooLarge)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_ends_early_is_called_truncated(kind: str) -> None:
    whole = file_of(kind)
    for share in (0.5, 0.9):
        error = refusal(whole[: int(len(whole) * share)])
        assert isinstance(error, errors.TruncatedImage), error
        assert "truncated" in error.message
    for end in (1, 3, 6, 8, 12, 20):
        refusal(whole[:end])


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"PK\x03\x04....", "a zip archive"),
        (b"8BPS....", "a Photoshop document"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf", "an AVIF picture"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1avifmiaf", "an AVIF picture"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video"),
        (b"RIFF....AVI LIST", "a video"),
        (b"\0\0\0\x18ftypcrx \0\0\0\0", "raw data"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\xef\xbb\xbf  <html>", "a web page"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"hello there", "plain text"),
        ("größer".encode("utf-16"), "plain text"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
        (b"\0\0\x01\0\x01\0", "an icon"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (bytes(range(128, 200)), "nothing that is known here"),
        (b"BMW are cars, and this is a text.", "plain text"),
    ],
)
def test_what_is_no_picture_is_called_by_its_name(tmp_path, start: bytes, what: str) -> None:
    error = refusal(start)
    assert isinstance(error, errors.UnsupportedImage)
    assert what in error.message
    named = tmp_path / "photo.jpg"
    named.write_bytes(start)
    error = refusal(named)
    assert isinstance(error, errors.MislabelledImage)
    assert what in error.message
    assert "named .jpg" in error.message


@pytest.mark.parametrize("kind", FORMATS)
def test_a_name_that_contradicts_the_content_is_refused(tmp_path, kind: str) -> None:
    content = file_of(kind)
    suffixes = {"JPEG": ".JPG", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}
    suffixes["HEIC"] = ".heic"
    for other, suffix in suffixes.items():
        path = tmp_path / f"photo{suffix}"
        path.write_bytes(content)
        if other == kind:
            assert load_image(path).shape == (48, 64, 3)
            continue
        error = refusal(path)
        assert isinstance(error, errors.MislabelledImage)
        assert f"named {suffix.lower()} but holds a {'WebP' if kind == 'WEBP' else kind} picture" in error.message
        assert "Rename it to ." in error.remedy
    for name in ("photo", "photo.upload", "photo.txt"):
        path = tmp_path / name
        path.write_bytes(content)
        assert load_image(path).shape == (48, 64, 3)


def test_raw_data_of_a_camera_is_refused_although_it_looks_like_tiff(tmp_path) -> None:
    path = tmp_path / "shot.NEF"
    path.write_bytes(file_of("TIFF"))
    assert "raw data" in refusal(path).message
    tiff = encoded(FLAT, "TIFF", tiffinfo={50706: b"\1\4\0\0"})
    assert "raw data" in refusal(tiff).message


def png_of_size(width: int, height: int) -> bytes:
    """The start of a PNG that promises a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1_000)))


def test_sides_and_pixels_are_limited_before_decoding() -> None:
    assert "a side of at most 20,000" in refusal(png_of_size(MAX_IMAGE_SIDE_PX + 1, 1)).message
    assert "at most 50,000,000" in refusal(png_of_size(10_000, 5_001)).message
    assert isinstance(refusal(png_of_size(10_000, 5_000)), errors.TruncatedImage)
    long = np.zeros((1, MAX_IMAGE_SIDE_PX, 3), np.uint8)
    assert load_image(encoded(Image.fromarray(long), "PNG")).shape == long.shape


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_held_to_the_pixels(kind: str) -> None:
    error = refusal(file_of(kind), max_pixels=48 * 64 - 1)
    assert type(error) is errors.ImageTooLarge
    assert "64 x 48 pixels; at most 3,071" in error.message


def test_small_files_that_cost_much_are_refused() -> None:
    jpeg = encoded(FLAT, "JPEG", progressive=True)
    frame, last = jpeg.find(b"\xff\xc2"), jpeg.rfind(b"\xff\xda")
    large = jpeg[: frame + 5] + struct.pack(">HH", 5_000, 5_000) + jpeg[frame + 9 : -2]
    cases = {
        "scans pass over": large + jpeg[last:-2] * 100 + b"\xff\xd9",
        "more than 5,000 segments": jpeg[:2] + b"\xff\xfe\0\x02" * 6_000 + jpeg[2:],
        "more than 10,000 chunks": b"RIFF" + struct.pack("<I", 200_000) + b"WEBP" + b"JUNK\0\0\0\0" * 20_000,
        "run-length coded": run_length_of(2_000_000),
        "again and again": reused_strips(),
        "tiles of 16000 x 16000": one_large_tile(),
    }
    for words, file in cases.items():
        error = refusal(file)
        assert isinstance(error, errors.CostlyImage), error
        assert words in error.message


def run_length_of(size: int) -> bytes:
    """A run-length coded BMP."""
    header = struct.pack("<IiiHHIIiiII", 40, 4_000, 4_000, 1, 8, 1, size, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 1_078 + size, 0, 0, 1_078) + header + bytes(1_024) + b"\1\7" * (size // 2)


def tiff_of(tags: dict[int, list[int]], pixels: bytes) -> bytes:
    """A little-endian TIFF; pixels start at byte 8."""
    start = 8 + len(pixels)
    table, values, values_at = b"", b"", start + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        field = packed if len(numbers) == 1 else struct.pack("<I", values_at + len(values))
        table += struct.pack("<HHI", tag, 4, len(numbers)) + field
        values += packed if len(numbers) > 1 else b""
    return b"II*\0" + struct.pack("<I", start) + pixels + struct.pack("<H", len(tags)) + table + bytes(4) + values


def reused_strips() -> bytes:
    """Thousands of strips that are all the same bytes."""
    pixels = zlib.compress(bytes(9_000)) * 10
    base = {256: [9_000], 257: [5_000], 258: [8], 259: [8], 262: [1], 277: [1], 278: [1]}
    return tiff_of({**base, 273: [8] * 5_000, 279: [len(pixels)] * 5_000}, pixels)


def one_large_tile() -> bytes:
    """A small picture in a tile of 256 megapixels."""
    base = {256: [64], 257: [64], 258: [8], 259: [8], 262: [1], 277: [1], 322: [16_000], 323: [16_000]}
    return tiff_of({**base, 324: [8], 325: [100]}, bytes(100))


def test_metadata_cannot_hurt() -> None:
    """A directory whose 65,000 tags all point to the same megabyte, and a profile that unpacks to a gigabyte."""
    rows = b"".join(struct.pack("<HHII", tag, 7, 1_000_000, 0) for tag in range(400, 65_400))
    exif = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 65_000) + rows + bytes(4)
    png = file_of("PNG")
    profile = b"name\0\0" + zlib.compress(bytes(100_000_000), 9)
    file = png[:33] + png_chunk(b"iCCP", profile) + png_chunk(b"eXIf", exif) + png[33:]
    np.testing.assert_array_equal(load_image(file), np.asarray(FLAT))


def test_only_ordinary_files_are_read(tmp_path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    assert "not an ordinary file" in refusal(pipe).message  # and does not wait for a writer
    assert "not an ordinary file" in refusal("/dev/zero").message
    assert "a folder" in refusal(tmp_path).message
    assert "There is no picture" in refusal(tmp_path / "none.png").message
    assert "cannot be read" in refusal("a\0b.png").message
    assert "cannot be read" in refusal(tmp_path / ("x" * 300)).message


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission_is_named(tmp_path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(file_of("PNG"))
    path.chmod(0)
    assert "cannot be read" in refusal(path).message


def test_heic_without_its_library_says_what_to_install(monkeypatch) -> None:
    file = file_of("HEIC")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    error = refusal(file)
    assert isinstance(error, errors.UnsupportedImage)
    assert "pip install pillow-heif" in error.remedy


def test_reading_heic_registers_nothing(tmp_path) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(file_of("HEIC"))
    code = (
        "from PIL import Image; from magicmirror.media import load_image; Image.init(); before = sorted(Image.OPEN);"
        f"load_image({str(path)!r}); assert sorted(Image.OPEN) == before and 'HEIF' not in before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
