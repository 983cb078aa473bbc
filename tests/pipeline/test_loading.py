import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

from magicmirror.cli.main import main
from magicmirror.errors import JobCancelled, WeightsError
from magicmirror.pipeline import loading
from magicmirror.pipeline.identity_encoder import load_identity_encoder
from magicmirror.pipeline.loading import check_adapter, generate, load_pipeline, set_scheduler
from magicmirror.pipeline.profiles import find_profile
from magicmirror.pipeline.sources import adapter_path, folder_hash
from magicmirror.types import GenerationRequest, VideoShape
from tests.tiny_published import TINY, publish, same_weights


def tiny(profile_name, base, **changes):
    """A profile of the tiny components; the encoder of published parts lies beside their base."""
    if profile_name != "preview":
        changes.setdefault("identity_encoder", str(base.parent / "photomaker"))
    return replace(
        find_profile(profile_name),
        base=str(base),
        shape=VideoShape(9, 32, 32, 8),
        sizes_px=((32, 32),),
        num_inference_steps=3,
        **changes,
    )


@pytest.fixture(scope="module")
def saved(make_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("preview")
    make_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(saved):
    profile = tiny("preview", saved)
    return load_pipeline(profile, "cpu"), profile


@pytest.fixture
def request_(reference):
    return GenerationRequest(prompt="a man smiles", references=(reference,), seed=3)


def test_generate_gives_frames_settings_and_timings(loaded, request_):
    pipeline, profile = loaded
    video = generate(pipeline, profile, request_)
    assert video.frames.shape == (9, 32, 32, 3)
    assert video.frames.dtype == np.uint8
    assert video.fps == 8
    assert json.loads(json.dumps(video.settings)) == video.settings
    expected = {
        "prompt": "a man smiles",
        "seed": 3,
        "profile": "preview",
        "num_inference_steps": 3,
        "guidance_scale": 1.1,
        "identity_scale": 1.0,
        "scheduler": "CogVideoXDDIMScheduler",
        "num_frames": 9,
        "height_px": 32,
        "width_px": 32,
        "references": [f"{1:064x}"],
        "dtype": "float32",
    }
    assert {key: video.settings[key] for key in expected} == expected
    assert video.settings["versions"]["torch"] == torch.__version__
    assert video.settings["weights"]["base"] == folder_hash(Path(profile.base))
    assert list(video.timings_s) == ["identity", "prompt", "denoise", "decode", "total"]
    assert video.timings_s["total"] >= sum(list(video.timings_s.values())[:-1])


def test_generate_is_the_pipeline_call(loaded, request_):
    pipeline, profile = loaded
    video = generate(pipeline, profile, request_)
    frames = pipeline(
        "a man smiles", request_.references, num_inference_steps=3, guidance_scale=1.1, seed=3, output_type="np"
    ).frames[0]
    assert np.array_equal(video.frames, np.rint(frames * 255).astype(np.uint8))
    assert np.array_equal(generate(pipeline, profile, request_).frames, video.frames)
    assert not np.array_equal(generate(pipeline, profile, replace(request_, seed=4)).frames, video.frames)


def test_steps_are_reported(loaded, request_):
    pipeline, profile = loaded
    seen = []
    generate(pipeline, profile, request_, on_step=lambda *step: seen.append(step))
    assert [(step, total) for step, total, _ in seen] == [(0, 3), (1, 3), (2, 3)]
    assert seen[0][2].shape == (1, 3, 4, 4, 4)


@pytest.mark.parametrize("stop_after", [0, 1, 3])
def test_cancel_stops_within_a_step(loaded, request_, stop_after):
    pipeline, profile = loaded
    steps = []
    with pytest.raises(JobCancelled):
        generate(
            pipeline,
            profile,
            request_,
            on_step=lambda step, *_: steps.append(step),
            should_stop=lambda: len(steps) >= stop_after,
        )
    assert len(steps) == stop_after


def test_missing_weights_say_where_they_were_expected(tmp_path):
    with pytest.raises(WeightsError, match=rf"{tmp_path}.*MAGICMIRROR_MODEL_PATH"):
        load_pipeline(tiny("preview", tmp_path), "cpu")


def test_full_profile_refuses_without_adapter():
    with pytest.raises(WeightsError, match=r"cogvideox-5b.*needs adapter weights.*docs/training\.md.*--adapter"):
        load_pipeline(find_profile("cogvideox-5b"), "cpu")


def test_a_base_that_cannot_be_looked_into_is_named_rather_than_its_adapter(tmp_path):
    for base in (tmp_path, tmp_path / "misspelt"):
        with pytest.raises(WeightsError, match="not a saved pipeline"):
            check_adapter(tiny("cogvideox-5b", base))


def test_a_base_that_brings_its_adapter_needs_no_other(saved):
    check_adapter(tiny("cogvideox-5b", saved))
    check_adapter(find_profile("preview"))


@pytest.fixture(scope="module")
def published(make_pipeline, tmp_path_factory):
    """Folder of what a full-size run is put together from, and the pipeline whose parts these are."""
    root = tmp_path_factory.mktemp("published")
    pipeline = make_pipeline()
    publish(root, pipeline)
    return root, pipeline


@pytest.fixture
def tiny_preset(monkeypatch):
    monkeypatch.setattr(loading, "model_preset", lambda _: TINY)


def test_what_does_not_belong_together_is_said_by_generate_before_a_photo_is_looked_at(published, tmp_path, capsys):
    """Nothing of the base but two texts is here, and looking at a photo would fetch face models first."""
    root, _ = published
    for name in ("model_index.json", "transformer/config.json"):
        (tmp_path / "base" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "base" / name, tmp_path / "base" / name)
    weights = ["--profile", "cogvideox-5b", "--model-path", str(tmp_path / "base"), "--adapter", str(root / "adapter")]
    reference = ["--reference", str(tmp_path / "none.jpg"), "--prompt", "a man smiles"]
    assert main(["generate", *reference, "--output", str(tmp_path / "out.mp4"), *weights]) == 1
    error = capsys.readouterr().err
    assert "was made for another transformer: attention_head_dim is 16, expected 64" in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("tiny_preset")
def test_full_size_pipeline_is_put_together_from_published_parts(published, reference):
    root, pipeline = published
    profile = tiny("cogvideox-5b", root / "base", cpu_dtype="float32", vae_tiling=False)
    assembled = load_pipeline(profile, "cpu", adapter=str(root / "adapter"))
    assert isinstance(assembled.scheduler, CogVideoXDPMScheduler)
    assert assembled.provenance["base"] == "local:base"
    assert assembled.provenance["adapter"] == folder_hash(root / "adapter")
    assert same_weights(pipeline, assembled)
    assert not any(part.training for part in assembled.components.values() if isinstance(part, torch.nn.Module))
    video = generate(
        assembled,
        profile,
        GenerationRequest(prompt="a man smiles", references=(reference,), seed=0, profile="cogvideox-5b"),
    )
    assert video.frames.shape == (9, 32, 32, 3)
    assert video.settings["use_dynamic_cfg"] is True


@pytest.mark.usefixtures("tiny_preset")
def test_incomplete_base_and_wrong_encoder_are_refused(published, tmp_path):
    root, _ = published
    adapter = str(root / "adapter")
    with pytest.raises(WeightsError, match=r"no model_index\.json"):
        load_pipeline(tiny("cogvideox-5b", tmp_path), "cpu", adapter)
    (tmp_path / "model_index.json").write_text('{"_class_name": "CogVideoXPipeline"}')
    with pytest.raises(WeightsError, match="no folder tokenizer"):
        load_pipeline(tiny("cogvideox-5b", tmp_path, identity_encoder=str(root / "photomaker")), "cpu", adapter)
    with pytest.raises(WeightsError, match=r"photomaker-v2\.bin"):
        load_pipeline(tiny("cogvideox-5b", root / "base", identity_encoder=str(tmp_path)), "cpu", adapter)
    with pytest.raises(WeightsError, match="holds no adapter"):
        load_pipeline(tiny("cogvideox-5b", root / "base"), "cpu", str(tmp_path / "none"))


def test_encoder_of_another_size_is_refused(published):
    wider = replace(TINY, identity_perceiver={**TINY.identity_perceiver, "token_dim": 40})
    with pytest.raises(WeightsError, match="does not fit IdentityPerceiver"):
        load_identity_encoder(published[0] / "photomaker/photomaker-v2.bin", wider)


def test_adapter_on_a_saved_pipeline(saved, published, make_pipeline, tmp_path):
    make_pipeline(seed=9).save_adapter(tmp_path)
    pipeline = load_pipeline(tiny("preview", saved), "cpu", adapter=str(tmp_path))
    assert pipeline.provenance["adapter"] == folder_hash(tmp_path)
    expected = make_pipeline(seed=9).transformer.identity_proj.weight
    assert torch.equal(pipeline.transformer.identity_proj.weight, expected)


def test_scheduler_keeps_the_noise_schedule(loaded):
    pipeline, _ = loaded
    before = pipeline.scheduler.alphas_cumprod
    set_scheduler(pipeline, "dpm")
    assert isinstance(pipeline.scheduler, CogVideoXDPMScheduler)
    assert torch.equal(pipeline.scheduler.alphas_cumprod, before)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    set_scheduler(pipeline, "ddim")
    assert isinstance(pipeline.scheduler, CogVideoXDDIMScheduler)


def test_folder_hash_follows_names_and_contents(tmp_path):
    (tmp_path / "a.json").write_text("1")
    first = folder_hash(tmp_path)
    (tmp_path / "notes.txt").write_text("does not count")
    assert folder_hash(tmp_path) == first
    (tmp_path / "a.json").write_text("2")
    second = folder_hash(tmp_path)
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    assert len({first, second, folder_hash(tmp_path)}) == 3


def test_paths_of_adapters_are_not_taken_for_hub_ids(tmp_path):
    for source in (tmp_path, tmp_path / "missing"):
        assert adapter_path(str(source)) == source
    assert adapter_path("./runs/adapter").as_posix() == "runs/adapter"
