"""Raw stills and clips for the VAE, rendered from portraits when a step needs them; on request with conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from magicmirror.data.animation import reference_view, render_clip
from magicmirror.data.captions import sample_clip_spec, sample_image_spec, sample_person_word
from magicmirror.data.embedding import BatchEmbedder
from magicmirror.data.manifest import PortraitRecord, read_manifest
from magicmirror.data.motion import ClipSpec
from magicmirror.data.style import FALLING
from magicmirror.errors import ConfigError
from magicmirror.media import load_image
from magicmirror.media.optical_flow import dense_flow, grey_frames
from magicmirror.pipeline.profiles import FRAME_STEP
from magicmirror.training.batches import kind_at, takes_caption, text_batch, wanted_kinds
from magicmirror.training.config import TrainingConfig
from magicmirror.training.parts import WHOLE, Batch, BatchSource, Part
from magicmirror.types import UInt8Array

NUM_FRAMES, SIZE_PX = 17, 128
"""Of a clip: the preview's."""
CAPTION_DRAWS = 100


def portrait_batches(
    manifests: Sequence[Path],
    portraits: Path,
    config: TrainingConfig,
    num_frames: int = NUM_FRAMES,
    size_px: int = SIZE_PX,
    tokenizer: Any = None,
    text_length: int = 0,
) -> BatchSource:
    """Batches for ``VaeObjective``: random people, motions and styles.

    Sample i of step n follows from seed, n and i, so every process renders its own rows alone.

    Args:
        manifests: Of ``prepare``; only their training split is used, every stratum as often as every other.
        portraits: Folder that the manifests' paths begin at.
        config: Of the run; ``falling_share`` applies, and with a ``warping_weight`` or a ``critic_weight`` the clips'
            flow is measured.
        num_frames: Pixel frames F of a clip, 8 n + 1.
        size_px: Side S.
        tokenizer: Where it is given, the batch also holds what a denoiser takes: caption, and a view of the person.
        text_length: Tokens T that a caption has to fit into.

    Returns:
        ``pixels`` (B, F, S, S, 3) uint8 RGB of a step or of a part of it; where it is measured also ``flow``
        (B, F - 1, S, S, 2) float32, see ``dense_flow``; with a tokenizer also ``captions``,
        ``input_ids`` (B, T), B ``positions``, ``crops`` (B, S, S, 3) uint8 RGB and ``embeddings`` (B, 128) float32.

    Raises:
        ConfigError: When a manifest is missing or wrong, or has nobody to train with, or for another ``num_frames``.
    """
    if num_frames % FRAME_STEP != 1:
        raise ConfigError(f"num_frames must be {FRAME_STEP} n + 1 for the VAE, got {num_frames}.")
    groups = _strata(manifests)
    embedder = None if tokenizer is None else BatchEmbedder()

    def usable(caption: str) -> bool:
        return tokenizer is None or takes_caption(tokenizer, caption, text_length)

    def sample(step: int, row: int, frames: int) -> tuple[UInt8Array, str, UInt8Array | None]:
        """Frames, caption and, for a denoiser, a view of the person."""
        rng = np.random.default_rng([config.seed, 3, step, row])
        group = groups[int(rng.integers(len(groups)))]
        record = group[int(rng.integers(len(group)))]
        spec = _choose_spec(rng, record.group, frames, usable, _falling(rng, config.falling_share))
        picture, landmarks = load_image(portraits / record.path), record.landmark_array
        view = None if tokenizer is None else reference_view(picture, landmarks, rng, size_px)
        return render_clip(picture, landmarks, spec, frames, size_px), spec.caption, view

    def batch_at(step: int, part: Part = WHOLE, /) -> Batch:
        kind = kind_at(step, config)
        rows = range(wanted_kinds(config)[kind])[part.rows(wanted_kinds(config)[kind])]
        clips, captions, views = zip(
            *(sample(step, row, num_frames if kind == "clip" else 1) for row in rows), strict=True
        )
        pixels = {"pixels": torch.from_numpy(np.stack(clips))}
        if config.warping_weight > 0 or config.critic_weight > 0:
            flow = np.stack([dense_flow(grey_frames(clip)) for clip in clips])
            pixels["flow"] = torch.from_numpy(flow)
        if embedder is None:
            return pixels
        ids, positions = text_batch(tokenizer, captions, text_length)
        told = {"captions": list(captions), "input_ids": ids, "positions": positions}
        return {**pixels, **told, **_reference(np.stack(views), embedder)}

    return batch_at


def _reference(crops: UInt8Array, embedder: BatchEmbedder) -> dict[str, torch.Tensor]:
    """Views (B, S, S, 3) of the people, and their embeddings (B, 128)."""
    return {"crops": torch.from_numpy(crops), "embeddings": torch.from_numpy(embedder.embed_aligned(crops))}


def _strata(manifests: Sequence[Path]) -> list[list[PortraitRecord]]:
    """The portraits to train with, by stratum."""
    strata: dict[str, list[PortraitRecord]] = {}
    for path in manifests:
        for record in read_manifest(path, "train"):
            strata.setdefault(record.stratum, []).append(record)
    if not strata:
        raise ConfigError(f"There is no portrait to train with in {', '.join(map(str, manifests))}.")
    return [strata[name] for name in sorted(strata)]


def _falling(rng: np.random.Generator, share: float) -> str | None:
    """A style with falling particles, or ``None`` to draw any style."""
    if share == 0 or rng.random() >= share:
        return None
    return FALLING[int(rng.integers(len(FALLING)))]


def _choose_spec(
    rng: np.random.Generator, group: str, frames: int, usable: Callable[[str], bool], style: str | None
) -> ClipSpec:
    """Motions, style and caption; drawn anew while the caption is of no use."""
    choose = sample_clip_spec if frames > 1 else sample_image_spec
    for _ in range(CAPTION_DRAWS):
        spec = choose(rng, sample_person_word(rng, group), style)
        if usable(spec.caption):
            return spec
    raise ConfigError(f"None of {CAPTION_DRAWS} captions fits into the model's prompts.")
