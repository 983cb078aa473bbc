"""From precomputed shards to what an objective takes, as a function of the step alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from magicmirror.data.dataset import BatchOrder, LatentDataset
from magicmirror.data.shard_items import Kind
from magicmirror.errors import PromptError
from magicmirror.pipeline.conditioning import count_tokens, fusion_position
from magicmirror.pipeline.person_word import find_person_word
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.pipeline.prompt_length import fits
from magicmirror.training.config import TrainingConfig
from magicmirror.training.parts import WHOLE, Batch, BatchSource, Part, take
from magicmirror.training.shard_fit import check_crops, check_embeddings, check_latents

logger = logging.getLogger(__name__)


def text_batch(tokenizer: Any, captions: Sequence[str], length: int) -> tuple[Tensor, list[int]]:
    """Token ids (B, T) of captions without their trigger, and where each names its person.

    Raises:
        PromptError: If a caption names nobody or is too long.
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


def takes_caption(tokenizer: Any, caption: str, length: int) -> bool:
    """Whether a caption names one person and fits into ``length`` tokens."""
    try:
        person = find_person_word(caption)
    except PromptError:
        return False
    # Not by ``fusion_position``, which would count for every long caption by how many words it is too long.
    return fits(person.prompt, length, partial(count_tokens, tokenizer))


def identity_batches(
    pipeline: MagicMirrorPipeline, folders: Sequence[Path], config: TrainingConfig, allow_incomplete: bool
) -> BatchSource:
    """Batches for ``IdentityVideoObjective``: a step takes either stills or clips.

    Args:
        pipeline: Its tokenizer reads the captions, and its networks must be able to take the samples.
        folders: Folders of shards.
        config: Of the run.
        allow_incomplete: Take what is there while shards are still being computed.

    Returns:
        The batch of a step, or a part of it.

    Raises:
        ConfigError: When shards are damaged or do not fit together or the networks, or hold too little.
    """
    length = pipeline.transformer.config.max_text_seq_length

    orders = {}
    for kind, size in wanted_kinds(config).items():
        rows = LatentDataset(folders, kind, allow_incomplete)
        check_latents(rows, pipeline)
        if config.with_identity:
            check_crops(rows, pipeline)
            check_embeddings(rows, pipeline)
            if unplaced := sum(row.eyes is None and row.motions is None for row in rows.rows):
                logger.warning(
                    "of %d of %d %ss it is not known where the face is: it is taken to be in the middle, as large as a "
                    "head's window shows it (prepared by an earlier version; prepare them again)",
                    unplaced, len(rows), kind,
                )  # fmt: skip
        if dropped := rows.keep_captions(lambda caption: takes_caption(pipeline.tokenizer, caption, length)):
            logger.warning("%d of %d captions are too long or name nobody: left out", dropped, dropped + len(rows))
        orders[kind] = BatchOrder(rows, size, config.seed, config.strata_balance, config.falling_copies)

    def batch_at(step: int, part: Part = WHOLE, /) -> Batch:
        kind = kind_at(step, config)
        # Files are mapped, so the rows of other processes cost little against a step of this one.
        batch = take(orders[kind].batch_at(step), part.rows(wanted_kinds(config)[kind]))
        ids, positions = text_batch(pipeline.tokenizer, batch["captions"], length)
        return {**batch, "input_ids": ids, "positions": positions}

    return batch_at


def tower_batches(
    pipeline: MagicMirrorPipeline, folders: Sequence[Path], config: TrainingConfig, allow_incomplete: bool
) -> BatchSource:
    """Batches for ``TowerObjective``: reference views and their own latents, encoded when they are needed.

    Raises:
        ConfigError: When shards are damaged or do not fit together or the vision tower, or hold too little.
    """
    rows = LatentDataset(folders, "image", allow_incomplete)
    check_crops(rows, pipeline)
    order = BatchOrder(rows, config.image_batch, config.seed)
    vae = pipeline.vae

    @torch.no_grad()
    def batch_at(step: int, part: Part = WHOLE, /) -> Batch:
        crops = order.batch_at(step)["crops"][part.rows(config.image_batch)].to(vae.device)
        pixels = crops.permute(0, 3, 1, 2).unsqueeze(2).float() / 127.5 - 1
        latents = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
        return {"crops": crops, "latents": latents.transpose(1, 2).float()}

    return batch_at


def wanted_kinds(config: TrainingConfig) -> dict[Kind, int]:
    """Kinds of samples that a run takes, and how many a step of that kind has."""
    shares: tuple[tuple[Kind, int, float], ...] = (
        ("image", config.image_batch, 1.0 - config.clip_share),
        ("clip", config.clip_batch, config.clip_share),
    )
    return {kind: size for kind, size, share in shares if share > 0}


def kind_at(step: int, config: TrainingConfig) -> Kind:
    """Whether a step takes stills or clips; follows from seed and step."""
    return "clip" if np.random.default_rng([config.seed, 2, step]).random() < config.clip_share else "image"
