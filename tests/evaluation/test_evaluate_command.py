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
        return SimpleNamespace(frames=np.repeat(request.references[0].crop[None], 3, axis=0))

    pipeline = SimpleNamespace(
        provenance={"base": "none"},
        device=torch.device("cpu"),
        transformer=SimpleNamespace(dtype=torch.float32),
        scheduler=object(),
    )
    monkeypatch.setattr(loading, "load_pipeline", lambda profile, device, adapter: pipeline)
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


@pytest.mark.skipif(not (bundled_model("preview") / "model_index.json").is_file(), reason="no preview model yet")
def test_preview_model_end_to_end(examples, tmp_path):
    options = ("--portraits", examples, "--all-portraits", "--output", tmp_path, "--limit", 2, "--steps", 1)
    assert evaluate.run(parse(*options, "--frames", 1)) == 0
    data = json.loads((tmp_path / "identification.json").read_text())
    assert data["settings"]["weights"]["base"].startswith("sha256:")
    assert len(data["people"]) == 2
