"""The command over a stand-in for the network, which copies the reference; all else is real."""

import argparse
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from magicmirror.cli import evaluate
from magicmirror.errors import ConfigError, MagicMirrorError
from magicmirror.pipeline import loading
from magicmirror.pipeline.profiles import bundled_model
from magicmirror.types import GeneratedVideo


def parse(*options):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args([str(option) for option in options])


@pytest.fixture
def copying_network(monkeypatch):
    """Put the stand-in where the command looks for the network; returns the requests that reach it."""
    requests = []

    def generate(pipeline, profile, request):
        requests.append(request)
        return GeneratedVideo(np.repeat(request.references[0].crop[None], 5, axis=0), 8, {})

    pipeline = SimpleNamespace(
        provenance={"base": "none"},
        device=torch.device("cpu"),
        _execution_device=torch.device("cpu"),
        memory_plan=SimpleNamespace(policy="resident", quantisation="none"),
        transformer=SimpleNamespace(
            dtype=torch.float32,
            transformer_blocks=(),
            attn_processors={"attn1": SimpleNamespace(_attention_backend=None)},
            modules=tuple,
            _cache_config=None,
        ),
        vae=SimpleNamespace(dtype=torch.float32),
        step_cache=None,
        decode_precision=torch.float32,
        scheduler=object(),
    )
    monkeypatch.setattr(loading, "load_pipeline", lambda profile, device, memory, speed: pipeline)
    monkeypatch.setattr(loading, "generate", generate)
    return requests


def test_options_reach_the_network_and_the_report(copying_network, examples, tmp_path, capsys):
    options = ("--portraits", examples, "--all-portraits", "--output", tmp_path, "--limit", 3, "--frames", 1)
    options = (*options, "--seed", 7, "--steps", 4, "--guidance", 1.5, "--identity-scale", 0.5)
    assert evaluate.run(parse(*options, "--prompt", "a {person} img waves")) == 0
    assert [request.seed for request in copying_network] == [7, 8, 9]
    prompts = {request.prompt for request in copying_network}
    assert prompts <= {f"a {word} img waves" for word in ("man", "woman", "person")}
    assert len(prompts) > 1
    first = copying_network[0]
    assert (first.num_inference_steps, first.guidance_scale, first.identity_scale) == (4, 1.5, 0.5)
    data = json.loads((tmp_path / "identification.json").read_text())
    assert data["overall"]["rank_1"] == 1.0
    assert data["settings"]["num_inference_steps"] == 4
    assert data["settings"]["num_frames"] == 17
    assert data["settings"]["prompt"] == "a {person} img waves"
    assert (tmp_path / "contact_sheet.png").is_file()
    printed = capsys.readouterr().out
    assert "rank-1 100.0% (chance 33.3%)" in printed
    assert printed.startswith("1/3 ")


def test_second_run_generates_nothing(copying_network, examples, tmp_path):
    args = parse("--portraits", examples, "--all-portraits", "--output", tmp_path, "--limit", 2, "--frames", 1)
    evaluate.run(args)
    evaluate.run(args)
    assert len(copying_network) == 2


def test_unusable_input_is_refused_before_the_network_is_loaded(examples, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "load_pipeline", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ConfigError, match="no folder"):
        evaluate.run(parse("--portraits", tmp_path / "none", "--output", tmp_path))
    with pytest.raises(MagicMirrorError, match="Unknown profile"):
        evaluate.run(parse("--portraits", examples, "--output", tmp_path, "--profile", "other"))


