import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from magicmirror.errors import ConfigError
from magicmirror.models.presets import model_preset
from magicmirror.pipeline.profiles import bundled_model, find_profile, profile_names
from magicmirror.settings import Settings
from magicmirror.types import GenerationRequest, VideoShape


def request_for(profile, reference, **changes):
    return GenerationRequest(prompt="a man smiles", references=(reference,), seed=0, profile=profile.name, **changes)


def test_profiles_fit_their_model_presets():
    assert profile_names() == ("preview", "cogvideox-5b", "cogvideox-1.5-5b")
    for name in profile_names():
        profile = find_profile(name)
        transformer = model_preset(profile.preset).transformer
        size, grid = profile.shape, (8 * transformer["sample_height"], 8 * transformer["sample_width"])
        if "patch_size_t" in transformer:  # positions are cut out of a larger grid
            assert size.height_px <= grid[0] and size.width_px <= grid[1]
        else:
            assert (size.height_px, size.width_px) == grid
        assert profile.shape.num_frames == transformer["sample_frames"]
        assert (profile.shape.height_px, profile.shape.width_px) in profile.sizes_px


def test_resolve_fills_every_none(reference):
    profile = find_profile("preview")
    resolved = profile.resolve(request_for(profile, reference))
    assert resolved == request_for(
        profile,
        reference,
        num_inference_steps=2,
        guidance_scale=1.1,
        num_frames=17,
        height_px=128,
        width_px=128,
    )
    assert profile.video_shape(resolved) == VideoShape(17, 128, 128, 8)
    assert profile.resolve(resolved) == resolved


def test_resolve_keeps_what_is_given(reference):
    profile = replace(find_profile("cogvideox-5b"), negative_prompt="blur")
    given = request_for(profile, reference, num_inference_steps=7, guidance_scale=1.0, num_frames=9)
    resolved = profile.resolve(given)
    assert (resolved.num_inference_steps, resolved.guidance_scale, resolved.num_frames) == (7, 1.0, 9)
    assert (resolved.height_px, resolved.width_px, resolved.negative_prompt) == (480, 720, "blur")
    assert profile.resolve(replace(given, negative_prompt="rain")).negative_prompt == "rain"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 16}, "nearest is 17"),
        ({"num_frames": 100}, "nearest is 49"),
        ({"num_frames": -3}, "nearest is 1"),
        ({"height_px": 720}, "720 x 720 px.*nearest size is 720 x 480"),
        ({"width_px": 704, "height_px": 480}, "704 x 480 px.*720 x 480"),
    ],
)
def test_impossible_sizes_name_the_nearest(reference, changes, message):
    profile = find_profile("cogvideox-5b")
    with pytest.raises(ConfigError, match=message):
        profile.resolve(request_for(profile, reference, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 49 + 8}, "1, 17, 33, ... up to 161 frames, got 57.*nearest is (49|65)"),
        ({"num_frames": 500}, "nearest is 161"),
        ({"width_px": 1280, "height_px": 720}, "1280 x 720 px.*nearest size is 1360 x 768"),
    ],
)
def test_the_newer_backbone_has_its_own_sizes(reference, changes, message):
    profile = find_profile("cogvideox-1.5-5b")
    assert profile.resolve(request_for(profile, reference, num_frames=161)).num_frames == 161
    with pytest.raises(ConfigError, match=message):
        profile.resolve(request_for(profile, reference, **changes))


def test_request_for_another_profile_is_refused(reference):
    with pytest.raises(ConfigError, match=r'"cogvideox-5b".*"preview"'):
        find_profile("preview").resolve(request_for(find_profile("cogvideox-5b"), reference))


def test_unknown_profile_names_the_known():
    with pytest.raises(ConfigError, match=r"preview, cogvideox-5b, cogvideox-1\.5-5b"):
        find_profile("huge")


def test_settings_replace_weights():
    settings = Settings(model_path=Path("elsewhere"), adapter="me/adapter", identity_encoder="encoder.bin")
    profile = find_profile("preview", settings)
    assert (profile.base, profile.adapter, profile.identity_encoder) == ("elsewhere", "me/adapter", "encoder.bin")
    assert find_profile("preview", Settings()) == find_profile("preview")
    assert Path(find_profile("preview").base) == bundled_model("preview")
    assert bundled_model("preview").parts[-3:] == ("assets", "models", "preview")


def test_dtype_follows_the_device():
    full = find_profile("cogvideox-5b")
    assert (full.dtype_name("cuda"), full.dtype_name("cpu")) == ("bfloat16", "bfloat16")
    assert find_profile("preview").dtype_name("cpu") == "float32"


def test_profiles_and_person_word_import_no_heavy_library():
    code = (
        "import sys, magicmirror.pipeline.profiles, magicmirror.pipeline.person_word\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers')))"
    )
    root = str(Path(__file__).parents[2])
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}).returncode == 0
