import numpy as np
import pytest

from magicmirror.data.animation import render_clip
from magicmirror.data.motion import ClipSpec, MotionCue
from magicmirror.data.style import STYLES
from magicmirror.errors import ConfigError
from magicmirror.evaluation.obedience import STYLE_LIMITS
from magicmirror.evaluation.style_effects import measure_look, measure_particles, reference_look, style_effects
from magicmirror.media import load_image


def plain(rgb, frames=5):
    return np.broadcast_to(np.array(rgb, dtype=np.uint8), (frames, 32, 32, 3)).copy()


def test_colours_of_plain_pictures():
    grey = measure_look(plain((128, 128, 128)))
    assert grey.luma == pytest.approx(128 / 255, abs=1e-3)
    assert grey.warmth == grey.chroma == grey.glow == pytest.approx(0, abs=1e-5)
    assert grey.hues == pytest.approx(0, abs=1e-5)
    red = measure_look(plain((204, 102, 51)))
    assert red.warmth == pytest.approx(np.log(0.82 / 0.22), abs=1e-2)
    assert red.chroma == pytest.approx((0.4 + 0.2) / 2, abs=1e-2)
    # One tint all over is one hue, however strong; two tints are not.
    assert red.hues == pytest.approx(0, abs=1e-5)
    two = plain((204, 102, 51))
    two[:, :16] = (51, 102, 204)
    assert measure_look(two).hues > 0.3


def test_orange_light_in_the_upper_right_glows():
    lit = plain((100, 100, 100))
    lit[:, :16, 22:, 0] = 202
    assert measure_look(lit).glow == pytest.approx(0.4, abs=0.02)
    assert measure_look(lit[:, :, ::-1]).glow == pytest.approx(-0.4, abs=0.02)


def test_particles_of_hand_made_clips():
    still = measure_particles(plain((100, 100, 100), 9))
    assert still.bright == still.grain == 0
    flakes = plain((100, 100, 100), 9)
    streaks = flakes.copy()
    for frame in range(9):
        flakes[frame, 3 * frame : 3 * frame + 4, 8:12] = 230
        streaks[frame, 7 * frame % 24 : 7 * frame % 24 + 6, 16] = 230
    snow, rain = measure_particles(flakes), measure_particles(streaks)
    assert snow.bright == pytest.approx(16 / 1024, rel=0.3)
    assert snow.streaks < 1.4 < rain.streaks
    dark = measure_particles(200 - (flakes // 2))
    assert dark.bright < 0
    noise = plain((100, 100, 100), 9).astype(int) + np.random.default_rng(0).normal(0, 8, (9, 32, 32, 1))
    assert measure_particles(noise.astype(np.uint8)).grain > 0.01
    with pytest.raises(ConfigError, match="five frames"):
        measure_particles(plain((1, 1, 1), 4))


@pytest.fixture(scope="module")
def styled(examples, example_references):
    """Style -> effects of every style, for each example person; each in motion."""
    motions = ("still", "turn_left", "zoom_in", "nod", "pan_right", "tilt_left", "smile", "shake")
    results = {style: [] for style in STYLES}
    for index, (name, reference) in enumerate(example_references.items()):
        photo, at_rest = load_image(examples / f"{name}.jpg"), reference_look(reference.crop)
        for number, style in enumerate(STYLES):
            cue = MotionCue(motions[(index + number) % len(motions)])
            frames = render_clip(photo, reference.landmarks, ClipSpec((cue,), style, "", index % 4))
            results[style].append(style_effects(measure_look(frames), measure_particles(frames), at_rest))
    return results


def test_measures_are_right_on_animated_clips(styled):
    """The known-answer test: of all clips with a style, at least 95 % show it."""
    right = [effects[style] > STYLE_LIMITS[style] for style in STYLE_LIMITS for effects in styled[style]]
    assert len(right) == len(STYLE_LIMITS) * 8
    assert np.mean(right) >= 0.95
    for style in STYLE_LIMITS:
        assert np.mean([effects[style] > STYLE_LIMITS[style] for effects in styled[style]]) >= 0.75, style


def test_clips_without_a_style_show_none(styled):
    false = [style for effects in styled["none"] for style, limit in STYLE_LIMITS.items() if effects[style] > limit]
    assert len(false) <= 0.05 * len(STYLE_LIMITS) * len(styled["none"]), false


def test_every_style_of_the_captions_has_a_measure(styled):
    assert set(STYLE_LIMITS) == set(STYLES) - {"none"}
    assert all(set(effects) == set(STYLE_LIMITS) for each in styled.values() for effects in each)


@pytest.mark.parametrize(("first", "second"), [("warm", "cool"), ("night", "bright")])
def test_opposite_styles_have_opposite_signs(styled, first, second):
    assert all(effects[second] < 0 < effects[first] for effects in styled[first])
    assert all(effects[first] < 0 < effects[second] for effects in styled[second])
