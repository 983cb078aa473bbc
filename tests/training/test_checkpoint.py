"""Checkpoints: exact, complete or absent, and refused by other networks."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

from magicmirror.errors import WeightsError
from magicmirror.training import checkpoint
from magicmirror.training.average import WeightAverage
from magicmirror.training.checkpoint import (
    checkpoints,
    load_checkpoint,
    load_trainable,
    save_checkpoint,
    trainable_state,
)
from tests.tiny_training import make_config


def make_parts(seed, width=3):
    """A model with a frozen part, its average, and an optimiser that has done one step."""
    torch.manual_seed(seed)
    model, other = (nn.Sequential(nn.Linear(4, width), nn.Linear(width, 2)) for _ in range(2))
    for network in (model, other):
        network[1].requires_grad_(False)
    average = WeightAverage(other, 0.9)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(torch.randn(5, 4)).square().mean().backward()
    optimizer.step()
    return model, average, optimizer


def save(folder, step, parts, keep=2):
    return save_checkpoint(folder, step, make_config(), *parts, keep=keep)


def test_round_trip_is_exact_and_holds_what_is_trained(tmp_path):
    saved, loaded = make_parts(0), make_parts(1)
    path = save(tmp_path, 7, saved)
    assert path.name == "step-00000007" and list(trainable_state(saved[0])) == ["0.weight", "0.bias"]
    frozen = loaded[0][1].weight.clone()
    state = load_checkpoint(path, *loaded)
    assert state == {"step": 7, **asdict(make_config()), "made_from": {}}
    for own, other in ((trainable_state(saved[0]), trainable_state(loaded[0])), (saved[1].values, loaded[1].values)):
        assert own.keys() == other.keys() == {"0.weight", "0.bias"}
        assert all(torch.equal(value, other[name]) for name, value in own.items())
    assert loaded[1].updates == 7
    assert torch.equal(loaded[0][1].weight, frozen)
    for index, values in saved[2].state_dict()["state"].items():
        for name, value in values.items():
            assert torch.equal(loaded[2].state_dict()["state"][index][name], value), name


def test_the_newest_are_kept(tmp_path):
    parts = make_parts(0)
    for step in (5, 10, 15, 100_000_000):
        save(tmp_path, step, parts)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000015", "step-100000000"]
    assert sorted(os.listdir(tmp_path)) == ["step-00000015", "step-100000000"]
    assert checkpoints(tmp_path / "none") == []


def test_a_step_can_be_written_again(tmp_path):
    save(tmp_path, 3, make_parts(0))
    second = make_parts(1)
    path = save(tmp_path, 3, second)
    loaded = make_parts(2)
    load_checkpoint(path, *loaded)
    assert torch.equal(loaded[0][0].weight, second[0][0].weight)
    assert os.listdir(tmp_path) == ["step-00000003"]


@pytest.mark.parametrize("fails", ["save_file", "os.replace", "shutil.rmtree"])
@pytest.mark.parametrize("step", [2, 3])
def test_a_save_that_fails_leaves_complete_checkpoints_alone(tmp_path, monkeypatch, fails, step):
    """Whatever call fails first, and whether or not the step was there before."""
    parts = make_parts(0)
    for earlier in (1, 2):
        save(tmp_path, earlier, parts)

    def broken(subject, *arguments, **options):
        if fails == "shutil.rmtree":  # interrupted in the middle
            next(path for path in Path(subject).iterdir() if path.name == "optimizer.pt").unlink()
        raise OSError("stopped")

    with monkeypatch.context() as patch:
        holder, _, name = fails.rpartition(".")
        patch.setattr(getattr(checkpoint, holder) if holder else checkpoint, name, broken)
        # A checkpoint that was replaced is hidden before it is removed: that it stays for now is no failure.
        replaced_stays = (step, fails) == (2, "shutil.rmtree")
        failure = pytest.raises((OSError, WeightsError), match="stopped")
        with contextlib.nullcontext() if replaced_stays else failure:
            save(tmp_path, step, parts)
    for path in checkpoints(tmp_path):
        load_checkpoint(path, *make_parts(1))
    assert checkpoints(tmp_path)
    save(tmp_path, 4, parts)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]  # what was left behind is gone
    assert checkpoints(tmp_path)[-1].name == "step-00000004"


def test_a_killed_writer_loses_nothing(tmp_path, repository):
    script = Path(__file__).with_name("checkpoint_writer.py")
    rounds = 12
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run"), str(rounds)],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps = [int(line) for line in done.stdout.split()]
    assert len(steps) == rounds and steps == sorted(steps) and steps[-1] > rounds / 2


def test_other_networks_are_refused(tmp_path):
    path = save(tmp_path, 1, make_parts(0))
    wider = make_parts(1, width=5)
    before = wider[0][0].weight.clone()
    with pytest.raises(WeightsError, match=r"does not fit.*0\.(bias|weight)"):
        load_checkpoint(path, *wider)
    assert torch.equal(wider[0][0].weight, before)
    thawed = make_parts(1)
    thawed[0][1].requires_grad_(True)
    with pytest.raises(WeightsError, match=r"1\.bias"):
        load_checkpoint(path, *thawed)
    with pytest.raises(WeightsError, match="does not fit"):
        load_trainable(nn.Linear(4, 3), path / "model.safetensors")


def test_the_config_is_readable_beside_the_weights(tmp_path):
    path = save(tmp_path, 1, make_parts(0))
    assert sorted(p.name for p in path.iterdir()) == [
        "average.safetensors",
        "config.json",
        "model.safetensors",
        "optimizer.pt",
    ]
    assert json.loads((path / "config.json").read_text())["learning_rate"] == make_config().learning_rate


def test_a_run_killed_again_and_again_ends_like_one_left_alone(tmp_path, repository):
    """Weights, average, optimiser and settings, byte for byte; the newest checkpoint loads after every kill."""
    script = Path(__file__).with_name("killed_run.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "4"],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps = [int(line) for line in done.stdout.split()]
    assert len(steps) == 4 and steps == sorted(steps) and 0 < steps[0] < 40
