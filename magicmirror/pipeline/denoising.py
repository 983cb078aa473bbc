"""The denoising loop: CogVideoX's, with the identity's constants made once before it (paper section 3.3).

Without an identity every tensor is the stock CogVideoX pipeline's, bit for bit.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import CogVideoXDPMScheduler
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor

from magicmirror.pipeline.conditioning import IdentityCondition

Rotary = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance.

    Args:
        scale: w; 1 or less switches it off and saves half of the work.
        dynamic: Let w grow from 1 over the schedule, as the stock pipeline does with ``use_dynamic_cfg``.
    """

    scale: float
    dynamic: bool = False

    @property
    def active(self) -> bool:
        """Whether an unconditional branch is needed."""
        return self.scale > 1.0

    def at(self, timestep: float | Tensor, num_steps: int) -> float:
        """The scale at a timestep in [0, 1000) of a schedule of ``num_steps``; a tensor is read only if it counts."""
        if not self.dynamic:
            return self.scale
        timestep = float(timestep)
        # The stock formula, kept as it is although it compares a timestep with a number of steps.
        return 1 + self.scale * ((1 - math.cos(math.pi * ((num_steps - timestep) / num_steps) ** 5.0)) / 2)


@dataclass
class StepState:
    """What a callback sees after a step, and may replace.

    Args:
        index: Step, counted from 0.
        timestep: Scalar tensor.
        latents: (B, F, C, H, W).
        prompt_embeds: (B, T, D_txt), or (2 B, T, D_txt) with the unconditional rows first.
        guidance_scale: Of this step; without a dynamic scale, that of the next one too.
    """

    index: int
    timestep: Tensor
    latents: Tensor
    prompt_embeds: Tensor
    guidance_scale: float


class LoopWatcher(Protocol):
    """Someone who follows the loop."""

    def before_step(self, timestep: Tensor) -> bool:
        """Whether to do the step at this timestep; ``False`` ends the loop with the latents as they are."""

    def after_step(self, state: StepState) -> None:
        """See the state, and replace tensors in it; an exception ends the loop."""


def denoise(
    transformer: Any,
    scheduler: Any,
    latents: Tensor,
    prompt_embeds: Tensor,
    guidance: Guidance,
    rotary: Rotary | None = None,
    identity: IdentityCondition | None = None,
    identity_scale: float = 1.0,
    precompute: bool = True,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    attention_kwargs: dict[str, Any] | None = None,
    watcher: LoopWatcher | None = None,
) -> Tensor:
    """Run the schedule that was set on the scheduler.

    Args:
        transformer: ``MagicMirrorTransformer3DModel``.
        scheduler: One of diffusers' after ``set_timesteps``.
        latents: (B, F, C, H, W) noise, scaled by ``scheduler.init_noise_sigma``.
        prompt_embeds: (B, T, D_txt), or (2 B, T, D_txt) with the unconditional rows first where guidance is active.
        guidance: Of text and identity together.
        rotary: Of ``rotary_embedding``.
        identity: B rows; the unconditional rows get the null identity (decision 4).
        identity_scale: Strength; 0 is as if there was no identity.
        precompute: Make the identity's constants once; ``False`` makes them anew in every step, to the same result.
        generator: For the noise of the DPM scheduler; a list has one for each row.
        attention_kwargs: Passed to the transformer.
        watcher: Called around every step.

    Returns:
        (B, F, C, H, W) clean latents.
    """
    timesteps, num_steps = scheduler.timesteps, scheduler.num_inference_steps
    arguments = _identity_arguments(
        transformer,
        identity,
        identity_scale,
        guidance.active,
        timesteps if precompute else None,
        prompt_embeds.dtype,
        attention_kwargs,
    )
    previous: Tensor | None = None
    scale = guidance.scale
    try:
        for index, timestep in enumerate(timesteps):
            if watcher is not None and not watcher.before_step(timestep):
                break
            scale = guidance.at(timestep, num_steps) if guidance.dynamic else scale
            velocity = _predict(
                transformer,
                scheduler.scale_model_input(latents, timestep),
                prompt_embeds,
                timestep,
                scale if guidance.active else None,
                image_rotary_emb=rotary,
                attention_kwargs=attention_kwargs,
                **arguments(index),
            )
            latents, previous = _scheduler_step(scheduler, velocity, previous, index, latents, generator)
            state = StepState(index, timestep, latents.to(prompt_embeds.dtype), prompt_embeds, scale)
            if watcher is not None:
                watcher.after_step(state)
            latents, prompt_embeds, scale = state.latents, state.prompt_embeds, state.guidance_scale
    finally:
        # A run that ends early must not leave its cached blocks to the next request.
        transformer._reset_stateful_cache()
    return latents


