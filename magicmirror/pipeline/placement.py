"""Where a pipeline's networks live: which device, and how they share its memory."""

from __future__ import annotations

import torch

from magicmirror.errors import ConfigError
from magicmirror.pipeline.memory_options import MemoryOptions
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.pipeline.profiles import Profile


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


def place(
    pipeline: MagicMirrorPipeline, profile: Profile, device: torch.device, options: MemoryOptions | None = None
) -> MagicMirrorPipeline:
    """Set the memory options of a pipeline and move it to its device."""
    options = options or MemoryOptions()
    if profile.vae_tiling if options.vae_tiling is None else options.vae_tiling:
        pipeline.vae.enable_tiling()
    if options.policy == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif options.policy == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    return pipeline
