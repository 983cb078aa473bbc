"""Pictures: what is read, what is refused."""

from __future__ import annotations

import contextlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from magicmirror.errors import ImageError
from magicmirror.media import (
    load_image,
    write_image,
)
from tests.pictures import STORED, encoded, four_colours, turned_file


def test_a_plain_picture_is_read_exactly_from_path_and_bytes(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    path = write_image(pixels, tmp_path / "a.png")
    for source in (path, str(path), path.read_bytes()):
        read = load_image(source)
        np.testing.assert_array_equal(read, pixels)
        assert read.dtype == np.uint8
        assert read.flags.writeable


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_exif_orientation_is_undone(orientation: int) -> None:
    upright = four_colours()
    read = load_image(turned_file(upright, orientation, "JPEG", quality=95, subsampling=0))
    assert read.shape == upright.shape
    assert np.abs(read.astype(int) - upright).mean() < 2


def test_modes_become_rgb() -> None:
    pixels = four_colours()
    rgb = Image.fromarray(pixels)
    grey = np.asarray(rgb.convert("L"))
    np.testing.assert_array_equal(load_image(encoded(rgb.convert("P"))), pixels)
    np.testing.assert_array_equal(load_image(encoded(rgb.convert("L"))), np.repeat(grey[..., None], 3, axis=2))
    assert np.abs(load_image(encoded(rgb.convert("CMYK"), "TIFF")).astype(int) - pixels).max() <= 1
    bits = load_image(encoded(Image.fromarray(grey > 100)))
    np.testing.assert_array_equal(bits[..., 0], np.where(grey > 100, 255, 0))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(load_image(encoded(deep))[..., 1], grey)


def test_transparency_is_laid_over_white() -> None:
    layer = np.zeros((4, 4, 4), np.uint8)
    layer[..., 0] = 200
    layer[:2, :, 3] = 255
    layer[2, :, 3] = 51  # a fifth
    read = load_image(encoded(Image.fromarray(layer)))
    assert read[0, 0].tolist() == [200, 0, 0]
    np.testing.assert_allclose(read[2, 0], [244, 204, 204], atol=1)
    assert read[3, 0].tolist() == [255, 255, 255]
    palette = Image.fromarray(four_colours()).convert("P")
    red = palette.getpixel((0, 0))
    assert load_image(encoded(palette, "PNG", transparency=red))[0, 0].tolist() == [255, 255, 255]


def test_an_animation_gives_its_first_frame() -> None:
    first = Image.fromarray(four_colours())
    animation = encoded(first, "GIF", save_all=True, append_images=[Image.new("RGB", first.size)])
    np.testing.assert_array_equal(load_image(animation), four_colours())
    stereo = encoded(first, "MPO", save_all=True, append_images=[Image.new("RGB", first.size)], quality=95)
    assert np.abs(load_image(stereo).astype(int) - four_colours()).mean() < 10


def test_what_is_no_picture_is_refused(tmp_path) -> None:
    jpeg = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG")
    cases = {
        "empty": b"",
        "not a picture": b"%PDF-1.4 hello",
        "is truncated": jpeg[: len(jpeg) // 2],
    }
    for message, data in cases.items():
        with pytest.raises(ImageError, match=message) as caught:
            load_image(data)
        assert caught.value.remedy
        path = tmp_path / "photo.jpg"
        path.write_bytes(data)
        with pytest.raises(ImageError, match=message):
            load_image(path)
    with pytest.raises(ImageError, match="no picture"):
        load_image(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="a folder, not a picture"):
        load_image(tmp_path)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it could still read
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_picture_cut_or_flipped_anywhere_is_read_or_refused(kind: str) -> None:
    """Whatever the bytes are, the answer is an array or an ImageError."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    options = {"exif": exif} if kind in ("JPEG", "WEBP", "TIFF") else {}
    whole = encoded(Image.fromarray(four_colours()), kind, **options)
    rng = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for position in rng.integers(0, min(len(data), 300), 3):
            data[position] = rng.integers(0, 256)
        with contextlib.suppress(ImageError):
            assert load_image(bytes(data), max_pixels=1_000_000).ndim == 3


def test_limits_are_checked_before_decoding() -> None:
    pixels = encoded(Image.new("RGB", (100, 90)))
    with pytest.raises(ImageError, match="100 x 90 pixels; at most 8,999"):
        load_image(pixels, max_pixels=8_999)
    assert load_image(pixels, max_pixels=9_000).shape == (90, 100, 3)
    with pytest.raises(ImageError, match="bytes; at most 10 "):
        load_image(pixels, max_bytes=10)
    # A header that promises 60,000 x 60,000 pixels, with no data behind it: refused by its size, not as damaged.
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + checksum
    bomb += struct.pack(">I", 1_000) + b"IDAT"
    with pytest.raises(ImageError, match="accepted"):
        load_image(bomb)


def test_pictures_are_written_by_suffix_or_refused(tmp_path) -> None:
    pixels = four_colours()
    for name in ("a.jpg", "a.webp", "a.PNG"):
        assert np.abs(load_image(write_image(pixels, tmp_path / name)).astype(int) - pixels).mean() < 5
    with pytest.raises(ImageError, match="not written as"):
        write_image(pixels, tmp_path / "a.txt")
    with pytest.raises(ImageError, match=r"\(H, W, 3\)"):
        write_image(pixels[..., 0], tmp_path / "b.png")
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(pixels, tmp_path / "missing" / "b.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.PNG", "a.jpg", "a.webp"]