def test_own_prompts_take_every_metric_and_the_report_can_be_made_again(copying_network, examples, tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text('{"prompt": "a {person} img keeps still", "motions": ["still"]}\n')
    output = tmp_path / "out"
    options = ("--portraits", examples, "--all-portraits", "--output", output, "--limit", 2, "--prompts", prompts)
    assert evaluate.run(parse(*options, "--seeds", 3, "--steps", 2)) == 0
    assert [(request.seed, request.num_inference_steps) for request in copying_network] == [(3, 2), (4, 2)]
    data = json.loads((output / "benchmark.json").read_text())
    figures = data["rows"]["generated"]["overall"]
    assert figures["rank_1"] == figures["motion_obeyed"] == 1.0
    # A copy of the reference: no motion at all.
    assert figures["fm_inter"] < 0.01 and figures["fm_ref"] < 0.06 and figures["dynamic"] == 0
    assert data["rows"]["generated"]["settings"]["suite"] == "prompts.txt"
    assert capsys.readouterr().out.startswith("1/2 ")
    report = (output / "benchmark.md").read_bytes()
    (output / "benchmark.md").unlink()
    assert evaluate.run(parse("--report-only", output)) == 0
    assert (output / "benchmark.md").read_bytes() == report
    evaluate.run(parse(*options, "--seeds", 3, "--steps", 2))
    assert len(copying_network) == 2


def test_upper_bound_needs_no_network(examples, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "load_pipeline", lambda *_: pytest.fail("loaded"))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text('{"prompt": "a {person} img tilts the head", "motions": ["tilt_left"], "style": "sepia"}\n')
    options = ("--portraits", examples, "--all-portraits", "--output", tmp_path / "out", "--limit", 2)
    assert evaluate.run(parse(*options, "--prompts", prompts, "--rows", "data")) == 0
    rows = json.loads((tmp_path / "out" / "benchmark.json").read_text())["rows"]
    assert set(rows) == {"data"}
    assert rows["data"]["overall"]["text_obeyed"] == rows["data"]["overall"]["rank_1"] == 1.0
    assert rows["data"]["words"]["motions"]["tilt_left"]["mean_effect"] == pytest.approx(12, abs=3)


@pytest.mark.skipif(not (bundled_model("preview") / "model_index.json").is_file(), reason="no preview model yet")
def test_reconstructions_are_the_animations_through_the_vae(examples, tmp_path, monkeypatch):
    import numpy as np
    import torch

    from magicmirror.media import read_video
    from magicmirror.pipeline.pipeline import MagicMirrorPipeline

    prompts = tmp_path / "prompts.txt"
    prompts.write_text('{"prompt": "a {person} img tilts the head", "motions": ["tilt_left"], "style": "sepia"}\n')
    options = ("--portraits", examples, "--all-portraits", "--output", tmp_path / "out", "--limit", 2)
    monkeypatch.setattr(MagicMirrorPipeline, "__call__", lambda *_, **__: pytest.fail("generated"))
    assert evaluate.run(parse(*options, "--prompts", prompts, "--rows", "data", "reconstructed")) == 0
    rows = json.loads((tmp_path / "out" / "benchmark.json").read_text())["rows"]
    assert set(rows) == {"data", "reconstructed"}
    assert rows["reconstructed"]["words"]["motions"]["tilt_left"]["mean_effect"] == pytest.approx(12, abs=3)
    data, made = (
        read_video(min((tmp_path / "out" / row / "videos").glob("*.mp4")))[0].astype(float)
        for row in ("data", "reconstructed")
    )
    assert made.shape == data.shape
    assert 0.5 < np.abs(made - data).mean() < 0.5 * np.abs(data - data.mean((0, 1, 2))).mean()
    vae = MagicMirrorPipeline.from_pretrained(bundled_model("preview"), dtype=torch.float32).vae
    pixels = torch.from_numpy(data).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        expected = ((vae.decode(vae.encode(pixels).latent_dist.mean).sample[0].permute(1, 2, 3, 0) + 1) * 127.5).numpy()
    assert np.abs(made - expected.clip(0, 255)).mean() < 3  # two mp4 lie between them


def test_missing_options_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="needs portraits"):
        evaluate.run(parse("--output", tmp_path))
    with pytest.raises(ConfigError, match="no finished videos"):
        evaluate.run(parse("--report-only", tmp_path))


@pytest.mark.skipif(not (bundled_model("preview") / "model_index.json").is_file(), reason="no preview model yet")
def test_preview_model_end_to_end(examples, tmp_path):
    options = ("--portraits", examples, "--all-portraits", "--output", tmp_path, "--limit", 2, "--steps", 1)
    assert evaluate.run(parse(*options, "--frames", 1)) == 0
    data = json.loads((tmp_path / "identification.json").read_text())
    assert data["settings"]["weights"]["base"].startswith("sha256:")
    assert len(data["people"]) == 2
