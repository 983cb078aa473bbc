"""``train``: what it refuses, what it writes, and the way from portraits to a pipeline that generates."""

from __future__ import annotations

import logging
import re
import shutil

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from transformers.utils import logging as transformers_logging

from magicmirror.cli.main import main
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.training.checkpoint import checkpoints
from tests.tiny_training import build_trainable, write_shards

PORTRAITS = ("man_1", "man_2", "woman_1", "woman_2")


@pytest.fixture(autouse=True)
def clean_process():
    """A command owns its process; here several share one."""
    logger = logging.getLogger("magicmirror")
    level = logger.level
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    logger.setLevel(level)
    transformers_logging.enable_progress_bar()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Tiny networks, saved as a run saves them: in half precision."""
    folder = tmp_path_factory.mktemp("start")
    build_trainable().to(torch.float16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


def files(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_joint_trains_in_full_precision_and_goes_on_by_the_same_command(start, shards, tmp_path, capsys):
    arguments = ["train", "joint", "--data", shards, "--start", start, "--output", tmp_path / "run", "--max-steps", 2]
    assert main([str(argument) for argument in arguments]) == 0
    assert capsys.readouterr().out == f"saved {tmp_path / 'run' / 'pipeline'}\n"
    (checkpoint,) = checkpoints(tmp_path / "run" / "checkpoints")
    weights = load_file(checkpoint / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    before = MagicMirrorPipeline.from_pretrained(start, dtype=torch.float32)
    trained = before.text_encoder.get_parameter("encoder.final_layer_norm.weight")
    assert not torch.equal(weights["text_encoder.encoder.final_layer_norm.weight"], trained)

    assert main([str(argument) for argument in arguments]) == 0
    (again,) = checkpoints(tmp_path / "run" / "checkpoints")
    same = load_file(again / "model.safetensors")
    assert again == checkpoint and all(torch.equal(value, same[name]) for name, value in weights.items())


@pytest.mark.parametrize("recipe", ["tower", "joint", "likeness"])
def test_dry_run_writes_nothing(start, shards, tmp_path, capsys, recipe, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files(start), files(shards)
    arguments = ["--data", shards, "--start", start, "--output", tmp_path / "run", "--dry-run"]
    assert main(["train", recipe, *map(str, arguments)]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(rf"{recipe}: .*loss \d+\.\d{{4}}.*; \d+\.\d\d s a step, about \d+\.\d h for \d+ steps\n", out)
    assert list(tmp_path.iterdir()) == [] and (files(start), files(shards)) == before


def test_bad_input_is_one_line_and_status_2(start, shards, tmp_path, capsys):
    output = ["--output", str(tmp_path / "run")]
    data, from_start = ["--data", str(shards)], ["--start", str(start)]
    fresh = ["--vae", str(tmp_path / "vae"), "--tokenizer", str(tmp_path / "tokenizer")]
    for arguments, reason in (
        (["huge", *data, *from_start], '"huge".*tower, captions, joint, likeness'),
        (["joint", *data], "Give --start, or --vae and --tokenizer"),
        (["joint", *data, "--vae", str(tmp_path)], "Give --start, or --vae and --tokenizer"),
        (["tower", *data, *fresh], 'vae" holds no VAE'),
        (["joint", "--data", str(tmp_path), *from_start], r"has no plan\.json"),
        (["joint", *data, *from_start, "--max-steps", "0"], "max_steps"),
        (["joint", *from_start], '"joint" needs --data'),
        (["captions", *data, *from_start], "no use for --data"),
    ):
        assert main(["train", *arguments, *output]) == 2, arguments
        seen = capsys.readouterr()
        assert seen.out == "" and seen.err.count("\n") == 1 and re.search(reason, seen.err), seen.err
    assert main(["train", "joint", *data, "--start", str(tmp_path / "none"), *output]) != 0
    assert not (tmp_path / "run").exists()


def test_from_portraits_to_a_pipeline_that_generates(repository, examples, example_references, tmp_path, capsys):
    """All commands of docs/training.md at the preview's size, with as few pictures and steps as its batches allow."""

    def run(*arguments):
        assert main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    preview = repository / "assets" / "models" / "preview"
    portraits, prepared, runs = (tmp_path / name for name in ("portraits", "prepared", "runs"))
    portraits.mkdir()
    for name in PORTRAITS:
        shutil.copy(examples / f"{name}.jpg", portraits)
    shutil.copytree(preview / "tokenizer", prepared / "tokenizer")  # its training has tests of its own
    counts = ("--images", 16, "--clips", 2, "--views", 1)
    out = run("prepare", "--portraits", portraits, "--vae", preview / "vae", "--output", prepared, *counts)
    assert out.endswith("1 shards computed now\n")

    shards = ("--data", prepared / "shards")
    fresh = ("--vae", preview / "vae", "--tokenizer", prepared / "tokenizer")
    run("train", "tower", *shards, *fresh, "--output", runs / "tower", "--max-steps", 1)
    after = ("--start", runs / "tower" / "pipeline")
    run("train", "captions", *after, "--output", runs / "captions", "--max-steps", 1)
    after = ("--start", runs / "captions" / "pipeline")
    run("train", "joint", *shards, *after, "--output", runs / "joint", "--max-steps", 1)

    pipeline = MagicMirrorPipeline.from_pretrained(runs / "joint" / "pipeline", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_frames": 1, "num_inference_steps": 2, "seed": 0, "output_type": "np"}
    one, other = (
        pipeline("a man smiles", [example_references[name]], **options).frames[0] for name in ("man_1", "woman_1")
    )
    assert one.shape == (1, 128, 128, 3) and 0 <= one.min() < one.max() <= 1
    assert abs(one - other).max() > 1e-3  # the reference reaches the picture
