"""Sharing out the rows of a step."""

import pytest
import torch

from magicmirror.errors import ConfigError
from magicmirror.training.parts import WHOLE, Part, fewest_parts, fill_patches, row_count, take


def test_parts_cover_every_row_once_also_when_split_again():
    rows = list(range(24))
    for processes, micro in ((1, 1), (2, 1), (3, 4), (8, 3)):
        parts = [part for index in range(processes) for part in Part(index, processes).split(micro)]
        assert [row for part in parts for row in rows[part.rows(24)]] == rows
    assert rows[WHOLE.rows(24)] == rows
    assert Part(1, 3).of_all(torch.zeros(4, 2)) == Part(1, 3).of_all(4) == 12


def test_unequal_parts_are_refused():
    with pytest.raises(ConfigError, match=r"batch of 10 cannot be shared out equally among 4.*number of processes"):
        Part(0, 4).rows(10)


def test_micro_batches_are_equal_and_not_too_large():
    assert [fewest_parts(8, largest) for largest in (0, 1, 2, 3, 4, 7, 8, 100)] == [1, 8, 4, 4, 2, 2, 1, 1]
    assert fewest_parts(5, 3) == 5 and fewest_parts(24, 9) == 3


def test_rows_of_a_batch():
    batch = {"latents": torch.arange(6).view(3, 2), "captions": ["a", "b", "c"], "scale": torch.ones(()), "step": 4}
    assert row_count(batch) == 3 and row_count({"scale": torch.ones(())}) == 1
    part = take(batch, slice(1, 3))
    assert part["latents"].tolist() == [[2, 3], [4, 5]] and part["captions"] == ["b", "c"]
    assert part["scale"] is batch["scale"] and part["step"] == 4
    part = take(batch, [2, 0])
    assert part["latents"].tolist() == [[4, 5], [0, 1]] and part["captions"] == ["c", "a"]


def test_patches_of_several_frames_are_filled_with_the_first():
    batch = {"latents": torch.arange(10.0).view(2, 5, 1, 1, 1), "poses": torch.arange(20.0).view(2, 5, 2), "step": 4}
    filled = fill_patches(batch, 2)
    assert filled["latents"].flatten().tolist() == [0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9]
    assert filled["poses"][1].tolist() == [[10, 11], *([10 + 2 * n, 11 + 2 * n] for n in range(5))]
    assert filled["step"] == 4 and batch["latents"].shape[1] == 5
    assert fill_patches(batch, 4)["latents"].size(1) == 8
    assert fill_patches(batch, 1) is batch and fill_patches(batch, 5) is batch
