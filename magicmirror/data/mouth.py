"""The mouth of a portrait: where its lips meet, how it opens, and what is seen inside.

``dlib5`` ends at the nose, so the seam of the lips is searched in the picture near the place that the head's
shape expects: as a thin dark line (lips closed) or the lower edge of something pale (upper teeth of a smile). An
opening mouth moves the lower lip and the jaw down, column by column without folds; the gap below the seam is painted.
Units are those of ``head_geometry``: sides of the aligned head crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from magicmirror.types import Float32Array, UInt8Array

HALF_WIDTH = 0.100
GAP = 0.068
"""Height of a wide open mouth."""
UPPER_SHARE = 0.12
"""The upper lip rises by this share of the gap."""
LIP_REACH = 0.075
JAW_SHARE = 0.85
JAW_HALF_WIDTH = 0.27
JAW_RAMP = 0.15
CHIN, NECK = 0.17, 0.45
"""How far below the seam the jaw's motion begins to fade, and ends."""

SEARCH_X = 0.085
SEARCH_Y = (-0.055, 0.055)
SEARCH_STEP = 0.004
SLOPES = (-0.16, -0.08, 0.0, 0.08, 0.16)
BENDS = (-1.5, 0.0, 1.5, 3.0, 4.5)
"""Second-order coefficients of the seam; positive where the corners are higher than the middle."""

PINK = 0.10
"""How much pinker than skin lips are; more than that adds nothing."""

_DARK = np.array([0.20, 0.075, 0.07], dtype=np.float32)
_TONGUE = np.array([0.50, 0.22, 0.21], dtype=np.float32)


@dataclass(frozen=True)
class Mouth:
    """The seam of the lips, ``y = centre_y + slope * dx - bend * dx ** 2``.

    Args:
        centre: (2,) its middle.
        slope: Of the seam in the middle.
        bend: See ``BENDS``.
        light: Brightness of the skin above it, in [0, 1].
        colour: 0 in a black-and-white photo, 1 in one with colours.
    """

    centre: Float32Array
    slope: float
    bend: float
    light: float
    colour: float


def find_mouth(picture: UInt8Array, expected: Float32Array) -> Mouth:
    """Find the seam of the lips.

    Args:
        picture: (S, S, 3) uint8 RGB, an aligned head crop of any size.
        expected: (2,) where the head's shape expects the middle of the mouth.

    Returns:
        The seam of the best score within about 0.055 of the expected height.
    """
    import cv2

    side = picture.shape[0]
    smooth = cv2.GaussianBlur(picture, (0, 0), side / 128).astype(np.float32) / 255.0
    luma, blue = smooth @ np.array([0.299, 0.587, 0.114], dtype=np.float32), smooth[..., 2]
    dx = np.linspace(-SEARCH_X, SEARCH_X, 29, dtype=np.float32)
    heights = np.arange(*SEARCH_Y, SEARCH_STEP, dtype=np.float32)
    slope, bend, height = (grid.reshape(-1, 1) for grid in np.meshgrid(SLOPES, BENDS, heights, indexing="ij"))
    y = expected[1] + height + slope * dx - bend * dx**2

    def at(values: Float32Array, offset: float) -> Float32Array:
        columns = np.broadcast_to((expected[0] + dx) * side - 0.5, y.shape).astype(np.float32)
        rows = ((y + offset) * side - 0.5).astype(np.float32)
        return np.asarray(cv2.remap(values, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))

    # Lips are pinker than any skin: on both sides of the seam, but on one side only of the outer edges of the lips.
    pink = (smooth[..., 0] + smooth[..., 2] - 2 * smooth[..., 1]) / (smooth.sum(axis=-1) + 0.1)
    skin_pink, skin_blue = (float(np.median(at(values, -0.07))) for values in (pink, blue))
    below = (at(pink, 0.013) + at(pink, 0.026)) / 2 - skin_pink
    # Teeth have more blue than skin, as a pale lower lip has too, but they are not pink.
    white = np.clip(blue / max(skin_blue, 0.05), 0.0, 2.0) - 4.0 * np.clip(pink - skin_pink, 0.0, None)
    above = np.maximum(at(pink, -0.013) - skin_pink, 0.25 * (at(white, -0.013) - 1.1))
    lips = np.clip(below, -PINK, PINK) + np.clip(above, -PINK, PINK)
    line = np.minimum(at(luma, -0.018), at(luma, 0.018)) - at(luma, 0.0)
    teeth = np.clip(at(white, -0.018) - np.maximum(at(white, 0.008), at(white, 0.020)), 0.0, 1.2)
    teeth *= np.clip(4.0 * (at(white, -0.018) - 0.9), 0.0, 1.0)
    # The middle of the mouth counts more than its corners, which smiles and beards hide.
    weight = np.exp(-0.5 * (dx / 0.06) ** 2)
    light = float(np.median(at(luma, -0.07)))
    score = (line / max(light, 0.05) + 0.4 * teeth + 1.5 * lips) @ weight / weight.sum()
    score -= 0.15 * (height[:, 0] / 0.05) ** 2 + 0.02 * np.abs(slope[:, 0]) / 0.16
    best = int(np.argmax(score))
    centre = np.array([expected[0], expected[1] + height[best, 0]], dtype=np.float32)
    colour = float(np.clip(np.ptp(smooth, axis=-1).mean() / 0.04, 0.0, 1.0))
    return Mouth(centre, float(slope[best, 0]), float(bend[best, 0]), light, colour)


