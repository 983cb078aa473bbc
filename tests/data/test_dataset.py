"""Batches: what is in them, and an order that follows from seed and step alone."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from magicmirror.data.dataset import BatchOrder, LatentDataset, OrderState, mean_embedding
from magicmirror.data.precompute import PLAN_FILE, shard_path
from magicmirror.data.style import STYLES
from magicmirror.errors import ConfigError

STRATA = ("a", "a", "a", "a", "b")
LOOKS = ("none", "snow", None, "film", "rain")


def write_folder(folder, shards=2, missing=()):
    """Shards in which every number tells where it stands: portrait p of shard s has value 100 s + 10 p + ..."""
    folder.mkdir()
    (folder / PLAN_FILE).write_text(json.dumps({"num_shards": shards}))
    for shard in range(shards):
        if shard in missing:
            continue
        ids = 100.0 * shard + 10.0 * torch.arange(5)
        views = ids[:, None] + torch.arange(4)
        tensors = {
            "image_latents": ids.repeat_interleave(2).view(10, 1, 1, 1, 1).expand(10, 1, 2, 2, 2).half().contiguous(),
            "image_portraits": torch.arange(5, dtype=torch.int32).repeat_interleave(2),
            "clip_latents": ids.view(5, 1, 1, 1, 1).expand(5, 3, 2, 2, 2).half().contiguous(),
            "clip_portraits": torch.arange(5, dtype=torch.int32),
            "crops": views.view(5, 4, 1, 1, 1).expand(5, 4, 2, 2, 3).remainder(256).to(torch.uint8).contiguous(),
            "embeddings": views.view(5, 4, 1).expand(5, 4, 3).contiguous(),
        }
        lines = [
            {"kind": kind, "caption": f"{kind} of {shard}.{p}", "person_id": f"{shard}.{p}", "stratum": STRATA[p]}
            for kind, count in (("image", 2), ("clip", 1))
            for p in range(5)
            for _ in range(count)
        ]
        for line in lines:
            # Real clips and pairs have no style in their lines.
            if (look := LOOKS[int(line["person_id"].split(".")[1])]) is not None:
                line["style"] = look
        shard_path(folder, shard).with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        save_file(tensors, shard_path(folder, shard))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "shards")


def test_batch_holds_matching_values_of_one_person(folder):
    dataset = LatentDataset([folder], "clip")
    batch = BatchOrder(dataset, 4, seed=3).batch_at(1)
    assert batch["latents"].shape == (4, 3, 2, 2, 2) and batch["latents"].dtype == torch.float32
    assert batch["crops"].shape == (4, 2, 2, 3) and batch["crops"].dtype == torch.uint8
    for row in range(4):
        value = float(batch["latents"][row, 0, 0, 0, 0])
        shard, portrait = divmod(value, 100)
        assert batch["captions"][row] == f"clip of {int(shard)}.{int(portrait / 10)}"
        assert batch["person_ids"][row] == f"{int(shard)}.{int(portrait / 10)}"
        # The reference is another view of this person, the target embedding that of the portrait itself.
        view = float(batch["embeddings"][row, 0]) - value
        assert view in (1.0, 2.0, 3.0)
        assert float(batch["target_embeddings"][row, 0]) == value
        assert int(batch["crops"][row, 0, 0, 0]) == int(value + view) % 256


def test_styles_are_numbers_and_minus_one_where_unknown(folder):
    dataset = LatentDataset([folder], "clip")
    seen = {}
    for step in range(8):
        batch = BatchOrder(dataset, 4, seed=3).batch_at(step)
        seen |= {
            name.split(".")[1]: int(style) for name, style in zip(batch["person_ids"], batch["styles"], strict=True)
        }
    assert [seen[str(person)] for person in range(5)] == [-1 if x is None else tuple(STYLES).index(x) for x in LOOKS]


def test_images_and_clips_are_separate(folder):
    images = LatentDataset([folder], "image")
    assert len(images) == 20 and len(LatentDataset([folder], "clip")) == 10
    assert images[0]["latents"].shape == (1, 2, 2, 2) and images[0]["caption"].startswith("image")
    assert float(images[0]["embedding"][0]) == float(images[0]["target_embedding"][0])


def test_folders_add_up(tmp_path):
    folders = [write_folder(tmp_path / "one"), write_folder(tmp_path / "two", shards=1)]
    assert len(LatentDataset(folders, "clip")) == 15


def test_epoch_takes_every_row_once_without_balance(folder):
    dataset = LatentDataset([folder], "image")
    order = BatchOrder(dataset, 5, balance=0.0)
    assert order.epoch_batches == 4
    epochs = [[row for step in range(e * 4, e * 4 + 4) for row in order.rows_at(step)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(20))
    assert epochs[0] != epochs[1] != list(range(20))


def test_rows_with_falling_particles_are_taken_more_often(folder):
    dataset = LatentDataset([folder], "image")
    falling = {row for row, each in enumerate(dataset.rows) if each.style in ("snow", "rain")}
    assert 0 < len(falling) < len(dataset)
    order = BatchOrder(dataset, 4, balance=0.0, falling_copies=3)
    assert 4 * order.epoch_batches == len(dataset) + 2 * len(falling)
    taken = [row for step in range(order.epoch_batches) for row in order.rows_at(step)]
    assert sorted(taken) == sorted([*range(len(dataset)), *falling, *falling])
    with pytest.raises(ConfigError, match="falling_copies 0"):
        BatchOrder(dataset, 5, falling_copies=0)


def test_balance_takes_strata_evenly(folder):
    dataset = LatentDataset([folder], "image")
    order = BatchOrder(dataset, 4, balance=1.0)
    rows = [row for step in range(order.epoch_batches) for row in order.rows_at(step)]
    rare = sum(dataset.rows[row].stratum == "b" for row in rows)
    assert rare == len(rows) / 2 == 16


def test_resumed_order_equals_the_uninterrupted_one(folder):
    dataset = LatentDataset([folder], "image")
    walk = BatchOrder(dataset, 3, seed=5).iterate()
    uninterrupted = [next(walk) for _ in range(30)]
    state = uninterrupted[17][0]
    assert state.epoch > 0
    resumed = BatchOrder(LatentDataset([folder], "image"), 3, seed=5).iterate(OrderState(**vars(state)))
    for (expected_state, expected), (seen_state, seen) in zip(uninterrupted[18:], resumed, strict=False):
        assert seen_state == expected_state and seen["captions"] == expected["captions"]
        for name in ("latents", "crops", "embeddings", "target_embeddings"):
            assert torch.equal(seen[name], expected[name])


def test_seed_changes_order_and_views(folder):
    dataset = LatentDataset([folder], "image")
    first, second = BatchOrder(dataset, 8, seed=0), BatchOrder(dataset, 8, seed=1)
    assert first.rows_at(0) != second.rows_at(0)
    views = [first.batch_at(step)["embeddings"][:, 0] % 10 for step in range(6)]
    assert set(np.unique(torch.cat(views).numpy())) == {1.0, 2.0, 3.0}


def test_incomplete_folders(tmp_path):
    folder = write_folder(tmp_path / "shards", shards=3, missing=(1,))
    with pytest.raises(ConfigError, match="2 of 3 shards"):
        LatentDataset([folder], "clip")
    assert len(LatentDataset([folder], "clip", allow_incomplete=True)) == 10
    with pytest.raises(ConfigError, match=PLAN_FILE):
        LatentDataset([tmp_path], "clip")


def test_wrong_values_are_refused(folder):
    dataset = LatentDataset([folder], "clip")
    with pytest.raises(ConfigError, match="one batch of 64"):
        BatchOrder(dataset, 64)
    with pytest.raises(ConfigError, match="out of range"):
        BatchOrder(dataset, 4, balance=2.0)
    order = BatchOrder(dataset, 4)
    with pytest.raises(ConfigError, match="not a state"):
        order.step_of(OrderState(0, 4, seed=9))
    with pytest.raises(ConfigError, match="not a state"):
        order.step_of(OrderState(0, 3, seed=0))


def test_mean_embedding_is_that_of_the_portraits_without_their_views(folder):
    """Portrait p of shard s has 100 s + 10 p everywhere, over five portraits and two shards: 70 on average."""
    assert torch.equal(mean_embedding([folder]), torch.full((3,), 70.0))


def test_mean_embedding_needs_all_shards_unless_told_otherwise(tmp_path):
    folder = write_folder(tmp_path / "shards", missing=(1,))
    with pytest.raises(ConfigError, match="1 of 2 shards"):
        mean_embedding([folder])
    assert torch.equal(mean_embedding([folder], allow_incomplete=True), torch.full((3,), 20.0))
