"""Reconstruction training of the VAE on raw stills and clips, through its temporal part too.

The loss is the sum of these terms, none of which needs a downloaded network: the mean absolute error of the pixels; the
same of their edges (differences of neighbours in space and time) on three scales, which is what the eye asks for and
the pixel error forgives, a blurred outline or a flicker; the divergence of the posterior from the normal distribution;
and the texture term. What 64 cells of latents cannot hold, as every single hair, the first two terms answer with their
mean, which is smooth; the texture term asks for as much fine detail in each place as there was, wherever it lies. It
asks each direction and scale apart: of the Laplacian alone a fine checkerboard has the most, and a decoder draws one.

With ``train_encoder`` off the decoder learns alone: latents keep their meaning, so a denoiser stays as good as it was.
With ``anchor_weight`` the encoder learns too, and is held near the latents that it made at first: what they leave out
(falling snow) can come in without the denoiser having to learn all the rest anew.
With ``PredictedLatents`` it learns on what that denoiser predicts, rather than on latents of real pictures; there the
perceptual term of the denoiser's own training keeps the face a face that the recogniser knows, and a critic
(``critic.py``) may ask for pictures that look like photos.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor, nn
from torch.nn import functional

from magicmirror.training.config import TrainingConfig
from magicmirror.training.critic import PictureCritic, critic_losses, fresh_critic
from magicmirror.training.parts import WHOLE, Batch, Part
from magicmirror.training.perceptual_loss import PictureDistance
from magicmirror.training.predicted_latents import PredictedLatents

SCALES = 3
JUDGED_FRAMES = 4
"""Frames of a clip that the critic looks at."""
TEXTURE_SCALES = 2
TEXTURE_WINDOW = 8
# The three details of the Haar wavelet: along the width, along the height, and across both.
_HAAR = (((1.0, -1.0), (1.0, -1.0)), ((1.0, 1.0), (-1.0, -1.0)), ((1.0, -1.0), (-1.0, 1.0)))


class VaeObjective(nn.Module):
    """Loss of an autoencoder.

    Args:
        vae: Trained.
        config: Of the run; ``edge_weight``, ``kl_weight`` and ``texture_weight`` are the weights of the last terms.
        predict: Puts the denoiser's latents in the place of the posterior's sample; ``None`` decodes the sample.
        distance: The perceptual term on one frame of each sample, ``config.perceptual_loss`` its weight; ``None``
            leaves it out.

    With ``config.critic_weight`` above 0 a critic is made and learns with the VAE; it is left behind by it.
    """

    def __init__(
        self,
        vae: AutoencoderKLCogVideoX,
        config: TrainingConfig,
        predict: PredictedLatents | None = None,
        distance: PictureDistance | None = None,
    ) -> None:
        super().__init__()
        self.vae = vae
        self.config = config
        # In a tuple, so that the frozen copy is neither trained, averaged nor saved with us.
        self._first = (copy.deepcopy(vae).requires_grad_(False).eval(),) if config.anchor_weight > 0 else ()
        self._predict = predict
        self._distance = distance
        self.critic = fresh_critic(config.seed) if config.critic_weight > 0 else None

    @property
    def untrained(self) -> tuple[str, ...]:
        """Patterns of parameters that stay as they are."""
        return () if self.config.train_encoder else ("vae.encoder.*", "vae.quant_conv.*")

    def forward(self, batch: Batch, generator: torch.Generator, part: Part = WHOLE) -> dict[str, Tensor]:
        """Compute the losses of a part of a step's samples.

        Args:
            batch: ``pixels`` (B, F, H, W, 3) uint8 RGB, F = 8 n + 1: latent frames are
                decoded in pairs after the first; for predicted latents also their conditions.
            generator: Of the posterior's sample, noise and timesteps of predicted latents, the frames that perceptual
                term and critic look at, and the critic's noise.
            part: Which of the step's samples these are.

        Returns:
            ``loss`` to minimise; its terms without their weights: ``pixel``, ``edge``, ``divergence``, ``texture`` and,
            where they are on, ``perceptual``, ``anchor``, ``fooled`` and ``told`` (``critic_losses``).
        """
        clips = as_clips(batch["pixels"])
        with torch.set_grad_enabled(self.config.train_encoder and torch.is_grad_enabled()):
            posterior = self.vae.encode(clips).latent_dist
        mean, std = posterior.mean.float(), posterior.std.float()
        total = part.of_all(mean)
        noise = torch.randn((total, *mean.shape[1:]), generator=generator)[part.rows(total)]
        latents = mean + std * noise.to(mean.device)
        if self._predict is not None:
            latents = self._predict(latents, batch, generator, part)
        decoded = self.vae.decode(latents.to(clips.dtype)).sample.float()

        pixel = (decoded - clips).abs().mean()
        edge = edge_error(decoded, clips)
        divergence = 0.5 * (mean.square() + std.square() - 2 * std.log() - 1).mean()
        texture = texture_error(decoded, clips)
        loss = pixel + self.config.edge_weight * edge + self.config.kl_weight * divergence
        loss = loss + self.config.texture_weight * texture
        terms = {"pixel": pixel, "edge": edge, "divergence": divergence, "texture": texture}
        for first_vae in self._first:
            with torch.no_grad():
                first = first_vae.encode(clips.to(first_vae.dtype)).latent_dist.mean.float()
            # In the denoiser's units.
            terms["anchor"] = (mean - first).square().mean() * self.vae.config.scaling_factor**2
            loss = loss + self.config.anchor_weight * terms["anchor"]
        if self._distance is not None:
            frames = torch.randint(clips.size(2), (total,), generator=generator)[part.rows(total)]
            rows = torch.arange(len(frames))
            terms["perceptual"] = self._distance(decoded[rows, :, frames], clips[rows, :, frames])
            loss = loss + self.config.perceptual_loss * terms["perceptual"]
        if self.critic is not None:
            terms["fooled"], terms["told"] = self._judge(self.critic, decoded, clips, total, generator, part)
            loss = loss + self.config.critic_weight * terms["fooled"] + terms["told"]
        return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}

    def _judge(
        self, critic: PictureCritic, decoded: Tensor, clips: Tensor, total: int, generator: torch.Generator, part: Part
    ) -> tuple[Tensor, Tensor]:
        """The critic's losses on a few frames of each clip, (B, 3, F, H, W) both; the draws are those of the step."""
        own, count = part.rows(total), min(JUDGED_FRAMES, clips.size(2))
        frames = torch.rand(total, clips.size(2), generator=generator).argsort(1)[own, :count].to(clips.device)
        noise = torch.randn((total, 2, count, *clips[0, :, 0].shape), generator=generator)[own].to(clips.device)
        rows = torch.arange(len(frames), device=clips.device)[:, None]
        made, photos = (each.transpose(1, 2)[rows, frames].flatten(0, 1) for each in (decoded, clips))
        return critic_losses(critic, made, photos, noise.transpose(0, 1).flatten(0, 2))


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


