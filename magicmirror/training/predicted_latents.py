"""What a decoder gets to see when a video is made: latents that the denoiser has predicted, not those of a real video.

A decoder that only ever saw latents of real pictures answers the small errors of predicted ones with streaks and hard
contrasts. Here real latents get noise of a random strength, and the denoiser predicts the clean ones from it, with the
caption, the reference and the guidance of a request.

Some samples are a request from beginning to end: pure noise, and both of the preview's steps. Nothing of the picture is
in them, so it does not say what they are to look like, but a critic can.
"""

from __future__ import annotations

import torch
from torch import Tensor

from magicmirror.errors import ConfigError
from magicmirror.training.config import TrainingConfig
from magicmirror.training.draws import Dropout
from magicmirror.training.objective import IdentityVideoObjective
from magicmirror.training.parts import Batch, Part, take

REQUEST_TIMESTEPS = (999, 499)
"""Of the preview's two steps."""


class PredictedLatents:
    """The denoiser's prediction of clean latents.

    Args:
        denoiser: Objective over the denoiser and its encoders; used as it is, never trained.
        scaling_factor: Of the VAE: what its latents are multiplied with for the denoiser.
        config: Of the run; ``predicted_from``, ``predicted_below``, ``predicted_share``, ``requested_share`` and
            ``guidance_scale`` apply.

    Raises:
        ConfigError: When there are to be requests and no critic that could judge them.
    """

    def __init__(self, denoiser: IdentityVideoObjective, scaling_factor: float, config: TrainingConfig) -> None:
        if config.requested_share > 0 and config.critic_weight == 0:
            raise ConfigError(
                f"A requested_share of {config.requested_share} needs a critic.", "Give it a critic_weight above 0."
            )
        self.denoiser = denoiser
        self.scaling_factor = scaling_factor
        self.config = config

    @torch.no_grad()
    def __call__(self, latents: Tensor, batch: Batch, generator: torch.Generator, part: Part) -> tuple[Tensor, Tensor]:
        """Predict the latents of a part of a step's samples anew, or of some of them.

        Args:
            latents: (B, C, F, H, W) of the VAE.
            batch: Conditions, as ``IdentityVideoObjective`` takes them.
            generator: Of the step, on the CPU.
            part: Which of the step's samples these are.

        Returns:
            (B, C, F, H, W) float32, and (B,) bool: which were requested, and have nothing of the latents given.
        """
        scheduler = self.denoiser.scheduler
        clean = latents.float().transpose(1, 2) * self.scaling_factor
        total = part.of_all(clean)
        own = part.rows(total)
        noise = torch.randn((total, *clean.shape[1:]), generator=generator)[own].to(clean.device)
        first, end = self.config.predicted_from, self.config.predicted_below
        timesteps = torch.randint(first, end, (total,), generator=generator)[own].to(clean.device)
        noisy = scheduler.add_noise(clean, noise, timesteps)
        chosen, requested = torch.ones(len(clean), dtype=torch.bool), torch.zeros(len(clean), dtype=torch.bool)
        if self.config.predicted_share < 1:
            chosen = torch.rand(total, generator=generator)[own] < self.config.predicted_share
        if self.config.requested_share > 0:
            requested = torch.rand(total, generator=generator)[own] < self.config.requested_share
            if rows := requested.nonzero().flatten().tolist():
                noisy[rows], timesteps[rows] = self._second_step(take(batch, rows), noise[rows])
        if rows := (chosen | requested).nonzero().flatten().tolist():
            clean[rows] = self.clean(take(batch, rows), noisy[rows], timesteps[rows])
        return clean.transpose(1, 2) / self.scaling_factor, requested

    @torch.no_grad()
    def clean(self, batch: Batch, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Predict the clean latents, with guidance.

        Args:
            batch: Conditions, as ``IdentityVideoObjective`` takes them.
            noisy: (B, F, C, H, W) latents in the denoiser's units, with noise.
            timesteps: (B,).

        Returns:
            (B, F, C, H, W) in these units.
        """
        given = torch.zeros_like(timesteps, dtype=torch.bool)
        velocity = self.denoiser.predict(batch, noisy, timesteps, Dropout(text=given, identity=given))
        if self.config.guidance_scale != 1.0:
            plain = self.denoiser.predict(batch, noisy, timesteps, Dropout(text=~given, identity=~given))
            velocity = plain + self.config.guidance_scale * (velocity - plain)
        # x0 from v, by symmetry of the two.
        clean: Tensor = self.denoiser.scheduler.get_velocity(velocity, noisy, timesteps)
        return clean

    def _second_step(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """What the second step of a request that starts at ``noise`` (B, F, C, H, W) gets, and its timesteps (B,)."""
        scheduler = self.denoiser.scheduler
        first, second = (torch.full((len(noise),), timestep, device=noise.device) for timestep in REQUEST_TIMESTEPS)
        guess = self.clean(batch, scheduler.add_noise(torch.zeros_like(noise), noise, first), first)
        return scheduler.add_noise(guess, noise, second), second
