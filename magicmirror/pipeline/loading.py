"""From a profile to a pipeline, and from a request to a video: the two calls that command line, page and API share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from torch import Tensor

from magicmirror import __version__
from magicmirror.errors import JobCancelled, WeightsError
from magicmirror.models.presets import model_preset
from magicmirror.pipeline.acceleration import accelerate_pipeline, check_speed, speed_record
from magicmirror.pipeline.memory_options import MemoryOptions
from magicmirror.pipeline.model_size import requested_work
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.pipeline.placement import choose_device, place, place_for
from magicmirror.pipeline.profiles import Profile, SchedulerName, find_profile, profile_names
from magicmirror.pipeline.sources import INDEX_FILE, PHOTOMAKER, pipeline_class, split_source
from magicmirror.pipeline.speed_options import SpeedOptions
from magicmirror.types import GeneratedVideo, GenerationRequest

SCHEDULERS = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}


def load_pipeline(
    profile: Profile,
    device: str = "auto",
    adapter: str | None = None,
    memory: MemoryOptions | None = None,
    speed: SpeedOptions | None = None,
) -> MagicMirrorPipeline:
    """Load everything that a profile needs.

    Args:
        profile: Which weights.
        device: ``auto`` takes CUDA, then MPS, then the CPU; or a torch device.
        adapter: Folder, file or hub id in place of the profile's.
        memory: How the networks share the device's memory; ``None`` chooses by what is free.
        speed: Compilation, attention kernel, step cache, precision of decoding; ``None`` changes no more than the
            last bits of a picture.

    Returns:
        The pipeline on its device, in evaluation mode; its ``provenance`` says which weights it holds.

    Raises:
        WeightsError: If weights are missing or do not fit.
        ConfigError: If the device does not exist, or cannot do what ``speed`` asks for.
    """
    target = choose_device(device)
    adapter = adapter or profile.adapter
    dtype = getattr(torch, profile.dtype_name(target.type))
    check_speed(speed or SpeedOptions(), target, dtype)
    base = split_source(profile.base)
    if profile.identity_encoder is None and isinstance(base, Path) and not (base / INDEX_FILE).is_file():
        raise WeightsError(
            f'The weights of "{profile.name}" are not at {profile.base}.',
            "Give the folder of a saved MagicMirrorPipeline with --model-path or MAGICMIRROR_MODEL_PATH.",
        )
    check_adapter(replace(profile, adapter=adapter))
    pipeline = MagicMirrorPipeline.from_pretrained(
        profile.base,
        adapter=adapter,
        identity_encoder=profile.identity_encoder or PHOTOMAKER,
        preset=model_preset(profile.preset),
        dtype=dtype,
    )
    set_scheduler(pipeline, profile.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    place(pipeline, profile, target, memory)
    accelerate_pipeline(pipeline, speed or SpeedOptions())
    return pipeline


def check_adapter(profile: Profile) -> None:
    """Refuse a profile without the adapter weights that it needs; of a base on the hub one small file may be fetched.

    Raises:
        WeightsError: When they are missing, or it cannot be found out whether the base brings them.
    """
    if profile.adapter is not None or profile.identity_encoder is None:
        return
    # What the profiles name are stock models; only of another base it has to be found out what it is.
    stock = profile.base in {find_profile(name).base for name in profile_names()}
    if stock or pipeline_class(profile.base) != MagicMirrorPipeline.__name__:
        raise WeightsError(
            f'The profile "{profile.name}" needs adapter weights, and none were given: without them the '
            "video would show somebody else.",
            "None are published yet. Train them (docs/training.md), and give their folder, file or hub id with "
            "--adapter or MAGICMIRROR_ADAPTER.",
        )


def check_profile(profile: Profile) -> None:
    """Refuse a profile whose weights are missing or do not belong together; of those on the hub only texts are fetched.

    Raises:
        WeightsError: If so.
    """
    check_adapter(profile)
    if profile.adapter is not None:
        MagicMirrorPipeline.compare_sources(profile.base, profile.adapter, model_preset(profile.preset))


def set_scheduler(pipeline: MagicMirrorPipeline, name: SchedulerName) -> None:
    """Give a pipeline one of CogVideoX's schedulers, with the noise schedule of its weights."""
    pipeline.scheduler = SCHEDULERS[name].from_config(pipeline.scheduler.config, timestep_spacing="trailing")


