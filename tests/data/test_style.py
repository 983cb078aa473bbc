"""Every style has the effect that its name says."""

import numpy as np
import pytest

from magicmirror.data.style import STYLES, apply_style
from magicmirror.errors import ConfigError


@pytest.fixture(scope="module")
def frames():
    """A still of soft colours around mid grey, seen for 9 frames."""
    rng = np.random.default_rng(0)
    still = rng.integers(70, 180, (16, 16, 3)).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
    return np.repeat(still[None], 9, axis=0)


def channel_means(frames):
    return frames.reshape(-1, 3).mean(axis=0)


@pytest.mark.parametrize("style", STYLES)
def test_shape_type_and_repeatability(frames, style):
    before = frames.copy()
    changed = apply_style(frames, style, pattern=2)
    assert changed.shape == frames.shape and changed.dtype == np.uint8
    assert np.array_equal(changed, apply_style(frames, style, pattern=2))
    assert np.array_equal(frames, before)


def test_colours(frames):
    plain, grey, warm, cool = (
        channel_means(apply_style(frames, style)) for style in ("none", "black_and_white", "warm", "cool")
    )
    assert np.array_equal(apply_style(frames, "none"), frames)
    assert np.ptp(grey) == 0
    assert warm[0] / warm[2] > 1.3 * plain[0] / plain[2]
    assert cool[2] / cool[0] > 1.2 * plain[2] / plain[0]
    red, green, blue = channel_means(apply_style(frames, "sepia"))
    assert red > green > blue


def test_brightness(frames):
    plain, night, bright = (apply_style(frames, style).mean() for style in ("none", "night", "bright"))
    assert night < 0.6 * plain and bright > 1.2 * plain


def test_film_flickers_and_the_still_styles_do_not(frames):
    def flicker(style):
        return np.abs(np.diff(apply_style(frames, style).astype(int), axis=0)).mean()

    assert flicker("film") > 5
    assert flicker("sepia") == flicker("night") == 0


@pytest.mark.parametrize("style", ["snow", "rain"])
def test_particles_fall(frames, style):
    change = apply_style(frames, style).astype(int).sum(axis=-1)
    rest = np.median(change, axis=0)
    lit = np.clip(change - rest, 0, None).astype(float)
    assert lit.max() > 80
    # The best vertical shift from each frame to the next points down.
    scores = {shift: (lit[:-1] * np.roll(lit[1:], -shift, axis=1)).sum() for shift in range(-14, 15)}
    assert max(scores, key=scores.get) > 0
    assert not np.array_equal(apply_style(frames, style, 0), apply_style(frames, style, 1))


def test_light_leak_comes_from_the_right(frames):
    gain = apply_style(frames, "light_leak").astype(int) - frames
    assert gain[..., 40:, 0].mean() > gain[..., :24, 0].mean() + 20
    assert gain[..., 0].mean() > gain[..., 2].mean()


def test_light_comes_from_the_named_side(frames):
    left, right = (apply_style(frames, style).astype(int) for style in ("light_left", "light_right"))
    assert left[:, :, :20].mean() > 2 * left[:, :, -20:].mean()
    assert right[:, :, -20:].mean() > 2 * right[:, :, :20].mean()


def test_coloured_lights_fog_and_dark_corners(frames):
    red, green = (channel_means(apply_style(frames, style)) for style in ("red_light", "green_light"))
    assert red[0] > 2 * red[1:].max() and green[1] > 1.8 * green[::2].max()
    fog = apply_style(frames, "fog")
    assert fog.min() > frames.min() + 40 and fog.std() < 0.7 * frames.std()
    dark = apply_style(frames, "vignette")
    assert dark[:, :8, :8].mean() < 0.2 * dark[:, 24:40, 24:40].mean()


def test_unknown_style_is_refused(frames):
    with pytest.raises(ConfigError, match="glitter"):
        apply_style(frames, "glitter")
