"""Where a pipeline's networks live: which device, and how they share its memory."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, cast

import accelerate
import torch
from diffusers import DiffusionPipeline
from diffusers.hooks import HookRegistry, apply_group_offloading
from diffusers.hooks.group_offloading import (
    _GROUP_OFFLOADING,
    _LAYER_EXECUTION_TRACKER,
    _LAZY_PREFETCH_GROUP_OFFLOADING,
)
from torch import nn

from magicmirror.errors import ConfigError
from magicmirror.pipeline.memory_forecast import MemoryBudget, MemoryPlan
from magicmirror.pipeline.memory_options import MemoryOptions
from magicmirror.pipeline.model_size import VideoWork, measure_networks, whole_tile_px
from magicmirror.pipeline.out_of_memory import is_out_of_memory
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.pipeline.profiles import Profile
from magicmirror.pipeline.quantisation import quantise, stored_kind

log = logging.getLogger(__name__)

_GROUP_HOOKS = (_GROUP_OFFLOADING, _LAYER_EXECUTION_TRACKER, _LAZY_PREFETCH_GROUP_OFFLOADING)


def choose_device(name: str) -> torch.device:
    """Turn ``auto`` or a device's name into a device that exists.

    Raises:
        ConfigError: If it does not.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f'"{name}" is not a device.', "Use auto, cpu, cuda, cuda:N or mps.") from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= counts.get(device.type, 0):
        raise ConfigError(f'The device "{name}" does not exist on this machine.', 'Use "auto".')
    return device


def free_bytes(device: torch.device) -> int:
    """Bytes that a device can still give."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    import psutil

    return int(psutil.virtual_memory().available)


def usual_work(profile: Profile) -> VideoWork:
    """The video that a profile makes where nothing else is asked for."""
    shape, guided = profile.shape, profile.guidance_scale > 1.0
    return VideoWork(shape.num_frames, shape.height_px, shape.width_px, guided, profile.num_inference_steps)


def place(
    pipeline: MagicMirrorPipeline, profile: Profile, device: torch.device, options: MemoryOptions | None = None
) -> MagicMirrorPipeline:
    """Choose how a pipeline that lies on the CPU uses its device, and put it there.

    Args:
        pipeline: With all of its weights loaded.
        profile: Of the pipeline.
        device: Of ``choose_device``.
        options: What was asked for.

    Returns:
        The same pipeline; its ``memory_plan`` says what was chosen and why.

    Raises:
        ConfigError: If quantisation was asked for and torchao is missing, or the weights are stored in another kind;
            or for offloading on a CPU.
    """
    options = options or MemoryOptions()
    if device.type == "cpu" and options.policy not in ("auto", "resident"):
        raise ConfigError(
            f'The memory policy "{options.policy}" moves weights between a GPU and the CPU, and this device is a CPU.',
            'Use "auto".',
        )
    if options.quantisation == "none":  # a pipeline that was quantised or saved so before stays it
        options = replace(options, quantisation=stored_kind(pipeline))
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    size = measure_networks(networks, pipeline.transformer.dtype.itemsize, options.quantisation)
    usual = usual_work(profile)
    budget = MemoryBudget(size, usual, options, free_bytes(device), device.type, profile.vae_tiling)
    plan = budget.choose(usual)
    log.info("Memory: %s", plan.reason)
    quantise(pipeline, plan.quantisation)
    pipeline.memory_budget = budget
    _apply_or_step_down(pipeline, plan, device)
    return pipeline


def place_for(pipeline: MagicMirrorPipeline, work: VideoWork) -> None:
    """Take a plan that needs less, and stay with it, where a video would not fit with the present one.

    Raises:
        ConfigError: If it fits with none.
    """
    if pipeline.memory_budget is None:  # placed by its caller
        return
    plan = pipeline.memory_budget.lowered(pipeline.memory_plan, work)
    if plan != pipeline.memory_plan:
        log.warning("Memory: %s", plan.reason)
        _apply_or_step_down(pipeline, plan, pipeline._execution_device)


def apply_plan(pipeline: MagicMirrorPipeline, plan: MemoryPlan, device: torch.device) -> None:
    """Put the networks where a plan wants them, wherever they are now.

    Args:
        pipeline: Between two calls.
        plan: The plan; ``quantisation`` has been done before.
        device: Where the networks work.
    """
    _bring_home(pipeline)
    pipeline.vae.disable_tiling()
    if plan.vae_tiling:
        height, width = whole_tile_px(pipeline.vae)
        pipeline.vae.enable_tiling(height, width)
        pipeline.vae.enable_slicing()
    if plan.policy == "resident":
        pipeline.to(device)
        if plan.frees_text_encoder:
            _, pipeline.text_encoder_hook = accelerate.cpu_offload_with_hook(pipeline.text_encoder.to("cpu"), device)
    elif plan.policy == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif plan.policy == "group":
        _offload_in_groups(pipeline, device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)
    pipeline.memory_plan = plan


def step_down(pipeline: MagicMirrorPipeline) -> MemoryPlan | None:
    """Take the plan that needs less memory than the present one, after a call ran out of memory.

    Returns:
        The new plan, or ``None`` where there is none: the last policy failed, or the device is the CPU.
    """
    device = pipeline._execution_device
    plan = pipeline.memory_plan.below()
    if device.type == "cpu" or plan is None:
        return None
    log.warning("Memory: %s", plan.reason)
    _apply_or_step_down(pipeline, plan, device)
    return pipeline.memory_plan


def _apply_or_step_down(pipeline: MagicMirrorPipeline, plan: MemoryPlan, device: torch.device) -> None:
    """Put the networks where a plan wants them; where memory does not suffice even for that, the plan below it."""
    try:
        apply_plan(pipeline, plan, device)
        return
    except Exception as error:
        below = plan.below()
        if below is None or device.type == "cpu" or not is_out_of_memory(error):
            raise
    # Only here, because the error holds on to what filled the memory.
    log.warning("Memory: %s", below.reason)
    _apply_or_step_down(pipeline, below, device)


def _bring_home(pipeline: DiffusionPipeline) -> None:
    """Take every hook of an earlier plan away and bring the networks to the CPU, so that the device is free."""
    networks = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    before = {parameter.device.type for network in networks for parameter in network.parameters()}
    pipeline.remove_all_hooks()
    for network in networks:
        _remove_group_hooks(network)
        nn.Module.to(network, "cpu")
    if "cuda" in before:
        torch.cuda.empty_cache()


def _remove_group_hooks(network: nn.Module) -> None:
    for module in network.modules():
        registry: HookRegistry | None = getattr(module, "_diffusers_hook", None)
        for name in _GROUP_HOOKS:
            if registry is not None and registry.get_hook(name) is not None:
                registry.remove_hook(name, recurse=False)


def _offload_in_groups(pipeline: MagicMirrorPipeline, device: torch.device) -> None:
    """Offload the transformer block by block, with the next block on its way where the device can do that.

    The text encoder and the face networks run once a request, layer by layer; the VAE is small and stays.
    """
    stream = device.type == "cuda"
    for name, network in pipeline.components.items():
        if name == "transformer":
            network.enable_group_offload(device, offload_type="block_level", num_blocks_per_group=1, use_stream=stream)
        elif name == "vae":
            network.to(device)
        elif isinstance(network, nn.Module):
            apply_group_offloading(cast(Any, network), device, offload_type="leaf_level")
