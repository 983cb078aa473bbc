"""Raw stills and clips for the VAE, rendered from portraits when a step needs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from magicmirror.data.animation import render_clip
from magicmirror.data.captions import sample_clip_spec, sample_image_spec, sample_person_word
from magicmirror.data.manifest import PortraitRecord, read_manifest
from magicmirror.errors import ConfigError
from magicmirror.media import load_image
from magicmirror.pipeline.profiles import FRAME_STEP
from magicmirror.training.batches import kind_at, wanted_kinds
from magicmirror.training.config import TrainingConfig
from magicmirror.training.parts import WHOLE, Batch, BatchSource, Part
from magicmirror.types import UInt8Array

NUM_FRAMES, SIZE_PX = 17, 128
"""Of a clip: the preview's."""


def portrait_batches(
    manifests: Sequence[Path],
    portraits: Path,
    config: TrainingConfig,
    num_frames: int = NUM_FRAMES,
    size_px: int = SIZE_PX,
) -> BatchSource:
    """Batches for ``VaeObjective``: random people, motions and styles.

    Sample i of step n follows from seed, n and i, so every process renders its own rows alone.

    Args:
        manifests: Of ``prepare``; only their training split is used, every stratum as often as every other.
        portraits: Folder that the manifests' paths begin at.
        config: Of the run.
        num_frames: Pixel frames F of a clip, 8 n + 1.
        size_px: Side S.

    Returns:
        ``pixels`` (B, F, S, S, 3) uint8 RGB of a step or of a part of it.

    Raises:
        ConfigError: When a manifest is missing or wrong, or has nobody to train with, or for another ``num_frames``.
    """
    records = [record for path in manifests for record in read_manifest(path, "train")]
    if num_frames % FRAME_STEP != 1:
        raise ConfigError(f"num_frames must be {FRAME_STEP} n + 1 for the VAE, got {num_frames}.")
    if not records:
        raise ConfigError(f"There is no portrait to train with in {', '.join(map(str, manifests))}.")
    strata: dict[str, list[PortraitRecord]] = {}
    for record in records:
        strata.setdefault(record.stratum, []).append(record)
    groups = [strata[name] for name in sorted(strata)]

    def sample(step: int, row: int, frames: int) -> UInt8Array:
        rng = np.random.default_rng([config.seed, 3, step, row])
        group = groups[int(rng.integers(len(groups)))]
        record = group[int(rng.integers(len(group)))]
        choose = sample_clip_spec if frames > 1 else sample_image_spec
        spec = choose(rng, sample_person_word(rng, record.group))
        return render_clip(load_image(portraits / record.path), record.landmark_array, spec, frames, size_px)

    def batch_at(step: int, part: Part = WHOLE, /) -> Batch:
        kind = kind_at(step, config)
        rows = range(wanted_kinds(config)[kind])[part.rows(wanted_kinds(config)[kind])]
        clips = np.stack([sample(step, row, num_frames if kind == "clip" else 1) for row in rows])
        return {"pixels": torch.from_numpy(clips)}

    return batch_at
