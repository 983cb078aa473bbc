"""From precomputed shards to what an objective takes, as a function of the step alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from magicmirror.data.dataset import BatchOrder, Kind, LatentDataset
from magicmirror.pipeline.conditioning import fusion_position
from magicmirror.pipeline.person_word import find_person_word
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.training.config import TrainingConfig
from magicmirror.training.trainer import Batch


def text_batch(tokenizer: Any, captions: Sequence[str], length: int) -> tuple[Tensor, list[int]]:
    """Token ids (B, T) of captions without their trigger, and where each names its person.

    Raises:
        PromptError: If a caption names nobody or is too long; captions are ours, so that is a fault of the data.
    """
    people = [find_person_word(caption) for caption in captions]
    positions = [fusion_position(tokenizer, person, length) for person in people]
    ids: Tensor = tokenizer(
        [person.prompt for person in people],
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return ids, positions


def identity_batches(
    pipeline: MagicMirrorPipeline, folders: Sequence[Path], config: TrainingConfig, allow_incomplete: bool
) -> Callable[[int], Batch]:
    """Batches for ``IdentityVideoObjective``: a step takes either stills or clips.

    Args:
        pipeline: Its tokenizer reads the captions.
        folders: Folders of shards.
        config: Of the run.
        allow_incomplete: Take what is there while shards are still being computed.

    Returns:
        The batch of a step.
    """
    shares: tuple[tuple[Kind, int, float], ...] = (
        ("image", config.image_batch, 1.0 - config.clip_share),
        ("clip", config.clip_batch, config.clip_share),
    )
    orders = {
        kind: BatchOrder(LatentDataset(folders, kind, allow_incomplete), size, config.seed)
        for kind, size, share in shares
        if share > 0
    }
    length = pipeline.transformer.config.max_text_seq_length

    def batch_at(step: int) -> Batch:
        is_clip = np.random.default_rng([config.seed, 2, step]).random() < config.clip_share
        batch = orders["clip" if is_clip else "image"].batch_at(step)
        ids, positions = text_batch(pipeline.tokenizer, batch["captions"], length)
        return {**batch, "input_ids": ids, "positions": positions}

    return batch_at


def tower_batches(
    pipeline: MagicMirrorPipeline, folders: Sequence[Path], config: TrainingConfig, allow_incomplete: bool
) -> Callable[[int], Batch]:
    """Batches for ``TowerObjective``: reference views and their own latents, encoded when they are needed."""
    order = BatchOrder(LatentDataset(folders, "image", allow_incomplete), config.image_batch, config.seed)
    vae = pipeline.vae

    @torch.no_grad()
    def batch_at(step: int) -> Batch:
        crops = order.batch_at(step)["crops"].to(vae.device)
        pixels = crops.permute(0, 3, 1, 2).unsqueeze(2).float() / 127.5 - 1
        latents = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
        return {"crops": crops, "latents": latents.transpose(1, 2).float()}

    return batch_at
