"""From portraits to shards: latents of rendered clips and stills, captions, and reference views with embeddings.

A shard holds a block of portraits and is complete or absent, so a killed run goes on with the missing shards, and any
number of processes share the work by the remainder of the shard's number. What a portrait gives follows from its path
and the seed alone.

One shard is two files:

``shard-00012.safetensors``
    ``image_latents`` (I, 1, C, H, W) and ``clip_latents`` (K, F, C, H, W) float16, scaled by the VAE's factor;
    ``image_portraits`` (I,) and ``clip_portraits`` (K,) int32, which portrait of the shard a row shows;
    ``crops`` (P, 1 + R, S, S, 3) uint8 RGB and ``embeddings`` (P, 1 + R, E) float32: view 0 is the portrait itself,
    the others are reference views.
``shard-00012.jsonl``
    One line a row: kind, portrait, caption, motions, style.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from magicmirror.data.animation import reference_view, render_clip
from magicmirror.data.captions import sample_clip_spec, sample_image_spec, sample_person_word
from magicmirror.data.embedding import AlignedEmbedder
from magicmirror.data.manifest import PortraitRecord
from magicmirror.data.motion import ClipSpec
from magicmirror.errors import ConfigError
from magicmirror.faces.alignment import align_head
from magicmirror.media import complete_file, load_image
from magicmirror.types import UInt8Array

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class PrecomputeConfig:
    """What is made of every portrait.

    Args:
        images_per_portrait: Stills at rest, with a style.
        clips_per_portrait: Clips.
        views_per_portrait: Reference views R besides the portrait itself.
        portraits_per_shard: Portraits of one shard.
        seed: Of motions, styles, captions and views.
        num_frames: Pixel frames of a clip.
        size_px: Side of a frame and of a reference.
        clip_batch: Clips encoded at once.
        image_batch: Stills encoded at once.
        bf16: Encode in bfloat16 autocast.

    Raises:
        ConfigError: When a number cannot work.
    """

    images_per_portrait: int = 4
    clips_per_portrait: int = 6
    views_per_portrait: int = 6
    portraits_per_shard: int = 32
    seed: int = 0
    num_frames: int = 17
    size_px: int = 128
    clip_batch: int = 4
    image_batch: int = 16
    bf16: bool = True

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        for name in ("portraits_per_shard", "num_frames", "clip_batch", "image_batch", "views_per_portrait"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}.")
        if min(self.images_per_portrait, self.clips_per_portrait, self.seed) < 0:
            raise ConfigError("images_per_portrait, clips_per_portrait and seed must not be negative.")
        if self.num_frames % 4 != 1:
            raise ConfigError(f"num_frames must be 4 n + 1 for the VAE, got {self.num_frames}.")


@dataclass(frozen=True)
class _Portrait:
    """All that one portrait gives, before encoding."""

    record: PortraitRecord
    images: list[ClipSpec]
    clips: list[ClipSpec]
    picture: UInt8Array
    crops: UInt8Array


def precompute(
    records: Sequence[PortraitRecord],
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
        records: All portraits, the same and in the same order for every worker and every call.
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
    records: Sequence[PortraitRecord],
    root: Path,
    out: Path,
    vae: Any,
    embedder: AlignedEmbedder,
    config: PrecomputeConfig,
) -> bool:
    """Compute one shard, unless it is complete.

    Args:
        index: Number of the shard.
        records: All portraits.
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
    size = config.portraits_per_shard
    portraits = [_sample(record, root, config) for record in records[index * size : (index + 1) * size]]
    tensors: dict[str, Tensor] = {}
    lines: list[dict[str, Any]] = []
    kinds = (("image", 1, config.image_batch), ("clip", config.num_frames, config.clip_batch))
    for kind, frames, batch in kinds:
        jobs = [(n, p, spec) for n, p in enumerate(portraits) for spec in (p.images if kind == "image" else p.clips)]
        tensors[f"{kind}_latents"] = _encode_jobs(jobs, vae, frames, batch, config)
        tensors[f"{kind}_portraits"] = torch.tensor([number for number, _, _ in jobs], dtype=torch.int32)
        lines += [_line(kind, portrait.record, spec) for _, portrait, spec in jobs]
    crops = np.stack([portrait.crops for portrait in portraits])
    tensors["crops"] = torch.from_numpy(crops)
    flat = embedder.embed_aligned(crops.reshape(-1, *crops.shape[2:]))
    tensors["embeddings"] = torch.from_numpy(flat.reshape(*crops.shape[:2], -1).astype(np.float32))
    with complete_file(path.with_suffix(".jsonl"), ConfigError) as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
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
        bf16: Run in bfloat16 autocast.

    Returns:
        (B, F, C, H, W) float16 on the CPU: the posterior mean times ``scaling_factor``.
    """
    pixels = torch.from_numpy(clips).to(vae.device).permute(0, 4, 1, 2, 3).to(vae.dtype) / 127.5 - 1
    with torch.autocast(vae.device.type, torch.bfloat16, enabled=bf16):
        mean = vae.encode(pixels).latent_dist.mean
    latents: Tensor = mean.float() * vae.config.scaling_factor
    return latents.permute(0, 2, 1, 3, 4).to("cpu", torch.float16).contiguous()


def num_shards(num_portraits: int, config: PrecomputeConfig) -> int:
    """Return the number of shards of a set of portraits."""
    return -(-num_portraits // config.portraits_per_shard)


def shard_path(out: Path, index: int) -> Path:
    """Return where the tensors of a shard are."""
    return out / f"shard-{index:05d}.safetensors"


def _sample(record: PortraitRecord, root: Path, config: PrecomputeConfig) -> _Portrait:
    """Sample what a portrait gives; depends on its path and the seed only."""
    digest = hashlib.sha256(record.path.encode()).digest()
    rng = np.random.default_rng([config.seed, int.from_bytes(digest[:8], "little")])
    picture = load_image(root / record.path)
    landmarks = record.landmark_array
    images = [sample_image_spec(rng, sample_person_word(rng, record.group)) for _ in range(config.images_per_portrait)]
    clips = [sample_clip_spec(rng, sample_person_word(rng, record.group)) for _ in range(config.clips_per_portrait)]
    crops = [align_head(picture, landmarks, "dlib5", config.size_px)]
    crops += [reference_view(picture, landmarks, rng, config.size_px) for _ in range(config.views_per_portrait)]
    return _Portrait(record, images, clips, picture, np.stack(crops))


def _encode_jobs(
    jobs: Sequence[tuple[int, _Portrait, ClipSpec]], vae: Any, frames: int, batch: int, config: PrecomputeConfig
) -> Tensor:
    """Render and encode in batches: (rows, F, C, H, W) float16."""
    parts = []
    for start in range(0, len(jobs), batch):
        clips = np.stack(
            [
                render_clip(portrait.picture, portrait.record.landmark_array, spec, frames, config.size_px)
                for _, portrait, spec in jobs[start : start + batch]
            ]
        )
        parts.append(encode_clips(vae, clips, config.bf16))
    return torch.cat(parts) if parts else torch.zeros(0, 1, 0, 0, 0, dtype=torch.float16)


def _line(kind: str, record: PortraitRecord, spec: ClipSpec) -> dict[str, Any]:
    return {
        "kind": kind,
        "portrait": record.path,
        "person_id": record.person_id,
        "stratum": record.stratum,
        **asdict(spec),
    }


def _plan(records: Sequence[PortraitRecord], vae: Any, config: PrecomputeConfig) -> dict[str, Any]:
    """Describe what the shards of a folder depend on."""
    portraits = hashlib.sha256(json.dumps([asdict(record) for record in records]).encode()).hexdigest()
    weights = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return {
        "format_version": FORMAT_VERSION,
        "config": asdict(config),
        "num_portraits": len(records),
        "num_shards": num_shards(len(records), config),
        "portraits_sha256": portraits,
        "vae_sha256": weights.hexdigest(),
    }


def _check_plan(out: Path, plan: dict[str, Any]) -> None:
    """Write the plan of a new folder, or compare it with the one that is there."""
    path = out / PLAN_FILE
    if not path.exists():
        with complete_file(path, ConfigError) as partial:
            partial.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
        return
    there = json.loads(path.read_text(encoding="utf-8"))
    differing = sorted(key for key in plan if plan[key] != there.get(key))
    if differing:
        raise ConfigError(
            f'The folder "{out}" was begun with another {", ".join(differing)}.', "Choose another folder, or delete it."
        )
