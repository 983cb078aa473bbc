"""Pictures of a test run: a strip for each person, and all strips on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from magicmirror.media import load_image, write_image
from magicmirror.types import UInt8Array

LABEL_HEIGHT_PX = 16
GAP_PX = 6
COLUMNS = 4

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class SheetEntry:
    """One strip on the sheet.

    Args:
        strip: Picture file.
        label: Text above it.
        colour: RGB of the text.
    """

    strip: Path
    label: str
    colour: Colour


def write_strip(reference: UInt8Array, frames: UInt8Array, path: Path) -> Path:
    """Write the reference beside the first, middle and last frame.

    Args:
        reference: (S, S, 3) uint8 RGB.
        frames: (F, H, W, 3) uint8 RGB.
        path: Name of a picture.

    Returns:
        The path.
    """
    import cv2

    height = frames.shape[1]
    width = max(1, round(reference.shape[1] * height / reference.shape[0]))
    resized = np.asarray(cv2.resize(reference, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    chosen = [frames[index] for index in (0, len(frames) // 2, len(frames) - 1)]
    return write_image(np.concatenate([resized, *chosen], axis=1), path)


def write_contact_sheet(entries: Sequence[SheetEntry], path: Path, columns: int = COLUMNS) -> Path:
    """Put strips on one sheet, row by row.

    Args:
        entries: At least one.
        path: Name of a picture.
        columns: Strips in a row.

    Returns:
        The path.
    """
    from PIL import Image, ImageDraw

    strips = [load_image(entry.strip) for entry in entries]
    columns = min(columns, len(strips))
    cell_width = max(strip.shape[1] for strip in strips) + GAP_PX
    cell_height = max(strip.shape[0] for strip in strips) + LABEL_HEIGHT_PX + GAP_PX
    rows = -(-len(strips) // columns)
    sheet = Image.new("RGB", (columns * cell_width + GAP_PX, rows * cell_height + GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (entry, strip) in enumerate(zip(entries, strips, strict=True)):
        x, y = GAP_PX + index % columns * cell_width, GAP_PX + index // columns * cell_height
        draw.text((x, y), entry.label, fill=entry.colour)
        sheet.paste(Image.fromarray(strip), (x, y + LABEL_HEIGHT_PX))
    return write_image(np.asarray(sheet, dtype=np.uint8), path)
