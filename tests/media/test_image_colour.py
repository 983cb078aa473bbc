"""Every mode and depth of a picture becomes the right sRGB."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from magicmirror.media import load_image
from tests.media.corpus_bases import heic_files, run_length_bmp, tiled_tiff
from tests.pictures import EXIF_ORIENTATION, STORED, encoded, four_colours, turned_file

RAMP = np.linspace(0, 65535, 64 * 16).reshape(16, 64).astype(np.uint16)


def icc_profile(space: bytes, tags: dict[bytes, bytes], connection: bytes = b"XYZ ") -> bytes:
    """A version 2 colour profile."""
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(78),
        b"wtpt": xyz(0.9642, 1, 0.8249),
        **tags,
    }
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, payload in tags.items():
        table += name + struct.pack(">II", start + len(body), len(payload))
        body += payload + bytes(-len(payload) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"test", 0x02400000, b"mntr", space, connection)
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", *fixed(0.9642, 1, 0.8249))
    return header.ljust(128, b"\0") + table + body


def fixed(*values: float) -> list[int]:
    """Numbers as profiles store them."""
    return [round(value * 65536) for value in values]


def xyz(*values: float) -> bytes:
    """A tag with a colour."""
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *fixed(*values))


def gamma(value: float) -> bytes:
    """A tag with a tone curve."""
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def swapped_primaries() -> bytes:
    """sRGB's primaries with red and blue exchanged, and a plain tone curve of 2.2."""
    red, green, blue = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(2.2))
    return icc_profile(b"RGB ", {b"rXYZ": xyz(*blue), b"gXYZ": xyz(*green), b"bXYZ": xyz(*red), **curves})


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_colour_profile_is_applied(kind: str) -> None:
    pixels = four_colours()
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    file = encoded(Image.fromarray(pixels), kind, icc_profile=swapped_primaries(), **options)
    difference = np.abs(load_image(file).astype(int) - pixels[..., ::-1])
    assert difference.mean() < 2
    assert np.percentile(difference, 90) <= 5


def test_a_transparent_picture_with_a_profile_keeps_both() -> None:
    layer = np.zeros((4, 4, 4), np.uint8)
    layer[..., 0], layer[:2, :, 3] = 255, 255
    read = load_image(encoded(Image.fromarray(layer), "PNG", icc_profile=swapped_primaries()))
    np.testing.assert_allclose(read[0, 0], [0, 0, 255], atol=3)
    assert read[3, 0].tolist() == [255, 255, 255]


def test_a_grey_profile_is_applied() -> None:
    grey = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    read = load_image(encoded(Image.fromarray(grey), "PNG", icc_profile=icc_profile(b"GRAY", {b"kTRC": gamma(1.5)})))
    linear = (np.arange(256) / 255) ** 1.5
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(read[0, :, 0] - expected).max() <= 2
    np.testing.assert_allclose(read[..., 0], read[..., 2], atol=1)


def test_a_printing_profile_is_applied_to_cmyk() -> None:
    table = np.zeros((2, 2, 2, 2, 3), np.uint8)
    table[..., 0], table[..., 1:] = 255, 128  # Lab: white paper, no colour
    table[1, ..., 0] = 128  # cyan ink prints a mid grey here
    table[..., 1, 0] = 0  # black ink is black
    line = bytes(range(256))
    lookup = b"mft1\0\0\0\0\x04\x03\x02\0" + struct.pack(">9i", *fixed(1, 0, 0, 0, 1, 0, 0, 0, 1))
    profile = icc_profile(b"CMYK", {b"A2B0": lookup + line * 4 + table.tobytes() + line * 3}, b"Lab ")
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    read = load_image(encoded(cyan, "JPEG", icc_profile=profile, quality=95))
    assert np.ptp(read[8, 8].astype(int)) <= 3  # grey
    np.testing.assert_allclose(read[8, 8], 119, atol=4)  # L* = 50
    np.testing.assert_allclose(load_image(encoded(cyan, "JPEG", quality=95))[8, 8], [0, 255, 255], atol=4)


@pytest.mark.parametrize(
    "profile", [b"garbage", bytes(200), swapped_primaries()[:300], swapped_primaries()[:140] + b"x" * 400]
)
def test_a_broken_or_unfitting_profile_is_ignored(profile: bytes) -> None:
    pixels = four_colours()
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(pixels), "PNG", icc_profile=profile)), pixels)


def test_a_profile_of_another_kind_of_picture_is_ignored() -> None:
    pixels = four_colours()
    for space in (b"GRAY", b"CMYK"):
        profile = icc_profile(space, {b"kTRC": gamma(1.0)})
        np.testing.assert_array_equal(load_image(encoded(Image.fromarray(pixels), "PNG", icc_profile=profile)), pixels)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_cut(kind: str) -> None:
    expected = (RAMP / 257.0 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(RAMP), kind))[..., 1], expected)
    colour = np.dstack([RAMP, RAMP[::-1], RAMP[:, ::-1]])
    done, file = cv2.imencode(f".{kind.lower()}", colour[..., ::-1])
    assert done
    assert np.abs(load_image(file.tobytes()).astype(int) - colour / 257.0).max() <= 1
    done, file = cv2.imencode(f".{kind.lower()}", np.dstack([colour[..., ::-1], np.full_like(RAMP, 0x8000)]))
    assert done
    assert np.abs(load_image(file.tobytes()).astype(int) - (colour / 257.0 / 2 + 127.5)).max() <= 2


