"""How the samples of one step are shared out: among processes, and among the micro-batches of a process.

A step's batch and all of its random draws are the same however many processes there are. Each process takes one part
of the rows, each micro-batch a part of that part, so two processes do the sums of one process in another order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from magicmirror.errors import ConfigError

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """One of ``count`` equal parts of the rows of a step."""

    index: int = 0
    count: int = 1

    def rows(self, total: int) -> slice:
        """Which of ``total`` rows it has.

        Raises:
            ConfigError: If they cannot be shared out equally.
        """
        if total % self.count:
            raise ConfigError(
                f"A batch of {total} cannot be shared out equally among {self.count}.",
                "Choose a number of processes that divides it.",
            )
        size = total // self.count
        return slice(self.index * size, (self.index + 1) * size)

    def of_all(self, own: Tensor | int) -> int:
        """Rows of the whole step, where this part has ``own`` rows."""
        return self.count * (own if isinstance(own, int) else own.size(0))

    def split(self, count: int) -> list[Part]:
        """Its own ``count`` parts."""
        return [Part(self.index * count + number, self.count * count) for number in range(count)]


WHOLE = Part()


class BatchSource(Protocol):
    """Gives what a part of a step's batch holds: a function of seed, step and part alone."""

    def __call__(self, step: int, part: Part = WHOLE, /) -> Batch:
        """Return the part's rows of the batch of a step."""
        ...


def row_count(batch: Batch) -> int:
    """Rows of a batch: the first size of its first tensor that has one; 1 where none has."""
    return next((value.size(0) for value in batch.values() if torch.is_tensor(value) and value.ndim > 0), 1)


def fill_patches(batch: Batch, patch_frames: int) -> Batch:
    """Put copies of the first latent frame before the others, until patches of several frames are full.

    So do CogVideoX 1.5 and its pipeline, whose surplus frames are those before the video: a still fills its patch with
    two equal frames.

    Args:
        batch: ``latents`` (B, F, C, H, W), and what else has its F: ``face_areas``, ``poses``.
        patch_frames: Latent frames that a patch spans.
    """
    missing = -batch["latents"].size(1) % patch_frames
    if missing == 0:
        return batch
    per_frame = {name: batch[name] for name in ("latents", "face_areas", "poses") if name in batch}
    filled = {
        name: torch.cat([value[:, :1].expand(-1, missing, *value.shape[2:]), value], dim=1)
        for name, value in per_frame.items()
    }
    return {**batch, **filled}


def fewest_parts(rows: int, largest: int) -> int:
    """The smallest number of equal parts of ``rows`` that have at most ``largest`` rows; 1 where that is 0."""
    if largest == 0:
        return 1
    return next(count for count in range(-(-rows // largest), rows + 1) if rows % count == 0)


def take(batch: Batch, rows: slice | list[int]) -> dict[str, Any]:
    """Rows of a batch: of every tensor and every list that has one entry a row."""
    total = row_count(batch)
    numbers = range(total)[rows] if isinstance(rows, slice) else rows

    def of_value(value: Any) -> Any:
        if torch.is_tensor(value) and value.ndim > 0 and value.size(0) == total:
            return value[rows]
        if isinstance(value, list) and len(value) == total:
            return [value[number] for number in numbers]
        return value

    return {name: of_value(value) for name, value in batch.items()}