def _predict(
    transformer: Any,
    latents: Tensor,
    prompt_embeds: Tensor,
    timestep: Tensor,
    guidance_scale: float | None,
    **arguments: Any,
) -> Tensor:
    """Velocity (B, F, C, H, W) in float32; with guidance both branches are one batch, the unconditional first."""
    model_input = latents if guidance_scale is None else torch.cat([latents] * 2)
    with transformer.cache_context("cond_uncond"):
        velocity: Tensor = transformer(
            hidden_states=model_input,
            encoder_hidden_states=prompt_embeds,
            timestep=timestep.expand(model_input.size(0)),
            return_dict=False,
            **arguments,
        )[0].float()
    if guidance_scale is None:
        return velocity
    unconditional, conditional = velocity.chunk(2)
    return unconditional + guidance_scale * (conditional - unconditional)


def _identity_arguments(
    transformer: Any,
    identity: IdentityCondition | None,
    scale: float,
    guided: bool,
    timesteps: Tensor | None,
    dtype: torch.dtype,
    attention_kwargs: dict[str, Any] | None,
) -> Callable[[int], dict[str, Any]]:
    """The identity's keyword arguments of ``transformer.forward`` for a step."""
    if identity is None or scale == 0:
        return lambda _: {}
    transformer = getattr(transformer, "_orig_mod", transformer)  # what ``torch.compile`` wraps
    tokens = [part.to(dtype) for part in identity]
    if guided:
        null = apply_forward_hook(type(transformer).null_identity)(transformer, tokens[0].size(0))
        tokens = [torch.cat([empty.to(part), part]) for empty, part in zip(null, tokens, strict=True)]
    identity_tokens, face_tokens = tokens
    if timesteps is None:
        plain = {"identity_tokens": identity_tokens, "face_tokens": face_tokens, "identity_scale": scale}
        return lambda _: plain
    # The hook brings an offloaded transformer to its device first; only ``forward`` would do so by itself.
    precompute = apply_forward_hook(type(transformer).precompute_identity)
    constants = precompute(
        transformer, identity_tokens, face_tokens, timesteps, scale, attention_kwargs=attention_kwargs
    )
    return lambda index: {"identity_constants": constants.at(index)}


def _scheduler_step(
    scheduler: Any,
    velocity: Tensor,
    previous: Tensor | None,
    index: int,
    latents: Tensor,
    generator: torch.Generator | Sequence[torch.Generator] | None,
) -> tuple[Tensor, Tensor | None]:
    """One step of a scheduler; returns latents and, for DPM, the predicted clean latents."""
    timestep = scheduler.timesteps[index]
    taken = inspect.signature(scheduler.step).parameters
    options = {"eta": 0.0, "generator": generator, "return_dict": False}
    options = {name: value for name, value in options.items() if name in taken}
    if isinstance(scheduler, CogVideoXDPMScheduler):
        back = scheduler.timesteps[index - 1] if index > 0 else None
        latents, previous = scheduler.step(velocity, previous, timestep, back, latents, **options)
        return latents, previous
    return scheduler.step(velocity, timestep, latents, **options)[0], None


def rotary_embedding(config: Any, latent_shape: torch.Size, device: torch.device) -> Rotary | None:
    """Rotary tables of CogVideoX for latents of a shape.

    Args:
        config: The transformer's.
        latent_shape: (B, F, C, H, W).
        device: Where to put them.

    Returns:
        Cosines and sines, each (V, head_dim); ``None`` for a transformer without rotary positions.
    """
    if not config.use_rotary_positional_embeddings:
        return None
    _, frames, _, height, width = latent_shape
    patch, patch_t = config.patch_size, config.patch_size_t
    grid = (height // patch, width // patch)
    base = (config.sample_height // patch, config.sample_width // patch)
    if patch_t is None:  # CogVideoX 1.0
        layout = {"crops_coords": get_resize_crop_region_for_grid(grid, base[1], base[0]), "temporal_size": frames}
    else:
        layout = {
            "crops_coords": None,
            "temporal_size": (frames + patch_t - 1) // patch_t,
            "grid_type": "slice",
            "max_size": base,
        }
    cosines, sines = get_3d_rotary_pos_embed(
        embed_dim=config.attention_head_dim, grid_size=grid, device=device, **layout
    )
    return cosines, sines
