"""Pictures and videos of a running run, at fixed seeds, through the one pipeline.

``validation/step-00000500/`` holds ``grid.png``, a row for each case, and the videos. A run with validation is bit for
bit the run without: seeds are the cases' own, modes and scheduler are put back, and the trainer keeps the weights.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX
from torch import nn

from magicmirror.errors import WeightsError
from magicmirror.media import complete_folder, write_image, write_video
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.pipeline.profiles import find_profile
from magicmirror.training.batches import wanted_kinds
from magicmirror.training.config import TrainingConfig
from magicmirror.training.parts import Batch, BatchSource, take
from magicmirror.training.vae_objective import as_clips, as_pixels
from magicmirror.types import FaceBox, FaceReference, GeneratedVideo, UInt8Array

logger = logging.getLogger(__name__)

CASES = 4
FPS = 8


@dataclass(frozen=True, eq=False)
class Case:
    """One thing to make again and again.

    Args:
        caption: Prompt.
        seed: Of the noise.
        reference: The person, or ``None`` for plain text-to-video.
    """

    caption: str
    seed: int
    reference: FaceReference | None


class PipelineValidation:
    """Makes the same videos at every call.

    Args:
        pipeline: Whose networks are being trained.
        batches: The cases are the people and captions of its first batch, in the size of its latents where it has
            any, otherwise in the transformer's.
        config: Of the run.
        folder: Gets a folder for each step.
        autocast: Context in which networks of several precisions work together.
    """

    def __init__(
        self,
        pipeline: MagicMirrorPipeline,
        batches: BatchSource,
        config: TrainingConfig,
        folder: Path,
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.pipeline = pipeline
        self.folder = folder
        self.profile = find_profile(config.preset)
        first = batches(0)
        self.cases = _cases(first, config.with_identity)
        cells = first["latents"].shape[-2:] if "latents" in first else ()
        sides = (count * pipeline.vae_scale_factor_spatial for count in cells)
        self.size = dict(zip(("height", "width"), sides, strict=False))
        self.num_frames = None if "clip" in wanted_kinds(config) else 1
        dtypes = {part.dtype for part in _networks(pipeline) if hasattr(part, "dtype")}
        self._autocast = autocast if len(dtypes) > 1 or torch.bfloat16 in dtypes else nullcontext

    def __call__(self, step: int) -> Path:
        """Make and write all cases; returns their folder."""
        with at_rest(self.pipeline), self._autocast():
            clips = [self._make(case) for case in self.cases]
        rows = [
            np.concatenate([*_reference_picture(case, clip), *_shown(clip)], axis=1)
            for case, clip in zip(self.cases, clips, strict=True)
        ]
        settings = [{"prompt": case.caption, "seed": case.seed, "step": step} for case in self.cases]
        return write_validation(self.folder, step, rows, clips, settings)

    def _make(self, case: Case) -> UInt8Array:
        """One case, (F, H, W, 3) uint8 RGB."""
        output: Any = self.pipeline(
            case.caption,
            None if case.reference is None else [case.reference],
            **self.size,
            num_frames=self.num_frames,
            num_inference_steps=self.profile.num_inference_steps,
            guidance_scale=self.profile.guidance_scale,
            use_dynamic_cfg=self.profile.use_dynamic_cfg,
            seed=case.seed,
        )
        frames: UInt8Array = np.clip(np.rint(output.frames[0].astype(np.float32) * 255), 0, 255).astype(np.uint8)
        return frames


class VaeValidation:
    """Reconstructs the same stills or clips at every call.

    Args:
        vae: That is being trained.
        batches: The cases are those of its first batch.
        config: Of the run.
        folder: Gets a folder for each step.
    """

    def __init__(self, vae: AutoencoderKLCogVideoX, batches: BatchSource, config: TrainingConfig, folder: Path) -> None:
        self.vae = vae
        self.folder = folder
        self.pixels = take(batches(0), slice(0, CASES))["pixels"]

    @torch.no_grad()
    def __call__(self, step: int) -> Path:
        """Reconstruct and write; a row is the original's frames, then the reconstruction's."""
        with modes_kept([self.vae]):
            mean = self.vae.encode(as_clips(self.pixels.to(self.vae.device)).to(self.vae.dtype)).latent_dist.mean
            made = as_pixels(self.vae.decode(mean).sample.float()).cpu().numpy()
        rows = [
            np.concatenate([*_shown(before), *_shown(after)], axis=1)
            for before, after in zip(self.pixels.numpy(), made, strict=True)
        ]
        settings = [{"prompt": "reconstruction", "seed": number, "step": step} for number in range(len(made))]
        return write_validation(self.folder, step, rows, list(made), settings)


def write_validation(
    folder: Path, step: int, rows: Sequence[UInt8Array], clips: Sequence[UInt8Array], settings: Sequence[dict[str, Any]]
) -> Path:
    """Write grid and videos of a step; a folder that is there, from before a resumed run was killed, is replaced.

    Args:
        folder: Of all steps.
        step: Steps done.
        rows: Of the grid, (H, W, 3) each.
        clips: (F, H, W, 3) each; stills make no video.
        settings: Of each clip.

    Returns:
        The step's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:08d}"
    with complete_folder(final, WeightsError, replace=True) as partial:
        write_image(np.concatenate(list(rows), axis=0), partial / "grid.png")
        for number, (clip, record) in enumerate(zip(clips, settings, strict=True)):
            if len(clip) > 1:
                write_video(GeneratedVideo(clip, FPS, record), partial / f"case-{number}.mp4")
    logger.info("validation of step %d: %s", step, final)
    return final


@contextmanager
def at_rest(pipeline: MagicMirrorPipeline) -> Iterator[None]:
    """Let a pipeline generate in the middle of training, and put its modes and its scheduler back."""
    scheduler, pipeline.scheduler = pipeline.scheduler, copy.deepcopy(pipeline.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    try:
        with modes_kept(_networks(pipeline)):
            yield
    finally:
        pipeline.scheduler = scheduler


@contextmanager
def modes_kept(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Put networks into evaluation mode, and every module of theirs back into its own."""
    before = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _networks(pipeline: MagicMirrorPipeline) -> list[Any]:
    return [part for part in pipeline.components.values() if isinstance(part, nn.Module)]


def _cases(batch: Batch, with_identity: bool) -> list[Case]:
    """People and captions of a batch."""
    chosen = take(batch, slice(0, CASES))
    return [
        Case(caption, seed, _reference(chosen, seed) if with_identity else None)
        for seed, caption in enumerate(chosen["captions"])
    ]


def _reference(batch: Batch, row: int) -> FaceReference:
    """A row's reference as the pipeline takes it; of the photo around the crop nothing is known, nor needed."""
    crop = batch["crops"][row].numpy()
    return FaceReference(
        box=FaceBox(0, 0, crop.shape[1], crop.shape[0]),
        landmarks=np.zeros((5, 2), np.float32),
        landmark_scheme="dlib5",
        crop=crop,
        embedding=batch["embeddings"][row].numpy(),
        score=1.0,
    )


def _reference_picture(case: Case, clip: UInt8Array) -> list[UInt8Array]:
    """The reference at the height of the frames."""
    if case.reference is None:
        return []
    import cv2

    crop = case.reference.crop
    height = clip.shape[1]
    size = (max(1, round(crop.shape[1] * height / crop.shape[0])), height)
    return [np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)]


def _shown(clip: UInt8Array) -> list[UInt8Array]:
    """First, middle and last frame; a still once."""
    return [clip[index] for index in ((0,) if len(clip) == 1 else (0, len(clip) // 2, len(clip) - 1))]
