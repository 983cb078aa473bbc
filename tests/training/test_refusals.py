"""What a disk, a folder or a damaged file refuses a run: one clear line each, and nothing is lost."""

import json
import math
import os
import resource
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.training.checkpoint import checkpoints, load_checkpoint, read_config, trainable_state
from magicmirror.training.recipes import Recipe
from magicmirror.training.run import dry_run, train
from magicmirror.training.trainer import TrainingDiverged
from tests.own_disk import run_on_a_disk_of_its_own
from tests.tiny_training import build_trainable, make_config
from tests.training.test_checkpoint import make_parts, save
from tests.training.test_trainer import line_trainer, spoil

FILES = ("model.safetensors", "average.safetensors", "optimizer.pt", "config.json")
SMALL = Recipe(make_config(max_steps=2), ("identity_fusion",), "try the trainer")

DAMAGES = {
    "half": lambda content: content[: len(content) // 2],
    "three bytes": lambda content: content[:3],
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"hello \xff",
    "empty": lambda content: b"",
}


# A damaged checkpoint.


def state_of(parts):
    model, average, optimizer = parts
    state = [value for values in optimizer.state_dict()["state"].values() for value in values.values()]
    return [
        *trainable_state(model).values(),
        *(v.clone() for v in average.values.values()),
        *(v.clone() for v in state),
    ]


@pytest.mark.parametrize("damage", [*DAMAGES, "missing"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_with_what_to_go_on_from(tmp_path, name, damage):
    for step in (1, 2, 3):
        newest = save(tmp_path, step, make_parts(0), keep=3)
    file = newest / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    parts = make_parts(1)
    before = state_of(parts)
    with pytest.raises(WeightsError) as caught:
        load_checkpoint(newest, *parts)
    state = {"missing": "missing", "empty": "empty"}.get(damage, "cut short or overwritten")
    assert caught.value.message == f"The checkpoint {newest} is damaged: {name} is {state}."
    assert caught.value.remedy == "Remove it to go on from step-00000002."
    after = state_of(parts)
    assert len(before) == len(after) and all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert parts[1].updates == 0

    shutil.rmtree(newest)
    assert load_checkpoint(checkpoints(tmp_path)[-1], *parts)["step"] == 2


def test_only_a_whole_older_checkpoint_is_recommended(tmp_path):
    first, second, third = (save(tmp_path, step, make_parts(0), keep=3) for step in (1, 2, 3))
    (third / "config.json").write_text("{}")
    (second / "optimizer.pt").unlink()
    with pytest.raises(WeightsError, match=r"step-00000003 is damaged: config\.json.*go on from step-00000001"):
        read_config(third)
    with pytest.raises(WeightsError, match=r"step-00000002 is damaged: optimizer\.pt.*go on from step-00000001"):
        load_checkpoint(second, *make_parts(1))
    (first / "average.safetensors").write_bytes(b"")
    for path in (first, second):
        with pytest.raises(WeightsError, match="Remove it to begin anew"):
            load_checkpoint(path, *make_parts(1))


def test_a_state_of_another_optimiser_is_refused(tmp_path):
    path = save(tmp_path, 1, make_parts(0))
    torch.save(torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict(), path / "optimizer.pt")
    parts = make_parts(1)
    before = state_of(parts)
    with pytest.raises(WeightsError, match=r"optimizer\.pt does not fit"):
        load_checkpoint(path, *parts)
    assert all(torch.equal(*pair) for pair in zip(before, state_of(parts), strict=True))


# A disk that is full, or refuses a file of this size.


@contextmanager
def largest_file(size):
    """Let the system refuse larger files for a while; it says so in the middle of writing, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt"])
def test_a_checkpoint_that_does_not_fit_leaves_the_older_one(tmp_path, name):
    """Whichever library the system refuses; the average is as large as the model."""
    parts = make_parts(0)
    first = save(tmp_path, 1, parts)
    with largest_file((first / name).stat().st_size - 1), pytest.raises(WeightsError, match="is larger than") as caught:
        save(tmp_path, 2, parts)
    assert str(tmp_path / "step-00000002") in caught.value.message and "limit" in caught.value.message
    assert os.listdir(tmp_path) == ["step-00000001"]
    assert load_checkpoint(first, *make_parts(1))["step"] == 1


@pytest.mark.parametrize("room", [0, 100_000, 400_000, 800_000])
def test_a_full_disk_is_named_and_leaves_the_older_checkpoint(tmp_path, repository, room):
    """On a file system of its own, that fills up in each of the large files: 0.26, 0.26 and 0.53 MB."""
    script = Path(__file__).with_name("full_disk.py")
    done = run_on_a_disk_of_its_own(tmp_path, "4m", repository, script, tmp_path, room)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["message"].startswith("The disk is full: "), report
    assert report["left"] == ["step-00000001"] and report["step"] == 1
    if room:
        assert report["message"].endswith('step-00000002" cannot be written.')
        assert report["remedy"] == "Free 2 MB or choose another folder."  # 1.05 MB, rounded up


@pytest.mark.parametrize(("start", "made"), [("networks", "pipeline"), ("cogvideox", "adapter")])
def test_networks_that_do_not_fit_are_saved_by_the_same_call(shards, tmp_path, start, made):
    """The checkpoint fits, the file of the networks does not."""
    recipe = replace(SMALL, start=start)
    train(recipe, [shards], build_trainable(), tmp_path / "before")
    fits, needed = (
        max(path.stat().st_size for path in (tmp_path / "before" / name).rglob("*") if path.is_file())
        for name in ("checkpoints", made)
    )
    assert fits < needed
    shutil.rmtree(tmp_path / "before")
    with largest_file(fits), pytest.raises(WeightsError, match="is larger than") as caught:
        train(recipe, [shards], build_trainable(), tmp_path)
    assert f'"{tmp_path / made}" cannot be written' in caught.value.message
    assert "the same command then saves the networks" in caught.value.remedy and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["checkpoints"]
    (kept,) = checkpoints(tmp_path / "checkpoints")
    assert kept.name == "step-00000002"
    written = kept.stat().st_ino
    assert train(recipe, [shards], build_trainable(), tmp_path) == tmp_path / made
    assert checkpoints(tmp_path / "checkpoints") == [kept]
    assert kept.stat().st_ino == written  # not written again: nothing in it is new


def test_a_batch_that_does_not_fit_does_not_hide_why_the_run_stopped(tmp_path):
    folder = tmp_path / "checkpoints"
    trainer = line_trainer(folder, batch_at=spoil(2, math.nan), checkpoint_steps=1, max_steps=4)
    for _ in range(2):
        trainer.train_step()
    with largest_file(100), pytest.raises(TrainingDiverged) as caught:
        trainer.run()
    assert caught.value.message.startswith("The loss of step 2 is not finite; the batch could not be saved: ")
    assert "diverged-step-2.pt" in caught.value.message and "is larger than" in caught.value.message
    assert "lower --learning-rate" in caught.value.remedy
    assert os.listdir(folder) == []


# An output that cannot be.


def impossible_outputs(folder):
    """Output and what is said of it."""
    (folder / "file").write_text("in the way")
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "taken").mkdir()
    (folder / "taken" / "checkpoints").write_text("in the way")
    (folder / "saved").mkdir()
    (folder / "saved" / "pipeline").write_text("in the way")
    return {
        folder / "file": 'file" is not a folder',
        folder / "file" / "run": 'file" is not a folder',
        folder / "dangling": 'dangling" is not a folder',
        folder / "taken": 'checkpoints" is not a folder',
        folder / "saved": 'pipeline" is not a folder.*Move it away',
        folder / ("n" * 300): "is too long",
    }


def test_an_impossible_output_is_refused_before_the_first_step(shards, tmp_path, monkeypatch):
    def step(trainer):
        raise AssertionError("a step was done")

    monkeypatch.setattr("magicmirror.training.trainer.Trainer.train_step", step)
    for output, reason in impossible_outputs(tmp_path).items():
        with pytest.raises(ConfigError, match=reason) as caught:
            train(SMALL, [shards], build_trainable(), output)
        assert caught.value.remedy


def test_an_output_where_nothing_can_be_written_is_refused(shards, tmp_path):
    """Root may write to any folder, but not beyond a limit on files."""
    with largest_file(0), pytest.raises(ConfigError, match="larger than the file system or a limit"):
        train(SMALL, [shards], build_trainable(), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").rglob("*")] == ["checkpoints"]


def test_a_dry_run_makes_no_output(shards, tmp_path):
    (tmp_path / "file").write_text("stays")
    dry_run(SMALL, [shards], build_trainable(), tmp_path / "file")
    dry_run(SMALL, [shards], build_trainable(), tmp_path / "run")
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "stays"