def generate(
    pipeline: MagicMirrorPipeline,
    profile: Profile,
    request: GenerationRequest,
    on_step: Callable[[int, int, Tensor], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> GeneratedVideo:
    """Make the video of a request.

    Args:
        pipeline: Of ``load_pipeline``.
        profile: The same profile.
        request: What to make; ``None`` in it means the profile's default.
        on_step: Called after every denoising step with step (from 0), steps in all, and latents (1, F, C, H, W).
        should_stop: Asked before the start, after every step, and so before decoding.

    Returns:
        Frames, settings and timings; ``likeness`` is left empty.

    Raises:
        JobCancelled: Once ``should_stop`` said so.
        MagicMirrorError: If the request cannot be met; see ``Profile.resolve``, ``place_for`` and
            ``MagicMirrorPipeline``.
    """
    request = profile.resolve(request)
    shape = profile.video_shape(request)
    total = request.num_inference_steps
    assert total is not None and request.guidance_scale is not None

    def after_step(_: Any, step: int, __: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        if on_step is not None:
            on_step(step, total, tensors["latents"])
        _stop_if(should_stop)
        return {}

    start = time.perf_counter()
    _stop_if(should_stop)
    place_for(pipeline, requested_work(request))
    output: Any = pipeline(
        request.prompt,
        request.references,
        negative_prompt=request.negative_prompt,
        height=shape.height_px,
        width=shape.width_px,
        num_frames=shape.num_frames,
        num_inference_steps=total,
        guidance_scale=request.guidance_scale,
        use_dynamic_cfg=profile.use_dynamic_cfg,
        identity_scale=request.identity_scale,
        seed=request.seed,
        callback_on_step_end=after_step,
    )
    return GeneratedVideo(
        frames=np.clip(np.rint(output.frames[0] * 255.0), 0, 255).astype(np.uint8),
        fps=shape.fps,
        settings=settings_record(pipeline, profile, request),
        timings_s={**pipeline.timings_s, "total": time.perf_counter() - start},
    )


def settings_record(pipeline: MagicMirrorPipeline, profile: Profile, request: GenerationRequest) -> dict[str, Any]:
    """All that a video depends on, as JSON can hold it.

    Args:
        pipeline: That made it.
        profile: Of the pipeline.
        request: Resolved.

    Returns:
        The record that goes into the mp4 and its sidecar.
    """
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "profile": profile.name,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "use_dynamic_cfg": profile.use_dynamic_cfg,
        "identity_scale": request.identity_scale,
        "scheduler": type(pipeline.scheduler).__name__,
        "num_frames": request.num_frames,
        "height_px": request.height_px,
        "width_px": request.width_px,
        "fps": profile.shape.fps,
        "references": [reference.photo_sha256 for reference in request.references],
        "weights": dict(pipeline.provenance),
        "device": pipeline._execution_device.type,
        "memory": {"policy": pipeline.memory_plan.policy, "quantisation": pipeline.memory_plan.quantisation},
        "speed": speed_record(pipeline),
        "dtype": str(pipeline.transformer.dtype).removeprefix("torch."),
        "versions": {
            "magicmirror": __version__,
            **{library.__name__: str(library.__version__) for library in (torch, diffusers, transformers)},
        },
    }


def _stop_if(should_stop: Callable[[], bool] | None) -> None:
    if should_stop is not None and should_stop():
        raise JobCancelled("The job was stopped on request.")
