"""The visible mark on every frame, and the record of where a video comes from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from magicmirror.settings import Settings
from magicmirror.types import UInt8Array

DrawMark = Callable[[UInt8Array], UInt8Array]

PROVENANCE = {
    "ai_generated": True,
    "generator": "MagicMirror",
    "digital_source_type": "trainedAlgorithmicMedia",
}
"""Travels in the metadata of every file; the last value is IPTC's term for pictures that a trained model made."""

SHARE_OF_HEIGHT = 0.04
MIN_TEXT_PX = 9
OPACITY = 0.55


def mark_from(settings: Settings) -> DrawMark | None:
    """Return what draws the mark that the settings ask for; ``None`` when they ask for none."""
    return partial(draw_mark, text=settings.mark_text) if settings.mark else None


def draw_mark(frames: UInt8Array, text: str) -> UInt8Array:
    """Draw a small label in the lower left corner of every frame.

    Args:
        frames: (F, H, W, 3) uint8 RGB; left as they are.
        text: What the label says; a text too wide for the picture is set smaller, down to a few px.

    Returns:
        (F, H, W, 3) uint8 RGB.
    """
    height, width = frames.shape[1:3]
    label, cover = _label(text, height, width)
    rows, columns = min(label.shape[0], height), min(label.shape[1], width)
    label, cover = label[:rows, :columns], cover[:rows, :columns]
    marked = frames.copy()
    corner = marked[:, height - rows :, :columns]
    corner[:] = np.rint(corner * (1.0 - cover) + label * cover).astype(np.uint8)
    return marked


def _label(text: str, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the label once: its colours (h, w, 1) in [0, 255] and how much they cover (h, w, 1) in [0, 1]."""
    from PIL import Image, ImageDraw, ImageFont

    size = max(MIN_TEXT_PX, round(height * SHARE_OF_HEIGHT))
    font = ImageFont.load_default(size)
    while font.getlength(text) > width * 0.9 and size > 5:
        size -= 1
        font = ImageFont.load_default(size)
    pad = max(1, size // 4)
    left, top, right, bottom = font.getbbox(text)
    box = (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad)
    letters = Image.new("L", box, 0)
    ImageDraw.Draw(letters).text((pad - left, pad - top), text, fill=255, font=font)
    ink = np.asarray(letters, dtype=np.float32)[..., None]
    return ink, np.maximum(OPACITY, ink / 255.0)
