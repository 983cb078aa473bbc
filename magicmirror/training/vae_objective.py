"""Reconstruction training of the VAE on raw stills and clips, through its temporal part too.

The loss is the sum of three terms, none of which needs a downloaded network: the mean absolute error of the pixels; the
same of their edges (differences of neighbours in space and time) on three scales, which is what the eye asks for and
the pixel error forgives, a blurred outline or a flicker; and the divergence of the posterior from the normal
distribution.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor, nn
from torch.nn import functional

from magicmirror.training.config import TrainingConfig
from magicmirror.training.parts import WHOLE, Batch, Part

SCALES = 3


class VaeObjective(nn.Module):
    """Loss of an autoencoder.

    Args:
        vae: Trained.
        config: Of the run; ``edge_weight`` and ``kl_weight`` are the weights of the last two terms.
    """

    def __init__(self, vae: AutoencoderKLCogVideoX, config: TrainingConfig) -> None:
        super().__init__()
        self.vae = vae
        self.config = config

    def forward(self, batch: Batch, generator: torch.Generator, part: Part = WHOLE) -> dict[str, Tensor]:
        """Compute the losses of a part of a step's samples.

        Args:
            batch: ``pixels`` (B, F, H, W, 3) uint8 RGB, F = 8 n + 1: latent frames are
                decoded in pairs after the first.
            generator: Of the posterior's sample.
            part: Which of the step's samples these are.

        Returns:
            ``loss`` to minimise; ``pixel``, ``edge`` and ``divergence``, its terms without their weights.
        """
        clips = as_clips(batch["pixels"])
        posterior = self.vae.encode(clips).latent_dist
        mean, std = posterior.mean.float(), posterior.std.float()
        total = part.of_all(mean)
        noise = torch.randn((total, *mean.shape[1:]), generator=generator)[part.rows(total)]
        decoded = self.vae.decode((mean + std * noise.to(mean.device)).to(clips.dtype)).sample.float()

        pixel = (decoded - clips).abs().mean()
        edge = edge_error(decoded, clips)
        divergence = 0.5 * (mean.square() + std.square() - 2 * std.log() - 1).mean()
        loss = pixel + self.config.edge_weight * edge + self.config.kl_weight * divergence
        terms = {"pixel": pixel, "edge": edge, "divergence": divergence}
        return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}


def as_clips(pixels: Tensor) -> Tensor:
    """Turn (B, F, H, W, 3) uint8 into what the VAE takes: (B, 3, F, H, W) float32 in [-1, 1]."""
    return pixels.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def edge_error(clips: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error of differences between neighbours in time, height and width, mean over scales.

    Args:
        clips: (B, 3, F, H, W).
        wanted: Of the same shape.
    """
    error = clips - wanted
    errors = []
    for _ in range(SCALES):
        errors += [difference.abs().mean() for difference in _differences(error)]
        if min(error.shape[-2:]) < 4:
            break
        error = functional.avg_pool3d(error, (1, 2, 2))
    return torch.stack(errors).mean()


def _differences(clips: Tensor) -> Iterator[Tensor]:
    """Differences along each of F, H and W that has more than one entry."""
    return (clips.diff(dim=dim) for dim in (2, 3, 4) if clips.size(dim) > 1)