def test_a_deep_negative_is_turned_round() -> None:
    file = encoded(Image.fromarray(RAMP), "TIFF")
    mark = struct.pack("<HHI", 262, 3, 1)
    negative = file.replace(mark + b"\1", mark + b"\0")
    assert negative != file
    np.testing.assert_array_equal(load_image(negative), 255 - load_image(file))


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (np.linspace(0, 1, 512, dtype=np.float32), 1),
        (np.linspace(0, 4, 512, dtype=np.float32), 1),  # highlights above white are cut
        (np.linspace(0, 255, 512, dtype=np.float32), 255),
        (np.linspace(0, 65535, 512, dtype=np.float32), 65535),
        (np.linspace(-1, 1e9, 512, dtype=np.float32), 1e9),
        (np.arange(0, 256, dtype=np.int32), 255),
        (np.linspace(0, 65535, 512).astype(np.int32), 65535),
        (np.linspace(0, 2**31 - 1, 512).astype(np.int32), 2**31 - 1),
    ],
)
def test_more_than_sixteen_bits_are_scaled_by_the_usual_white(values: np.ndarray, white: float) -> None:
    read = load_image(encoded(Image.fromarray(np.tile(values, (3, 1))), "TIFF"))
    expected = np.clip(values.astype(float) / white, 0, 1) * 255
    assert np.abs(read[1, :, 2] - expected).max() <= 0.51


def test_floats_that_are_no_numbers_are_black() -> None:
    values = np.ones((2, 4), np.float32)
    values[0] = np.nan, np.inf, -np.inf, 0.5
    assert load_image(encoded(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == [0, 0, 0, 128]


def test_grey_with_transparency_and_palettes_with_it() -> None:
    grey = Image.fromarray(np.dstack([np.full((4, 4), 100, np.uint8), np.full((4, 4), 51, np.uint8)]), "LA")
    np.testing.assert_allclose(load_image(encoded(grey, "PNG"))[0, 0], 224, atol=1)
    palette = Image.fromarray(four_colours()).quantize(4)
    shades = bytes(index * 85 for index in range(4))
    read = load_image(encoded(palette, "PNG", transparency=shades))
    for (x, y), index in {(0, 0): palette.getpixel((0, 0)), (47, 31): palette.getpixel((47, 31))}.items():
        colour = np.array(palette.convert("RGB").getpixel((x, y)))
        np.testing.assert_allclose(read[y, x], colour * index / 3 + 255 * (1 - index / 3), atol=1.5)


def test_lab_becomes_srgb() -> None:
    read = load_image(encoded(Image.new("LAB", (4, 4), (128, 128, 128)), "TIFF"))
    np.testing.assert_allclose(read[0, 0], 119, atol=3)


def test_a_large_picture_is_converted_in_strips_without_seams() -> None:
    rng = np.random.default_rng(0)
    layer = rng.integers(0, 256, (1_100, 1_900, 4), dtype=np.uint8)
    alpha = layer[..., 3:] / 255.0
    expected = layer[..., :3] * alpha + 255 * (1 - alpha)
    read = load_image(encoded(Image.fromarray(layer), "PNG", compress_level=1))
    assert np.abs(read - expected).max() <= 1.01


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "HEIF"])
def test_all_formats_with_exif_are_turned_upright(kind: str, orientation: int) -> None:
    upright = four_colours(64, 32)
    if kind == "HEIF":
        pillow_heif = pytest.importorskip("pillow_heif")
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = orientation
        buffer = io.BytesIO()
        stored = Image.fromarray(STORED[orientation](upright).copy())
        pillow_heif.from_pillow(stored).save(buffer, exif=exif.tobytes(), quality=95)
        read = load_image(buffer.getvalue())
    else:
        read = load_image(turned_file(upright, orientation, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert read.shape == upright.shape
    assert np.abs(read.astype(int) - upright).mean() < (12 if kind == "HEIF" else 0.1)


def test_rare_layouts_are_read_exactly() -> None:
    tiles = np.random.default_rng(3).integers(0, 256, (6, 16, 16), dtype=np.uint8)
    np.testing.assert_array_equal(load_image(tiled_tiff())[..., 0], np.hstack(list(tiles)))
    runs = load_image(run_length_bmp())
    assert runs.shape == (5, 40, 3)
    assert runs[4, 0].tolist() == [0, 255, 0]  # palette entry 0, which BMP stores as blue, green, red
    assert runs[0, -3:, 2].tolist() == [7, 8, 9]
    pixels = four_colours()
    for options in ({"big_tiff": True}, {"compression": "tiff_lzw"}, {"compression": "packbits"}):
        np.testing.assert_array_equal(load_image(encoded(Image.fromarray(pixels), "TIFF", **options)), pixels)


def test_of_several_pictures_the_first_is_read() -> None:
    first, second = Image.fromarray(four_colours()), Image.new("RGB", (20, 30), "navy")
    for kind in ("TIFF", "PNG"):
        file = encoded(first, kind, save_all=True, append_images=[second.resize(first.size)])
        np.testing.assert_array_equal(load_image(file), four_colours())
    animation = encoded(first, "WEBP", save_all=True, append_images=[second.resize(first.size)], lossless=True)
    np.testing.assert_array_equal(load_image(animation), four_colours())
    if heic_files(first):
        assert load_image(heic_files(first, second)[-1]).shape == (32, 48, 3)


def test_a_frame_may_reach_over_the_screen_of_a_gif() -> None:
    file = bytearray(encoded(Image.fromarray(four_colours()), "GIF"))
    file[6:10] = struct.pack("<HH", 10, 10)
    np.testing.assert_array_equal(load_image(bytes(file)), four_colours())
