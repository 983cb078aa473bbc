"""What every format's reader answers, and the limits that hold before a pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from magicmirror.errors import CostlyImage, DamagedImage, ImageTooLarge, TruncatedImage

PictureFormat = Literal["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "HEIC"]

MAX_IMAGE_BYTES = 20 * 1024 * 1024
MAX_IMAGE_PIXELS = 50_000_000
MAX_IMAGE_SIDE_PX = 20_000
MAX_ICC_BYTES = 4 * 1024 * 1024
"""A larger colour profile is ignored; the largest in use (printing presses) have about 2.5 MB."""

SAVE_AGAIN = "Save it again as JPEG or PNG, or choose another picture."
EXPORT = "Export it as JPEG or PNG."


@dataclass(frozen=True, eq=False)
class PictureHeader:
    """What a file says about its picture, read and checked before a pixel is decoded.

    Args:
        format: Format by content.
        width_px: Width as stored, before the orientation is applied.
        height_px: Height as stored.
        data: The file reduced to what the decoder needs: one picture, without its metadata. What is left out here
            cannot hurt the decoder.
        icc_profile: Colour profile; empty when there is none.
        orientation: EXIF orientation, 1 to 8.
        sample_bits: Bits of one channel.
        signed: Whether integer samples are signed.
        white_is_zero: Whether the grey scale of a deep picture runs from white to black.
        offset_px: Where the stored frame lies on its canvas, x and y.
        canvas_px: Width and height of that canvas; ``None`` when the frame is the whole picture.
        handle: An opened file of a library that checks while it opens.
    """

    format: PictureFormat
    width_px: int
    height_px: int
    data: bytes
    icc_profile: bytes = b""
    orientation: int = 1
    sample_bits: int = 8
    signed: bool = False
    white_is_zero: bool = False
    offset_px: tuple[int, int] = (0, 0)
    canvas_px: tuple[int, int] | None = None
    handle: Any = None

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the picture that is returned, before it is turned upright."""
        return self.canvas_px or (self.width_px, self.height_px)


def check_size(width_px: int, height_px: int, max_pixels: int) -> None:
    """Refuse a picture by its size.

    Raises:
        DamagedImage: When a side is zero or negative.
        ImageTooLarge: When a side or the number of pixels is over its limit.
    """
    if width_px <= 0 or height_px <= 0:
        raise DamagedImage(f"The picture is damaged: it says that it has {width_px} x {height_px} pixels.", SAVE_AGAIN)
    if max(width_px, height_px) > MAX_IMAGE_SIDE_PX:
        raise ImageTooLarge(
            f"The picture has {width_px} x {height_px} pixels; a side of at most {MAX_IMAGE_SIDE_PX:,} is accepted.",
            "Cut the face out, or scale the picture down.",
        )
    if width_px * height_px > max_pixels:
        raise ImageTooLarge(
            f"The picture has {width_px} x {height_px} pixels; at most {max_pixels:,} are accepted.",
            "Scale it down; a face needs no more than a few hundred pixels.",
        )


def refuse_truncated(form: str) -> NoReturn:
    """Say that a file ends too early."""
    raise TruncatedImage(
        f"The {form} picture is truncated: the file ends before the picture does.", "Copy, download or upload it again."
    )


def refuse_damaged(form: str, what: str) -> NoReturn:
    """Say what in a file contradicts its format."""
    raise DamagedImage(f"The {form} picture is damaged: {what}.", SAVE_AGAIN)


def refuse_costly(form: str, what: str) -> NoReturn:
    """Say why a file would cost too much to decode."""
    raise CostlyImage(f"The {form} picture would cost too much to decode: {what}.", SAVE_AGAIN)
