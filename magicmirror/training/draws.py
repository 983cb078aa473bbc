"""All that is random in a step of the denoiser: noise, timesteps, dropped conditions, and which samples a term sees."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from magicmirror.training.config import TrainingConfig
from magicmirror.training.parts import WHOLE, Part

UNROLLED_TIMESTEPS = (400, 600)
"""First timestep and end of the second step of an unrolled sample; of the preview's two steps it is at 499."""


class Dropout(NamedTuple):
    """Which samples lose which condition; all (B,) bool."""

    text: Tensor
    identity: Tensor


class Draws(NamedTuple):
    """All that is random in a step, for one part of its samples; the first axis is B.

    Args:
        noise: (B, F, C, H, W).
        timesteps: (B,).
        dropout: Which samples lose which condition.
        in_face: (B,) bool; whose loss is taken in the face area alone.
        identity_kept: (B,) bool; which samples the identity term looks at.
        identity_weight: Turns the mean over this part's kept samples into its share of the mean over the step's.
        frames: (B,) latent frame that the perceptual term looks at.
        perceptual_kept: (B,) bool; at which samples it looks.
        perceptual_weight: As ``identity_weight``.
        unrolled: (B,) bool; which samples get noise on what the model predicts of them, see ``unroll``.
    """

    noise: Tensor
    timesteps: Tensor
    dropout: Dropout
    in_face: Tensor
    identity_kept: Tensor
    identity_weight: float
    frames: Tensor
    perceptual_kept: Tensor
    perceptual_weight: float
    unrolled: Tensor


def draw_dropout(batch_size: int, config: TrainingConfig, generator: torch.Generator) -> Dropout:
    """Draw dropped conditions: text and identity together, or the identity alone (paper.md, decision 4)."""
    draw = torch.rand(batch_size, generator=generator)
    return Dropout(text=draw < config.drop_all, identity=draw < config.drop_all + config.drop_identity)


def draw_timesteps(batch_size: int, num_timesteps: int, config: TrainingConfig, generator: torch.Generator) -> Tensor:
    """Draw timesteps (B,): uniform, with ``config.high_noise_share`` of them from the noisy end."""
    uniform = torch.randint(0, num_timesteps, (batch_size,), generator=generator)
    if config.high_noise_share == 0:
        return uniform
    noisy = torch.randint(config.high_noise_from, num_timesteps, (batch_size,), generator=generator)
    return torch.where(torch.rand(batch_size, generator=generator) < config.high_noise_share, noisy, uniform)


def draw_step(
    latents: Tensor, num_timesteps: int, config: TrainingConfig, generator: torch.Generator, part: Part = WHOLE
) -> Draws:
    """Draw for all samples of a step, and return one part: the draws do not depend on how a step is shared out.

    Args:
        latents: (B, F, C, H, W) of the part; only size and device matter.
        num_timesteps: Of the schedule.
        config: Of the run.
        generator: Of the step, on the CPU.
        part: Which of the step's samples these are.
    """
    total, device = part.of_all(latents), latents.device
    own = part.rows(total)
    noise = torch.randn((total, *latents.shape[1:]), generator=generator)
    timesteps = draw_timesteps(total, num_timesteps, config, generator)
    dropout = draw_dropout(total, config, generator)
    in_face = torch.rand(total, generator=generator) < config.face_loss_share
    frames = torch.randint(0, latents.size(1), (total,), generator=generator)
    unrolled = torch.zeros(total, dtype=torch.bool)
    if config.unrolled_share > 0:
        unrolled = torch.rand(total, generator=generator) < config.unrolled_share
        second = torch.randint(*UNROLLED_TIMESTEPS, (total,), generator=generator)
        timesteps = torch.where(unrolled, second, timesteps)
    identity_kept = _some((timesteps < config.identity_loss_below) & ~dropout.identity, config.identity_loss_samples)
    perceptual_kept = _some(~dropout.identity, config.perceptual_loss_samples)
    return Draws(
        noise[own].to(device),
        timesteps[own].to(device),
        Dropout(*(which[own].to(device) for which in dropout)),
        in_face[own].to(device),
        identity_kept[own].to(device),
        _share(identity_kept, part),
        frames[own].to(device),
        perceptual_kept[own].to(device),
        _share(perceptual_kept, part),
        unrolled[own].to(device),
    )


def _some(kept: Tensor, count: int) -> Tensor:
    """Keep ``count`` of the kept samples, spread evenly, so that processes have about as many each."""
    rank, total = kept.cumsum(0), int(kept.sum())
    if total <= count:
        return kept
    return kept & (rank * count // total > (rank - 1) * count // total)


def _share(kept: Tensor, part: Part) -> float:
    """What turns the mean over a part's kept samples into its share of the mean over the step's."""
    return part.count * int(kept[part.rows(len(kept))].sum()) / max(int(kept.sum()), 1)
