"""Shards that are damaged or do not fit together are refused in one line, when their folders are opened."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from magicmirror.data.dataset import LatentDataset, mean_embedding
from magicmirror.data.precompute import PLAN_FILE, shard_path
from magicmirror.errors import ConfigError
from tests.tiny_training import write_shards

SHARD = r'"shards/shard-00000\.safetensors"'


@pytest.fixture
def folder(tmp_path):
    return write_shards(tmp_path / "shards")


def refusal(*folders):
    """The one line with which folders are refused."""
    with pytest.raises(ConfigError) as caught:
        LatentDataset(folders, "clip")
    text = str(caught.value)
    assert "\n" not in text and caught.value.remedy
    assert "person 0" not in text
    return text


@pytest.mark.parametrize("kept", [0, 5, 100, -100])
def test_tensors_cut_off(folder, kept):
    path = shard_path(folder, 0)
    path.write_bytes(path.read_bytes()[:kept])
    text = refusal(folder)
    assert '"shards/shard-00000.safetensors" is damaged or only half there' in text and "Compute it again." in text
    with pytest.raises(ConfigError, match=SHARD):
        mean_embedding([folder])


def test_tensors_gone(folder):
    """A shard that is not there was refused before; one that may be missing is left out."""
    shard_path(folder, 0).unlink()
    assert "0 of 1 shards" in refusal(folder)
    with pytest.raises(ConfigError, match="There is no clip"):
        LatentDataset([folder], "clip", allow_incomplete=True)


def test_a_shard_that_vanishes_after_it_was_opened(folder):
    data = LatentDataset([folder], "clip")
    shard_path(folder, 0).unlink()
    with pytest.raises(ConfigError, match=SHARD):
        data.sample(0, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"clip_latents": torch.zeros(8, 3, 4, 4)},
        {"clip_latents": torch.zeros(7, 3, 4, 4, 4)},
        {"clip_portraits": torch.full((8,), 8, dtype=torch.int32)},
        {"clip_portraits": torch.full((8,), -1, dtype=torch.int32)},
        {"crops": torch.zeros(8, 3, 32, 16, 3, dtype=torch.uint8)},
        {"crops": torch.zeros(8, 3, 32, 32, 3)},
        {"crops": torch.zeros(8, 1, 32, 32, 3, dtype=torch.uint8), "embeddings": torch.zeros(8, 1, 128)},
        {"embeddings": torch.zeros(7, 3, 128)},
    ],
)
def test_tensors_that_do_not_belong_together(folder, change):
    path = shard_path(folder, 0)
    save_file(load_file(path) | change, path)
    assert "do not belong together" in refusal(folder)


@pytest.mark.parametrize("name", ["clip_latents", "clip_portraits", "crops", "embeddings"])
def test_a_tensor_that_is_lacking(folder, name):
    path = shard_path(folder, 0)
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path)
    assert "damaged" in refusal(folder)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "7",
        '{"kind": "clip"}',
        '{"kind": "clip", "caption": 7, "person_id": "person 0", "stratum": "one"}',
        '{"kind": "clip", "caption": "a", "person_id": "person 0", "stratum": "one", "style": "never"}',
        '{"kind": "clip", "caption": "a", "person_id": "person 0", "stratum": "one", "style": []}',
        '{"kind": "clip", "caption": "a", "person_id": "person 0", "stratum": "one", "motions": 7}',
        '{"kind": "clip", "caption": "a", "person_id": "person 0", "stratum": "one", "motions": [{"name": "fly"}]}',
        '{"kind": "clip", "caption": "a", "person_id": "person 0", "stratum": "one", "motions": [{"what": "nod"}]}',
    ],
)
def test_a_line_that_cannot_be_right(folder, line):
    path = shard_path(folder, 0).with_suffix(".jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[3:]]) + "\n")
    text = refusal(folder)
    assert "Line 3 of the captions" in text and "shards/shard-00000.safetensors" in text


def test_captions_that_are_lacking(folder):
    path = shard_path(folder, 0).with_suffix(".jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert "8 rows, but 7 captions" in refusal(folder)
    path.write_bytes(b"\xff\xfe")
    assert "captions (.jsonl)" in refusal(folder)
    path.unlink()
    assert "captions (.jsonl)" in refusal(folder)


@pytest.mark.parametrize(
    "plan", ["", "{", "[]", "7", "{}", '{"num_shards": "1"}', '{"num_shards": null}', '{"num_shards": 1, "config": 7}']
)
def test_a_broken_plan(folder, plan):
    (folder / PLAN_FILE).write_text(plan)
    assert "plan.json" in refusal(folder)
    (folder / PLAN_FILE).write_bytes(b"\xff\xfe\x00")
    assert "damaged" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"crop_px": 16}, ("crops of 16 px", "of 32 px", "--crop")),
        ({"embedding_dim": 512}, ("embeddings of 512 numbers", "of 128 numbers", "--recogniser")),
        ({"latent": (4, 4, 6)}, ("latents of 3 x 4 x 4 x 6", "of 3 x 4 x 4 x 4", "--size and --frames")),
        ({"latent": (16, 4, 4)}, ("latents of 3 x 16 x 4 x 4", "of 3 x 4 x 4 x 4", "--size and --frames")),
    ],
)
def test_folders_of_different_sizes(folder, tmp_path, change, reason):
    """Their samples could not be stacked to a batch."""
    text = refusal(folder, write_shards(tmp_path / "other", **change))
    assert all(part in text for part in reason)
    assert '"other/shard-00000.safetensors"' in text and '"shards/shard-00000.safetensors"' in text


def test_folders_with_one_kind_each_fit_together(tmp_path):
    """Stills of one size and clips of another are never in one batch."""
    stills = write_shards(tmp_path / "stills", clips=0, latent=(4, 8, 8))
    clips = write_shards(tmp_path / "clips", stills=0)
    data = LatentDataset([stills, clips], "clip")
    assert (len(data), data.shape.latents, data.shaped_by.parent.name) == (8, (3, 4, 4, 4), "clips")
    assert LatentDataset([clips, stills], "image").shape.latents == (1, 4, 8, 8)