def open_mouth(mouth: Mouth, x: Float32Array, y: Float32Array, extent: float) -> tuple[Float32Array, Float32Array]:
    """Open the mouth of one frame.

    Args:
        mouth: Its seam.
        x: (H, W) coordinates on the head at rest.
        y: Like ``x``.
        extent: 0 as in the photo, 1 wide open.

    Returns:
        The source's y of every point, and its depth in the gap: the distance to the nearer lip in template units, not
        positive outside the gap. Both (H, W) float32.
    """
    dx = x - mouth.centre[0]
    seam = mouth.centre[1] + mouth.slope * dx - mouth.bend * np.minimum(np.abs(dx), HALF_WIDTH) ** 2
    gap = np.float32(extent * GAP) * np.clip(1 - (dx / HALF_WIDTH) ** 2, 0.0, None) ** 0.75
    upper, lower = seam - UPPER_SHARE * gap, seam + (1 - UPPER_SHARE) * gap
    raised = UPPER_SHARE * gap * _smoothstep((y - upper) / LIP_REACH + 1)
    jaw = np.float32(extent * GAP * JAW_SHARE) * (1 - _smoothstep(np.abs(dx) / JAW_HALF_WIDTH))
    share = _smoothstep((y - lower) / JAW_RAMP)
    fade = 1 - _smoothstep((y - seam - CHIN) / (NECK - CHIN))
    dropped = (gap * (1 - UPPER_SHARE) * (1 - share) + jaw * share) * fade
    source = np.where(y < seam, y + raised, y - dropped)
    inside = np.minimum(y - upper, lower - y)
    inside = np.where(gap > 0, inside, -1.0)
    source = np.where(inside > 0, seam, source)
    return source.astype(np.float32), inside.astype(np.float32)


def paint_inside(frame: UInt8Array, mouth: Mouth, inside: Float32Array, y: Float32Array) -> UInt8Array:
    """Paint the gap between the lips: darkness, and the tongue in it.

    Args:
        frame: (H, W, 3) uint8 RGB.
        mouth: Its seam.
        inside: (H, W) of ``open_mouth``.
        y: (H, W) the coordinates that ``open_mouth`` was given.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    cover = np.clip(inside * frame.shape[0] + 0.5, 0.0, 1.0)[..., None]
    low = _smoothstep((y - mouth.centre[1] - 0.25 * GAP) / (0.6 * GAP))[..., None]
    # Light does not reach far behind the lips.
    deep = _smoothstep(inside / 0.02)[..., None]
    colour = (_DARK + (_TONGUE - _DARK) * low * deep) * np.float32(np.clip(1.5 * mouth.light, 0.3, 1.1))
    colour = colour.mean(axis=-1, keepdims=True) * (1 - mouth.colour) + colour * mouth.colour
    painted = frame + cover * (colour * 255.0 - frame)
    return np.asarray(np.clip(painted + 0.5, 0, 255), dtype=np.uint8)


def _smoothstep(values: Float32Array) -> Float32Array:
    u = np.clip(values, 0.0, 1.0)
    return np.asarray(u * u * (3 - 2 * u), dtype=np.float32)