def texture_error(clips: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of local detail: root mean squares of Haar's three details in windows of 8 x 8.

    Args:
        clips: (B, 3, F, H, W).
        wanted: Of the same shape.

    Returns:
        Mean over windows, details and the two scales.
    """
    made, asked = (each.mean(1).flatten(0, 1)[:, None] for each in (clips, wanted))
    errors = []
    for _ in range(TEXTURE_SCALES):
        errors.append((_detail(made) - _detail(asked)).abs().mean())
        if min(made.shape[-2:]) < 4:
            break
        made, asked = functional.avg_pool2d(made, 2), functional.avg_pool2d(asked, 2)
    return torch.stack(errors).mean()


def _detail(grey: Tensor) -> Tensor:
    """Strength of the details of grey pictures (N, 1, H, W), (N, 3, h, w)."""
    energy = functional.conv2d(grey, grey.new_tensor(_HAAR)[:, None] / 2).square()
    window = min(TEXTURE_WINDOW, *energy.shape[-2:])
    # The root of zero has no derivative.
    return (functional.avg_pool2d(energy, window, max(1, window // 2)) + 1e-6).sqrt()


def _differences(clips: Tensor) -> Iterator[Tensor]:
    """Differences along each of F, H and W that has more than one entry."""
    return (clips.diff(dim=dim) for dim in (2, 3, 4) if clips.size(dim) > 1)
