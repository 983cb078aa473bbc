"""Training batches from precomputed shards, in an order that follows from the seed alone.

``LatentDataset`` gives rows, ``BatchOrder`` says which rows make up the batch of a step. The order keeps no hidden
state: its state is (epoch, position, seed), and ``batch_at(step)`` computes it from the step, so a run that resumes
sees the same batches as one that was never stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from magicmirror.data.face_area import latent_face_areas, template_area, template_eyes
from magicmirror.data.motion import MotionCue
from magicmirror.data.pose_targets import NUM_POSE_VALUES, latent_poses
from magicmirror.data.shard_files import (
    AGAIN,
    SampleShape,
    ShardLine,
    complete_shards,
    open_shard,
    read_header,
    read_lines,
    refuse_other_shape,
    shard_name,
)
from magicmirror.data.shard_items import Kind
from magicmirror.data.style import FALLING, STYLES
from magicmirror.errors import ConfigError

_STYLE_NUMBERS = {name: number for number, name in enumerate(STYLES)}

Order = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LatentRow(ShardLine):
    """Where a sample is, besides what is known about it.

    Args:
        shard: Index of its shard among all shards of the data set.
        row: Row of the latents in the shard.
        portrait: Its portrait in the shard.
    """

    shard: int
    row: int
    portrait: int


@dataclass(frozen=True)
class OrderState:
    """Where a run is in its data: ``position`` samples into epoch ``epoch``."""

    epoch: int
    position: int
    seed: int


class LatentDataset(Dataset[dict[str, Any]]):
    """Rows of one kind from one or more folders of shards.

    The files are mapped into memory, not read: rows cost what they hold.

    Args:
        folders: Folders that ``precompute`` filled.
        kind: ``image`` or ``clip``; batches never mix them, because their shapes differ.
        allow_incomplete: Take what is there while shards are still being computed.

    Attributes:
        paths: Of the shards, in order.
        rows: Of the kind.
        shape: Sizes of every sample.
        shaped_by: The shard that they were read from.

    Raises:
        ConfigError: When a folder has no plan, shards are missing or damaged, their samples differ in size, or there
            is no row of the kind.
    """

    shape: SampleShape
    shaped_by: Path

    def __init__(self, folders: Sequence[Path], kind: Kind, allow_incomplete: bool = False) -> None:
        self.kind = kind
        self.paths: list[Path] = []
        self.rows: list[LatentRow] = []
        for folder in folders:
            for path in complete_shards(folder, allow_incomplete):
                self._add(path)
        if not self.rows:
            raise ConfigError(f"There is no {kind} in {', '.join(str(folder) for folder in folders)}.")
        self._files: dict[int, Any] = {}
        self._open = ExitStack()

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a row with the portrait itself as its reference (view 0); see ``sample``."""
        return self.sample(index, view=0)

    def keep_captions(self, usable: Callable[[str], bool]) -> int:
        """Keep the rows whose captions a model can take, and return how many are left out.

        Raises:
            ConfigError: When no row is left.
        """
        before = len(self.rows)
        self.rows = [row for row in self.rows if usable(row.caption)]
        if not self.rows:
            raise ConfigError(f"No {self.kind} has a caption that names one person and fits into the model's prompts.")
        return before - len(self.rows)

    def num_views(self, index: int) -> int:
        """Number of views of a row's portrait, view 0 included."""
        return int(self._file(self.rows[index].shard).get_slice("crops").get_shape()[1])

    def sample(self, index: int, view: int) -> dict[str, Any]:
        """Return one row.

        Args:
            index: Of the row.
            view: Which view of the person is the reference; 0 is the portrait itself.

        Returns:
            ``latents`` (F, C, H, W) float32, ``caption``, ``crop`` (S, S, 3) uint8, ``embedding`` (E,) float32,
            ``target_embedding`` (E,) of the portrait itself, ``pose`` (F, P) of ``latent_poses``, not-a-number where
            the motion is unknown, ``face_area`` (F, H, W) of zeros and ones, ``eyes`` (4,) of the first frame
            (``face_area.Eyes``), ``style``, an index into ``STYLES`` or -1
            where it is unknown, and ``person_id``.
        """
        row = self.rows[index]
        file = self._file(row.shard)
        embeddings = file.get_slice("embeddings")
        latents = file.get_slice(f"{self.kind}_latents")[row.row].float()
        return {
            "latents": latents,
            "pose": _pose(row.motions, len(latents)),
            "face_area": _face_area(row, latents),
            "eyes": _first_eyes(row, latents),
            "style": torch.tensor(-1 if row.style is None else _STYLE_NUMBERS[row.style]),
            "caption": row.caption,
            "crop": file.get_slice("crops")[row.portrait, view],
            "embedding": embeddings[row.portrait, view],
            "target_embedding": embeddings[row.portrait, 0],
            "person_id": row.person_id,
        }

    def _add(self, path: Path) -> None:
        """Append the rows of a shard."""
        portraits, shape = read_header(path, self.kind)
        lines = [line for line in read_lines(path) if line.kind == self.kind]
        if len(lines) != len(portraits):
            raise ConfigError(
                f"The shard {shard_name(path)} has {len(portraits)} rows, but {len(lines)} captions.", AGAIN
            )
        if not all(_eyes_fit(line, shape) for line in lines):
            raise ConfigError(f"The captions of the shard {shard_name(path)} tell of other frames than it has.", AGAIN)
        if self.paths:
            refuse_other_shape(path, shape, self.shaped_by, self.shape)
        if not self.paths or self.shape.latents is None:
            self.shaped_by, self.shape = path, shape
        shard = len(self.paths)
        self.paths.append(path)
        for number, (portrait, line) in enumerate(zip(portraits, lines, strict=True)):
            self.rows.append(LatentRow(**vars(line), shard=shard, row=number, portrait=portrait))

    def _file(self, shard: int) -> Any:
        """Map a shard on first use (in the process that uses it)."""
        if shard not in self._files:
            self._files[shard] = self._open.enter_context(open_shard(self.paths[shard]))
        return self._files[shard]


