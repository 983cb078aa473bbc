"""Whether a video has the look that its caption asks for, by statistics of its colours and of what moves in it.

Every measure is against the reference picture (the head crop that the model was given, which shows the person without
any style), so that a person with a warm complexion is not "warm". Positive always means: as asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from magicmirror.errors import ConfigError
from magicmirror.types import UInt8Array

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
SPOT = 0.12
STREAK_RATIO = 1.4
"""Rain falls in streaks: their edges are seen across (2.7 times as strong), those of snowflakes all around (1.1)."""


@dataclass(frozen=True)
class Look:
    """Statistics of a video, or of one picture; colours in [0, 1].

    Args:
        luma: Mean.
        warmth: Logarithm of mean red over mean blue.
        chroma: Mean difference between neighbouring colour channels.
        hues: How far the pixels are from one common tint, as a share of the luma.
        glow: Red less blue, upper right less upper left.
        floor: Luma of the darkest twentieth of the pixels.
        side: Logarithm of the luma of the left third over that of the right one.
        red: Logarithm of mean red over the mean of green and blue.
        green: Logarithm of mean green over the mean of red and blue.
        corners: Logarithm of the luma of the four corners (a fifth of the side each) over that of the middle.
    """

    luma: float
    warmth: float
    chroma: float
    hues: float
    glow: float
    floor: float
    side: float
    red: float
    green: float
    corners: float


@dataclass(frozen=True)
class Particles:
    """What flashes up for a frame; 0 for a picture.

    Args:
        bright: Share of pixels much brighter than in the frames around, less the share of much darker ones.
        streaks: Strength of their vertical edges over that of their horizontal ones.
        grain: Median of the fine noise that is new in every frame.
    """

    bright: float
    streaks: float
    grain: float


def measure_look(frames: UInt8Array) -> Look:
    """Measure the colours of (F, H, W, 3) uint8 RGB frames."""
    values = frames.astype(np.float32) / 255.0
    luma = values @ LUMA
    mean = values.mean(axis=(0, 1, 2))
    power = max(float((luma * luma).sum()), 1e-6)
    tints = [float((values[..., c] * luma).sum()) / power for c in range(3)]
    hues = np.mean([np.abs(values[..., c] - tints[c] * luma).mean() for c in range(3)])
    chroma = np.abs(np.diff(values, axis=-1)).mean()
    orange = values[:, : values.shape[1] // 2, :, 0] - values[:, : values.shape[1] // 2, :, 2]
    third = orange.shape[2] // 3
    fifth_y, fifth_x = luma.shape[1] // 5, luma.shape[2] // 5
    edges = np.concatenate([luma[:, :fifth_y], luma[:, -fifth_y:]], axis=1)
    corners = np.concatenate([edges[..., :fifth_x], edges[..., -fifth_x:]], axis=2)
    middle = luma[:, 2 * fifth_y : -2 * fifth_y, 2 * fifth_x : -2 * fifth_x]
    return Look(
        luma=float(luma.mean()),
        warmth=_log_ratio(mean[0], mean[2]),
        chroma=float(chroma),
        hues=float(hues) / max(float(luma.mean()), 0.02),
        glow=float(orange[:, :, -third:].mean() - orange[:, :, :third].mean()),
        floor=float(np.percentile(luma, 5)),
        side=_log_ratio(luma[..., :third].mean(), luma[..., -third:].mean()),
        red=_log_ratio(mean[0], mean[1:].mean()),
        green=_log_ratio(mean[1], mean[::2].mean()),
        corners=_log_ratio(corners.mean(), middle.mean()),
    )


def measure_particles(frames: UInt8Array) -> Particles:
    """Measure snow, rain and grain.

    Args:
        frames: (F, H, W, 3) uint8 RGB of at least five frames, as generated (not sampled).

    Raises:
        ConfigError: For fewer frames.
    """
    import cv2

    if len(frames) < 5:
        raise ConfigError(f"Particles show in five frames or more, got {len(frames)}.")
    luma = (frames.astype(np.float32) / 255.0) @ LUMA
    around = np.median(np.stack([luma[start : len(luma) - 4 + start] for start in range(5)]), axis=0)
    excess = luma[2:-2] - around
    across, along = np.abs(np.diff(excess, axis=2)).mean(), np.abs(np.diff(excess, axis=1)).mean()
    new = luma[1:-1] - (luma[:-2] + luma[2:]) / 2
    fine = [frame - cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in new]
    return Particles(
        bright=float((excess > SPOT).mean() - (excess < -SPOT).mean()),
        streaks=float(across / max(float(along), 1e-6)),
        grain=float(np.median(np.abs(fine))),
    )


def style_effects(look: Look, particles: Particles, reference: Look) -> dict[str, float]:
    """Return how much of each style a video has.

    Args:
        look: Of the video.
        particles: Of the video.
        reference: Of the person without any style.

    Returns:
        Name of the style -> effect; the limits of ``obedience.STYLE_LIMITS`` are in the same units.
    """
    warmer = look.warmth - reference.warmth
    brighter = float(np.log(max(look.luma, 0.01) / max(reference.luma, 0.01)))
    one_tint = 1 - min(look.hues / max(reference.hues, 0.02), 1.0)
    streaks = particles.streaks >= STREAK_RATIO
    return {
        "black_and_white": 1 - look.chroma / max(reference.chroma, 0.02),
        "sepia": one_tint * look.warmth,
        "warm": warmer,
        "cool": -warmer,
        "night": -brighter,
        "bright": brighter,
        "film": particles.grain,
        "snow": 0.0 if streaks else particles.bright,
        "rain": particles.bright if streaks else 0.0,
        "light_leak": look.glow - reference.glow,
        "fog": look.floor - reference.floor,
        "light_left": look.side - reference.side,
        "light_right": reference.side - look.side,
        "red_light": look.red - reference.red,
        "green_light": look.green - reference.green,
        "vignette": reference.corners - look.corners,
    }


def reference_look(crop: npt.NDArray[np.uint8]) -> Look:
    """Measure the colours of the (S, S, 3) uint8 RGB reference."""
    return measure_look(crop[None])


def _log_ratio(first: float, second: float) -> float:
    return float(np.log((first + 0.02) / (second + 0.02)))
