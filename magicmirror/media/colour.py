"""From any mode of a decoded picture to sRGB, strip by strip into one array."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from magicmirror.media.decoding import DecodedPicture
from magicmirror.media.formats.header import PictureHeader

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsTransform

    from magicmirror.types import UInt8Array

STRIP_PIXELS = 1_000_000
FLOAT_WHITES = (16.0, 255.0, 65535.0)
"""Brightest value up to which a floating-point picture counts as one of white 1 (highlights may be brighter), 255 and
65535."""

# Orientation of EXIF -> how the stored pixels become upright.
_TURNS = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


def to_srgb(picture: DecodedPicture, header: PictureHeader) -> UInt8Array:
    """Convert a decoded picture to sRGB over white.

    Args:
        picture: In its own mode.
        header: What its file says of colour profile and depth.

    Returns:
        (H, W, 3) uint8 RGB, not turned.
    """
    width, height = picture.size_px
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    convert = _StripConverter(picture, header)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = convert(picture.strip(top, bottom))
    return pixels


def turn_upright(pixels: UInt8Array, orientation: int) -> UInt8Array:
    """Undo an EXIF orientation.

    Args:
        pixels: (H, W, 3) uint8.
        orientation: 1 to 8.

    Returns:
        (H, W, 3) or (W, H, 3) uint8, contiguous.
    """
    turn = _TURNS.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


class _StripConverter:
    """Converts strips of one picture to sRGB.

    Args:
        picture: The whole picture; deep ones are searched for their brightest value.
        header: What its file says of colour profile and depth.
    """

    def __init__(self, picture: DecodedPicture, header: PictureHeader) -> None:
        self._has_alpha = picture.has_alpha
        self._invert = header.white_is_zero and picture.mode.startswith("I;16")
        self._unsigned = not header.signed
        self._is_deep = picture.mode == "F" or picture.mode.startswith("I")
        self._white = self._find_white(picture, header) if self._is_deep else 255.0
        grey = picture.mode in ("1", "L", "LA") or self._is_deep
        self._profile_mode = profile_mode(header.icc_profile, picture.mode, grey)
        self._transform: ImageCmsTransform | None = None
        if self._profile_mode:
            self._transform = transform_to_srgb(header.icc_profile, self._profile_mode)

    def __call__(self, strip: Image) -> UInt8Array:
        """Return (H, W, 3) uint8 sRGB."""
        from PIL import Image

        if self._is_deep:
            strip = Image.fromarray(self._to_eight_bits(strip))
        alpha = None
        if self._has_alpha:
            strip = strip.convert("RGBA")
            alpha = strip.getchannel("A")
            strip = strip.convert("RGB")
        if self._transform is not None:
            strip = self._transform.apply(strip.convert(self._profile_mode))
        strip = strip.convert("RGB")
        if alpha is not None and alpha.getextrema() != (255, 255):
            paper = Image.new("RGB", strip.size, "white")
            paper.paste(strip, mask=alpha)
            strip = paper
        return np.asarray(strip, dtype=np.uint8)

    def _values(self, strip: Image) -> np.ndarray[tuple[int, ...], np.dtype[Any]]:
        """Return the samples of a deep strip, damaged floats as black."""
        values: np.ndarray[tuple[int, ...], np.dtype[Any]] = np.asarray(strip)
        if values.dtype == np.int32 and self._unsigned:
            return values.view(np.uint32)
        if values.dtype.kind == "f":
            values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        return values

    def _to_eight_bits(self, strip: Image) -> UInt8Array:
        """Scale the samples of a deep strip: black 0, white 255."""
        values = self._values(strip)
        if values.dtype == np.uint16:
            return np.asarray(self._scaled(np.arange(65536))[values], dtype=np.uint8)
        return self._scaled(values)

    def _scaled(self, values: np.ndarray[tuple[int, ...], np.dtype[Any]]) -> UInt8Array:
        """Map black to 0 and white to 255, or the other way round."""
        shares = np.clip(values.astype(np.float64) / self._white, 0.0, 1.0)
        if self._invert:
            shares = 1.0 - shares
        return np.asarray(shares * 255.0 + 0.5, dtype=np.uint8)

    def _find_white(self, picture: DecodedPicture, header: PictureHeader) -> float:
        """Return the value that stands for white.

        It is the format's largest value for 16 bits. Pictures with more bits come in several customs; the smallest
        usual white that holds the brightest value is taken.
        """
        if header.sample_bits <= 16:
            bits = 16 if header.sample_bits <= 12 and header.format != "TIFF" else header.sample_bits
            return float(2 ** (bits - 1) - 1) if header.signed else float(2**bits - 1)
        brightest = 0.0
        rows = max(1, STRIP_PIXELS // picture.size_px[0])
        for top in range(0, picture.size_px[1], rows):
            values = self._values(picture.strip(top, min(top + rows, picture.size_px[1])))
            brightest = max(brightest, float(values.max()))
        if picture.mode == "F":
            limit = next((white for white in FLOAT_WHITES if brightest <= white), brightest)
            return 1.0 if limit == FLOAT_WHITES[0] else limit
        full = 2.0**31 - 1 if header.signed else 2.0**32 - 1
        return next(white for white in (255.0, 65535.0, full) if brightest <= white)


def profile_mode(profile: bytes, mode: str, is_grey: bool) -> str:
    """Return the mode in which strips go through a colour profile; empty when it does not fit the picture.

    Args:
        profile: ICC profile, may be empty.
        mode: Mode of the decoded picture.
        is_grey: Whether the picture is grey.

    Returns:
        ``RGB``, ``L``, ``CMYK``, ``LAB`` or nothing.
    """
    if mode == "LAB":
        return "LAB"
    space = profile[16:20] if len(profile) >= 128 and profile[36:40] == b"acsp" else b""
    if space == b"GRAY" and is_grey:
        return "L"
    if space == b"CMYK" and mode == "CMYK":
        return "CMYK"
    if space == b"RGB " and mode not in ("CMYK", "LAB"):
        return "RGB"
    return ""


def transform_to_srgb(profile: bytes, mode: str) -> ImageCmsTransform | None:
    """Prepare the conversion from a colour profile to sRGB.

    Args:
        profile: ICC profile; not consulted for ``LAB``.
        mode: Mode of the strips, from ``profile_mode``.

    Returns:
        The conversion, or ``None`` when the profile is damaged or says that the picture is sRGB already.
    """
    from PIL import ImageCms

    try:
        if mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            source = ImageCms.getOpenProfile(io.BytesIO(profile))
            if ImageCms.getProfileDescription(source).startswith("sRGB"):
                return None
        return ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return None
