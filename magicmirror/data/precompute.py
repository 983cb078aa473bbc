"""From records to shards: latents of stills and clips, captions, and reference views with embeddings.

One path for portraits, identity pairs and real clips; what each gives is in ``shard_items``. A shard holds a block of
records and is complete or absent, so a killed run goes on with the missing shards, and any number of processes share
the work by the remainder of the shard's number. What a record gives follows from its path and the seed alone.

One shard is two files; "portrait" stands for the person of any record:

``shard-00012.safetensors``
    ``image_latents`` (I, 1, C, H, W) and ``clip_latents`` (K, F, C, H, W) float16, scaled by the VAE's factor;
    ``image_portraits`` (I,) and ``clip_portraits`` (K,) int32, which portrait of the shard a row shows;
    ``crops`` (P, 1 + R, S, S, 3) uint8 RGB and ``embeddings`` (P, 1 + R, E) float32: view 0 is the target's own face,
    the others are reference views.
``shard-00012.jsonl``
    One line a row, stills before clips: kind, portrait (path), person_id, stratum, caption; motions, style and pattern
    of animations, paper_set of pairs, start_frame and motion score of real clips; eyes of both (``face_area``), in
    every pixel frame.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from magicmirror.data.embedding import AlignedEmbedder
from magicmirror.data.records import Record
from magicmirror.data.shard_files import PLAN_FILE, read_plan, shard_path
from magicmirror.data.shard_items import ItemSampler, Kind, PrecomputeConfig, Take
from magicmirror.data.vae_hash import encoder_sha256, vae_sha256
from magicmirror.errors import ConfigError
from magicmirror.media import complete_file
from magicmirror.models.convolution import DirectConvolutions
from magicmirror.models.precision import has_bfloat16
from magicmirror.types import UInt8Array

__all__ = [
    "FORMAT_VERSION",
    "PLAN_FILE",
    "PrecomputeConfig",
    "encode_clips",
    "num_shards",
    "precompute",
    "precompute_shard",
    "shard_path",
]

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
_KINDS: tuple[Kind, ...] = ("image", "clip")


@dataclass
class _Rows:
    """The rows of one kind in a shard: encoded as soon as a batch is full, so that few frames are held."""

    vae: Any
    batch: int
    bf16: bool
    portraits: list[int] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    _waiting: list[UInt8Array] = field(default_factory=list)
    _latents: list[Tensor] = field(default_factory=list)

    def add(self, portrait: int, take: Take) -> None:
        self.portraits.append(portrait)
        self.lines.append(take.line)
        self._waiting.append(take.frames)
        if len(self._waiting) == self.batch:
            self._encode()

    def latents(self) -> Tensor:
        """(rows, F, C, H, W) float16."""
        if self._waiting:
            self._encode()
        return torch.cat(self._latents) if self._latents else torch.zeros(0, 1, 0, 0, 0, dtype=torch.float16)

    def _encode(self) -> None:
        self._latents.append(encode_clips(self.vae, np.stack(self._waiting), self.bf16))
        self._waiting = []


def precompute(
    records: Sequence[Record],
    root: Path,
    out: Path,
    vae: Any,
    embedder: AlignedEmbedder,
    config: PrecomputeConfig,
    worker: int = 0,
    num_workers: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
) -> int:
    """Compute the missing shards of a worker.

    Args:
        records: All portraits, pairs or clips, the same and in the same order for every worker and every call.
        root: Where their paths begin.
        out: Folder of the shards.
        vae: ``AutoencoderKLCogVideoX`` in evaluation mode.
        embedder: Embeds portraits and reference views: a ``BatchEmbedder``, or any analyzer.
        config: What to make.
        worker: Number of this process.
        num_workers: Processes that share the work: this one takes shards with ``index % num_workers == worker``.
        on_shard: Called with (shards done, shards of this worker) after each.

    Returns:
        How many shards were computed now.

    Raises:
        ConfigError: When the folder holds shards of other portraits, another configuration or another VAE.
    """
    if not 0 <= worker < num_workers:
        raise ConfigError(f"worker must lie in [0, {num_workers}), got {worker}.")
    out.mkdir(parents=True, exist_ok=True)
    _check_plan(out, _plan(records, vae, config))
    count = num_shards(len(records), config)
    mine = range(worker, count, num_workers)
    computed = 0
    for done, index in enumerate(mine, start=1):
        computed += precompute_shard(index, records, root, out, vae, embedder, config)
        if on_shard is not None:
            on_shard(done, len(mine))
    return computed


def precompute_shard(
    index: int,
    records: Sequence[Record],
    root: Path,
    out: Path,
    vae: Any,
    embedder: AlignedEmbedder,
    config: PrecomputeConfig,
) -> bool:
    """Compute one shard, unless it is complete.

    Args:
        index: Number of the shard.
        records: All records.
        root: Where their paths begin.
        out: Folder of the shards; it must exist.
        vae: The encoder.
        embedder: Embeds portraits and reference views: a ``BatchEmbedder``, or any analyzer.
        config: What to make.

    Returns:
        Whether it was computed now.
    """
    path = shard_path(out, index)
    if path.exists():
        return False
    sampler = ItemSampler(root, config)
    batches: dict[Kind, int] = {"image": config.image_batch, "clip": config.clip_batch}
    rows = {kind: _Rows(vae, batches[kind], config.bf16) for kind in _KINDS}
    heads = []
    for number, record in enumerate(_block(records, index, config)):
        item = sampler.sample(record)
        heads.append(item.crops)
        for take in item.takes:
            rows[take.kind].add(number, take)
    tensors: dict[str, Tensor] = {}
    for kind in _KINDS:
        tensors[f"{kind}_latents"] = rows[kind].latents()
        tensors[f"{kind}_portraits"] = torch.tensor(rows[kind].portraits, dtype=torch.int32)
    crops = np.stack(heads)
    tensors["crops"] = torch.from_numpy(crops)
    flat = embedder.embed_aligned(crops.reshape(-1, *crops.shape[2:]))
    tensors["embeddings"] = torch.from_numpy(flat.reshape(*crops.shape[:2], -1).astype(np.float32))
    text = "".join(json.dumps(line) + "\n" for kind in _KINDS for line in rows[kind].lines)
    with complete_file(path.with_suffix(".jsonl"), ConfigError) as partial:
        partial.write_text(text, encoding="utf-8")
    # The tensors come last: their file means that the shard is complete.
    with complete_file(path, ConfigError) as partial:
        save_file(tensors, partial, metadata={"format_version": str(FORMAT_VERSION)})
    return True


@torch.inference_mode()
def encode_clips(vae: Any, clips: UInt8Array, bf16: bool = True) -> Tensor:
    """Encode clips to the latents that the transformer is trained on.

    Args:
        vae: ``AutoencoderKLCogVideoX``.
        clips: (B, F_px, H_px, W_px, 3) uint8 RGB.
        bf16: Run in bfloat16 autocast, where the device multiplies it itself.

    Returns:
        (B, F, C, H, W) float16 on the CPU: the posterior mean times ``scaling_factor``.
    """
    pixels = torch.from_numpy(clips).to(vae.device).permute(0, 4, 1, 2, 3).to(vae.dtype) / 127.5 - 1
    in_bf16 = torch.autocast(vae.device.type, torch.bfloat16, enabled=bf16 and has_bfloat16(vae.device))
    with in_bf16, DirectConvolutions():
        mean = vae.encode(pixels).latent_dist.mean
    latents: Tensor = mean.float() * vae.config.scaling_factor
    return latents.permute(0, 2, 1, 3, 4).to("cpu", torch.float16).contiguous()


def num_shards(num_portraits: int, config: PrecomputeConfig) -> int:
    """Return the number of shards of a set of portraits."""
    return -(-num_portraits // config.portraits_per_shard)


def _block(records: Sequence[Record], index: int, config: PrecomputeConfig) -> Sequence[Record]:
    size = config.portraits_per_shard
    return records[index * size : (index + 1) * size]


def _plan(records: Sequence[Record], vae: Any, config: PrecomputeConfig) -> dict[str, Any]:
    """Describe what the shards of a folder depend on."""
    portraits = hashlib.sha256(json.dumps([asdict(record) for record in records]).encode()).hexdigest()
    return {
        "format_version": FORMAT_VERSION,
        "config": _settings(asdict(config)),
        "num_portraits": len(records),
        "num_shards": num_shards(len(records), config),
        "portraits_sha256": portraits,
        "vae_sha256": vae_sha256(vae),
        "vae_encoder_sha256": encoder_sha256(vae),
    }


def _check_plan(out: Path, plan: dict[str, Any]) -> None:
    """Write the plan of a new folder, or compare it with the one that is there."""
    path = out / PLAN_FILE
    if not path.exists():
        with complete_file(path, ConfigError) as partial:
            partial.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
        return
    there = read_plan(out)
    # A folder from before a setting existed was made with what is its default now.
    there["config"] = _settings(asdict(PrecomputeConfig()) | there.get("config", {}))
    # The whole VAE's hash says more than its encoder's, and is in the plans of earlier versions too.
    compared = plan.keys() - {"vae_encoder_sha256"}
    differing = sorted(key for key in compared if plan[key] != there.get(key))
    if differing:
        raise ConfigError(
            f'The folder "{out}" was begun with another {", ".join(differing)}.', "Choose another folder, or delete it."
        )


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Settings in one form: crops as high as the frame are those of that size."""
    return config | {"crop_px": config["crop_px"] or config["size_px"]}