class BatchOrder:
    """Which rows make up which batch.

    Args:
        dataset: The rows.
        batch_size: Rows of a batch B.
        seed: Of order and choice of views.
        balance: Exponent in [0, 1]: each epoch repeats the rows of a stratum by (size of the largest stratum / its
            size) to this power, so 0 takes every row once and 1 takes all strata equally often.
        falling_copies: How often as often as others an epoch takes rows with snow or rain.

    Raises:
        ConfigError: When a number is out of range or an epoch has less than one batch.
    """

    def __init__(
        self, dataset: LatentDataset, batch_size: int, seed: int = 0, balance: float = 0.5, falling_copies: int = 1
    ) -> None:
        if batch_size < 1 or seed < 0 or not 0.0 <= balance <= 1.0 or falling_copies < 1:
            raise ConfigError(
                f"batch_size {batch_size}, seed {seed}, balance {balance} or falling_copies {falling_copies} "
                "is out of range."
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self._copies = _copies([row.stratum for row in dataset.rows], balance)
        self._copies[[row.style in FALLING for row in dataset.rows]] *= falling_copies
        self._order: tuple[int, Order] | None = None
        self.epoch_batches = int(self._copies.sum()) // batch_size
        if self.epoch_batches == 0:
            raise ConfigError(f"{len(dataset)} rows do not make up one batch of {batch_size}.")

    def state_at(self, step: int) -> OrderState:
        """Return where the order is before the batch of a step."""
        epoch, batch = divmod(step, self.epoch_batches)
        return OrderState(epoch, batch * self.batch_size, self.seed)

    def step_of(self, state: OrderState) -> int:
        """Return the step that a state stands before.

        Raises:
            ConfigError: When the state is of another seed or lies within a batch.
        """
        if state.seed != self.seed or state.position % self.batch_size:
            raise ConfigError(f"{state} is not a state of this order (seed {self.seed}, batches of {self.batch_size}).")
        return state.epoch * self.epoch_batches + state.position // self.batch_size

    def rows_at(self, step: int) -> list[int]:
        """Return the B rows of a step's batch."""
        state = self.state_at(step)
        if self._order is None or self._order[0] != state.epoch:
            rng = np.random.default_rng([self.seed, 0, state.epoch])
            self._order = state.epoch, rng.permutation(np.repeat(np.arange(len(self._copies)), self._copies))
        return [int(row) for row in self._order[1][state.position : state.position + self.batch_size]]

    def batch_at(self, step: int) -> dict[str, Any]:
        """Load the batch of a step; each sample's reference is a view of the person that is not the portrait itself.

        Args:
            step: From 0.

        Returns:
            ``latents`` (B, F, C, H, W) float32, ``captions``, ``crops`` (B, S, S, 3) uint8, ``embeddings`` (B, E),
            ``target_embeddings`` (B, E), ``poses`` (B, F, P), ``face_areas`` (B, F, H, W), ``eyes`` (B, 4),
            ``styles`` (B,), ``person_ids``.
        """
        rng = np.random.default_rng([self.seed, 1, step])
        rows = self.rows_at(step)
        views = [int(rng.integers(1, self.dataset.num_views(row))) for row in rows]
        return collate([self.dataset.sample(row, view) for row, view in zip(rows, views, strict=True)])

    def iterate(self, state: OrderState | None = None) -> Iterator[tuple[OrderState, dict[str, Any]]]:
        """Yield (state after the batch, batch) without end, from a state on."""
        step = 0 if state is None else self.step_of(state)
        while True:
            yield self.state_at(step + 1), self.batch_at(step)
            step += 1


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Stack samples to a batch; see ``BatchOrder.batch_at``."""
    tensors: dict[str, Tensor] = {
        name if name.endswith("s") else f"{name}s": torch.stack([sample[name] for sample in samples])
        for name in ("latents", "crop", "embedding", "target_embedding", "pose", "face_area", "eyes", "style")
    }
    texts = {f"{name}s": [sample[name] for sample in samples] for name in ("caption", "person_id")}
    return {**tensors, **texts}


def mean_embedding(folders: Sequence[Path], allow_incomplete: bool = False) -> Tensor:
    """Mean recognition embedding (E,) float32 of all portraits in folders of shards.

    Raises:
        ConfigError: When a folder has no plan, or shards are missing or damaged.
    """
    paths = [path for folder in folders for path in complete_shards(folder, allow_incomplete)]
    embeddings = []
    for path in paths:
        with open_shard(path) as file:
            embeddings.append(file.get_slice("embeddings")[:, 0])
    return torch.cat(embeddings).double().mean(dim=0).float()


def _pose(motions: tuple[MotionCue, ...] | None, num_latent_frames: int) -> Tensor:
    """Pose (F, P) of the motions of a row."""
    if motions is None:
        return torch.full((num_latent_frames, NUM_POSE_VALUES), torch.nan)
    return torch.from_numpy(latent_poses(motions, num_latent_frames))


def _eyes_fit(line: ShardLine, shape: SampleShape) -> bool:
    """Whether a line that tells of eyes tells of as many frames for each latent frame but the first."""
    if line.eyes is None or shape.latents is None:
        return True
    later, latent_later = len(line.eyes) - 1, shape.latents[0] - 1
    return later == 0 if latent_later == 0 else later > 0 and later % latent_later == 0


def _face_area(row: LatentRow, latents: Tensor) -> Tensor:
    """Face area (F, H, W) of a row's latents (F, C, H, W)."""
    frames, _, height, width = latents.shape
    if row.eyes is None:
        return template_area(frames, height, width)
    return latent_face_areas(row.eyes, frames, height, width)


def _first_eyes(row: LatentRow, latents: Tensor) -> Tensor:
    """Eyes (4,) in the first frame of a row."""
    height, width = latents.shape[-2:]
    return torch.tensor(template_eyes(height, width) if row.eyes is None else row.eyes[0], dtype=torch.float32)


def _copies(strata: Sequence[str], balance: float) -> npt.NDArray[np.int64]:
    """How often an epoch takes each row; fractions are rounded by a fixed draw."""
    counts = Counter(strata)
    largest = max(counts.values())
    wanted = np.array([(largest / counts[stratum]) ** balance for stratum in strata])
    return np.floor(wanted + np.random.default_rng(0).random(len(wanted))).astype(np.int64)
