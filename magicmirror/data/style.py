"""Looks of a clip with fixed parameters, so that the caption alone determines them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from magicmirror.errors import ConfigError
from magicmirror.types import Float32Array, UInt8Array

Style = Callable[[Float32Array, int], Float32Array]
"""Takes (F, H, W, 3) float32 in [0, 1] and the number of the pattern; returns the changed clip."""


def apply_style(frames: UInt8Array, style: str, pattern: int = 0) -> UInt8Array:
    """Give a clip a look.

    Args:
        frames: (F, H, W, 3) uint8 RGB.
        style: One of ``STYLES``.
        pattern: Which pattern of particles or grain; equal patterns give equal frames.

    Returns:
        (F, H, W, 3) uint8 RGB, the same array for ``none``.

    Raises:
        ConfigError: For an unknown style.
    """
    if style not in STYLES:
        raise ConfigError(f"Unknown style {style!r}.", f"Choose one of {', '.join(STYLES)}.")
    if style == "none":
        return frames
    changed = STYLES[style](frames.astype(np.float32) / 255.0, pattern)
    return np.asarray(np.clip(changed * 255.0 + 0.5, 0, 255), dtype=np.uint8)


def _grey(frames: Float32Array) -> Float32Array:
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.asarray((frames @ weights)[..., None], dtype=np.float32)


def _colour(*rgb: float) -> Float32Array:
    return np.array(rgb, dtype=np.float32)


def _none(frames: Float32Array, pattern: int) -> Float32Array:
    del pattern
    return frames


def _black_and_white(frames: Float32Array, pattern: int) -> Float32Array:
    del pattern
    grey = _grey(frames)
    contrast = np.clip((grey - 0.5) * 1.15 + 0.5, 0, 1)
    return np.repeat(contrast, 3, axis=-1).astype(np.float32)


def _sepia(frames: Float32Array, pattern: int) -> Float32Array:
    del pattern
    return _grey(frames) * _colour(1.08, 0.86, 0.62)


def _warm(frames: Float32Array, pattern: int) -> Float32Array:
    del pattern
    return frames * _colour(1.08, 0.95, 0.76) + _colour(0.02, 0.01, 0.0)


def _cool(frames: Float32Array, pattern: int) -> Float32Array:
    del pattern
    return frames * _colour(0.76, 0.92, 1.08) + _colour(0.0, 0.01, 0.03)


def _night(frames: Float32Array, pattern: int) -> Float32Array:
    del pattern
    return (frames**1.2) * _colour(0.46, 0.50, 0.64) * _vignette(frames.shape[1], frames.shape[2], 0.35)


def _bright(frames: Float32Array, pattern: int) -> Float32Array:
    del pattern
    shadow = (1 - np.clip(frames, 0, 1)) ** 1.5 * 0.92
    return np.asarray(1 - shadow, dtype=np.float32)


def _film(frames: Float32Array, pattern: int) -> Float32Array:
    rng = np.random.default_rng([1, pattern])
    shape = (*frames.shape[:3], 1)
    grain = rng.standard_normal(shape, dtype=np.float32) * 0.035
    faded = frames * _colour(0.90, 0.88, 0.80) + _colour(0.07, 0.05, 0.05)
    return (faded + grain) * _vignette(frames.shape[1], frames.shape[2], 0.25)


def _snow(frames: Float32Array, pattern: int) -> Float32Array:
    import cv2

    num_frames, height, width = frames.shape[:3]
    rng = np.random.default_rng([2, pattern])
    cold = frames * _colour(0.88, 0.95, 1.04)
    # Three depths: the nearer, the larger, faster and fewer. A flake is as wide as a third of a latent cell or more.
    for radius, speed, count in ((0.012, 0.3, 18), (0.02, 0.45, 11), (0.03, 0.7, 6)):
        start = rng.random((count, 2))
        sway = rng.random((count, 2)) * np.array([2 * np.pi, 0.03])
        for index in range(num_frames):
            time = index / 16
            x = (start[:, 0] + sway[:, 1] * np.sin(2 * np.pi * time + sway[:, 0])) * width
            y = ((start[:, 1] * 1.2 + speed * time) % 1.2 - 0.1) * height
            layer = np.zeros((height, width), dtype=np.float32)
            for centre in zip(x, y, strict=True):
                _disc(layer, centre, radius * width)
            flakes = cv2.GaussianBlur(layer, (0, 0), max(0.6, radius * width * 0.35))[..., None] * np.float32(0.92)
            cold[index] += flakes * (1 - cold[index])
    return cold


def _rain(frames: Float32Array, pattern: int) -> Float32Array:
    import cv2

    num_frames, height, width = frames.shape[:3]
    rng = np.random.default_rng([3, pattern])
    wet = frames * _colour(0.72, 0.78, 0.86)
    start, length = rng.random((34, 2)), 0.10 + 0.10 * rng.random(34)
    thickness = max(1, round(height / 64))
    for index in range(num_frames):
        layer = np.zeros((height, width), dtype=np.float32)
        for (x, y), extent in zip(start, length, strict=True):
            top = ((y + 1.9 * index / 16) % 1.3 - 0.2) * height
            left = ((x - 0.19 * index / 16) % 1.1) * width
            ends = (left, top), (left - 0.1 * extent * height, top + extent * height)
            first, last = (tuple(round(value * 16) for value in end) for end in ends)
            cv2.line(layer, first, last, 0.55, thickness, cv2.LINE_AA, 4)
        drops = cv2.GaussianBlur(layer, (0, 0), 0.4 * thickness)[..., None]
        wet[index] += drops * (_colour(0.92, 0.95, 1.0) - wet[index])
    return wet


def _light_leak(frames: Float32Array, pattern: int) -> Float32Array:
    num_frames, height, width = frames.shape[:3]
    del pattern
    x = (np.arange(width, dtype=np.float32) + 0.5) / width
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
    time = (np.arange(num_frames, dtype=np.float32) / 16)[:, None, None]
    distance = ((x - (1.05 - 0.35 * time)) / 0.30) ** 2 + ((y - 0.25) / 0.75) ** 2
    glow = 0.85 * np.exp(-distance)[..., None]
    light = glow * _colour(1.0, 0.50, 0.18)
    return np.asarray(1 - (1 - frames) * (1 - light), dtype=np.float32)


def _fog(frames: Float32Array, pattern: int) -> Float32Array:
    num_frames, height, width = frames.shape[:3]
    rng = np.random.default_rng([4, pattern])
    x, y = np.linspace(0, 1, width)[None, None], np.linspace(0, 1, height)[None, :, None]
    time = (np.arange(num_frames) / 16)[:, None, None]
    phase = rng.uniform(0, 2 * np.pi, 2)
    # Two slow waves drift sideways: banks of fog, denser below.
    waves = np.sin(5 * x - 3 * time + phase[0]) + np.sin(3 * x + 4 * y + 2 * time + phase[1])
    density = (0.50 + 0.05 * waves + 0.12 * y)[..., None].astype(np.float32)
    return np.asarray(frames + density * (_colour(0.80, 0.82, 0.84) - frames), dtype=np.float32)


def _light_left(frames: Float32Array, pattern: int) -> Float32Array:
    del pattern
    ramp = np.linspace(1.25, 0.35, frames.shape[2], dtype=np.float32)
    return frames * ramp[None, None, :, None]


def _light_right(frames: Float32Array, pattern: int) -> Float32Array:
    return np.asarray(_light_left(frames[:, :, ::-1], pattern)[:, :, ::-1], dtype=np.float32)


def _red_light(frames: Float32Array, pattern: int) -> Float32Array:
    del pattern
    return (0.5 * frames + 0.5 * _grey(frames)) * _colour(1.12, 0.30, 0.28)


def _green_light(frames: Float32Array, pattern: int) -> Float32Array:
    del pattern
    return (0.5 * frames + 0.5 * _grey(frames)) * _colour(0.36, 1.08, 0.42)


def _spotlight(frames: Float32Array, pattern: int) -> Float32Array:
    del pattern
    y, x = np.linspace(-1, 1, frames.shape[1])[:, None], np.linspace(-1, 1, frames.shape[2])[None]
    outside = np.clip((np.hypot(x, y) - 0.55) / 0.65, 0.0, 1.0)
    return frames * (1 - 0.92 * outside**2 * (3 - 2 * outside))[..., None].astype(np.float32)


def _disc(layer: Float32Array, centre: tuple[float, float], radius: float) -> None:
    """Draw one anti-aliased disc at sub-pixel precision."""
    import cv2

    # Circles of cv2 have a fixed-point centre with 4 fractional bits here.
    cv2.circle(layer, tuple(round(value * 16) for value in centre), max(1, round(radius * 16)), 1.0, -1, cv2.LINE_8, 4)


def _vignette(height: int, width: int, strength: float) -> Float32Array:
    """Return (H, W, 1) factors, 1 in the middle and ``1 - strength`` in the corners."""
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    return np.asarray((1 - strength * (x**2 + y**2) / 2)[..., None], dtype=np.float32)


FALLING = ("snow", "rain")
"""Styles with falling particles, which a small model learns last."""

STYLES: dict[str, Style] = {
    "none": _none,
    "black_and_white": _black_and_white,
    "sepia": _sepia,
    "warm": _warm,
    "cool": _cool,
    "night": _night,
    "bright": _bright,
    "film": _film,
    "snow": _snow,
    "rain": _rain,
    "light_leak": _light_leak,
    "fog": _fog,
    "light_left": _light_left,
    "light_right": _light_right,
    "red_light": _red_light,
    "green_light": _green_light,
    "vignette": _spotlight,
}
