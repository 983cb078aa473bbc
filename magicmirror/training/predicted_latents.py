"""What a decoder gets to see when a video is made: latents that the denoiser has predicted, not those of a real video.

A decoder that only ever saw latents of real pictures answers the small errors of predicted ones with streaks and hard
contrasts. Here real latents get noise of a random strength, and the denoiser predicts the clean ones from it, with the
caption, the reference and the guidance of a request.
"""

from __future__ import annotations

import torch
from torch import Tensor

from magicmirror.training.config import TrainingConfig
from magicmirror.training.draws import Dropout
from magicmirror.training.objective import IdentityVideoObjective
from magicmirror.training.parts import Batch, Part


class PredictedLatents:
    """The denoiser's prediction of clean latents.

    Args:
        denoiser: Objective over the denoiser and its encoders; used as it is, never trained.
        scaling_factor: Of the VAE: what its latents are multiplied with for the denoiser.
        config: Of the run; ``predicted_from``, ``predicted_below``, ``predicted_share`` and
            ``guidance_scale`` apply.
    """

    def __init__(self, denoiser: IdentityVideoObjective, scaling_factor: float, config: TrainingConfig) -> None:
        self.denoiser = denoiser
        self.scaling_factor = scaling_factor
        self.config = config

    @torch.no_grad()
    def __call__(self, latents: Tensor, batch: Batch, generator: torch.Generator, part: Part) -> Tensor:
        """Predict the latents of a part of a step's samples anew, or of some of them.

        Args:
            latents: (B, C, F, H, W) of the VAE.
            batch: Conditions, as ``IdentityVideoObjective`` takes them.
            generator: Of the step, on the CPU.
            part: Which of the step's samples these are.

        Returns:
            (B, C, F, H, W) float32.
        """
        scheduler = self.denoiser.scheduler
        clean = latents.float().transpose(1, 2) * self.scaling_factor
        total = part.of_all(clean)
        own = part.rows(total)
        noise = torch.randn((total, *clean.shape[1:]), generator=generator)[own].to(clean.device)
        first, end = self.config.predicted_from, self.config.predicted_below
        timesteps = torch.randint(first, end, (total,), generator=generator)[own].to(clean.device)
        noisy = scheduler.add_noise(clean, noise, timesteps)

        given = torch.zeros_like(timesteps, dtype=torch.bool)
        velocity = self.denoiser.predict(batch, noisy, timesteps, Dropout(text=given, identity=given))
        if self.config.guidance_scale != 1.0:
            plain = self.denoiser.predict(batch, noisy, timesteps, Dropout(text=~given, identity=~given))
            velocity = plain + self.config.guidance_scale * (velocity - plain)
        predicted: Tensor = scheduler.get_velocity(velocity, noisy, timesteps)  # x0 from v, by symmetry of the two
        if self.config.predicted_share < 1:
            chosen = torch.rand(total, generator=generator)[own] < self.config.predicted_share
            predicted = torch.where(chosen.to(clean.device)[:, None, None, None, None], predicted, clean)
        return predicted.transpose(1, 2) / self.scaling_factor
