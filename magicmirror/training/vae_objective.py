"""Reconstruction training of the VAE on raw stills and clips, through its temporal part too.

The loss is the sum of the mean absolute error of the pixels, the divergence of the posterior from the normal
distribution, and the terms of ``reconstruction.py``, none of which needs a downloaded network.

With ``train_encoder`` off the decoder learns alone: latents keep their meaning, so a denoiser stays as good as it was.
With ``anchor_weight`` the encoder learns too, and is held near the latents that it made at first: what they leave out
(falling snow) can come in without the denoiser having to learn all the rest anew.
With ``PredictedLatents`` it learns on what that denoiser predicts, rather than on latents of real pictures; there the
perceptual term of the denoiser's own training keeps the face a face that the recogniser knows, and a critic
(``critic.py``) may ask for pictures that look like photos. Of samples that are requests no picture is at hand, and the
critic is all that judges them.
"""

from __future__ import annotations

import copy

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor, nn

from magicmirror.media.optical_flow import dense_flow, grey_frames
from magicmirror.training.config import TrainingConfig
from magicmirror.training.critic import PictureCritic, critic_losses
from magicmirror.training.parts import WHOLE, Batch, Part
from magicmirror.training.perceptual_loss import PictureDistance
from magicmirror.training.predicted_latents import PredictedLatents
from magicmirror.training.reconstruction import (
    brought_back,
    change_error,
    edge_error,
    texture_error,
    warping_error,
)
from magicmirror.training.schedule import from_seed

JUDGED_FRAMES = 4
"""Frames of a clip that the critic looks at, each with the one that follows."""


class VaeObjective(nn.Module):
    """Loss of an autoencoder.

    Args:
        vae: Trained.
        config: Of the run; ``edge_weight``, ``kl_weight``, ``texture_weight``, ``moving_weight`` and ``warping_weight``
            are the weights of the terms.
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
        judges = config.critic_weight > 0
        self.critic = from_seed(config.seed, lambda: PictureCritic(num_frames=2)) if judges else None

    @property
    def untrained(self) -> tuple[str, ...]:
        """Patterns of parameters that stay as they are."""
        return () if self.config.train_encoder else ("vae.encoder.*", "vae.quant_conv.*")

    def forward(self, batch: Batch, generator: torch.Generator, part: Part = WHOLE) -> dict[str, Tensor]:
        """Compute the losses of a part of a step's samples.

        Args:
            batch: ``pixels`` (B, F, H, W, 3) uint8 RGB, F = 8 n + 1: latent frames are
                decoded in pairs after the first; ``flow`` (B, F - 1, H, W, 2) where the warping term or the critic is
                on, see ``warping_error``; for predicted latents also their conditions.
            generator: Of the posterior's sample, noise and timesteps of predicted latents, the frames that perceptual
                term and critic look at, and the critic's noise.
            part: Which of the step's samples these are.

        Returns:
            ``loss`` to minimise; its terms without their weights: ``pixel``, ``edge``, ``divergence``, ``texture`` and,
            where they are on, ``change``, ``warping``, ``perceptual``, ``anchor``, ``fooled`` and ``told``
            (``critic_losses``).
        """
        photos = as_clips(batch["pixels"])
        with torch.set_grad_enabled(self.config.train_encoder and torch.is_grad_enabled()):
            posterior = self.vae.encode(photos).latent_dist
        mean, std = posterior.mean.float(), posterior.std.float()
        total = part.of_all(mean)
        noise = torch.randn((total, *mean.shape[1:]), generator=generator)[part.rows(total)]
        latents, requested = mean + std * noise.to(mean.device), torch.zeros(len(photos), dtype=torch.bool)
        if self._predict is not None:
            latents, requested = self._predict(latents, batch, generator, part)
        decoded = self.vae.decode(latents.to(photos.dtype)).sample.float()
        # No term but the critic's has anything to ask of what was requested.
        clips = torch.where(requested.to(photos.device)[:, None, None, None, None], decoded.detach(), photos)

        terms = self._differences(decoded, clips, batch)
        terms["divergence"] = 0.5 * (mean.square() + std.square() - 2 * std.log() - 1).mean()
        for first_vae in self._first:
            with torch.no_grad():
                first = first_vae.encode(photos.to(first_vae.dtype)).latent_dist.mean.float()
            # In the denoiser's units.
            terms["anchor"] = (mean - first).square().mean() * self.vae.config.scaling_factor**2
        if self._distance is not None:
            frames = torch.randint(clips.size(2), (total,), generator=generator)[part.rows(total)]
            rows = torch.arange(len(frames))
            terms["perceptual"] = self._distance(decoded[rows, :, frames], clips[rows, :, frames])
        if self.critic is not None:
            flow = batch["flow"].to(clips.device)
            flows = _own_flow(decoded, flow, requested), flow
            judged = self._judge(self.critic, (decoded, photos), flows, total, generator, part)
            terms["fooled"], terms["told"] = judged
        weights = self._weights()
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}

    def _differences(self, decoded: Tensor, clips: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The terms that compare clips (B, 3, F, H, W) pixel by pixel or place by place."""
        terms = {
            "pixel": (decoded - clips).abs().mean(),
            "edge": edge_error(decoded, clips),
            "texture": texture_error(decoded, clips),
        }
        if self.config.moving_weight > 0:
            terms["change"] = change_error(decoded, clips)
        if self.config.warping_weight > 0:
            terms["warping"] = warping_error(decoded, clips, batch["flow"].to(clips.device))
        return terms

    def _weights(self) -> dict[str, float]:
        """Of the terms."""
        config = self.config
        return {
            "pixel": 1.0,
            "edge": config.edge_weight,
            "divergence": config.kl_weight,
            "texture": config.texture_weight,
            "change": config.moving_weight,
            "warping": config.warping_weight,
            "anchor": config.anchor_weight,
            "perceptual": config.perceptual_loss,
            "fooled": config.critic_weight,
            "told": 1.0,
        }

    def _judge(
        self,
        critic: PictureCritic,
        clips: tuple[Tensor, Tensor],
        flows: tuple[Tensor, Tensor],
        total: int,
        generator: torch.Generator,
        part: Part,
    ) -> tuple[Tensor, Tensor]:
        """The critic's losses on a few frames of each clip, decoded and real; the draws are those of the step."""
        num_frames, own = clips[0].size(2), part.rows(total)
        starts = max(1, num_frames - 1)
        count = min(JUDGED_FRAMES, starts)
        frames = torch.rand(total, starts, generator=generator).argsort(1)[own, :count].to(clips[0].device)
        made, photos = (_pairs(clip, flow, frames) for clip, flow in zip(clips, flows, strict=True))
        noise = torch.randn((total, count, 2, *made.shape[1:]), generator=generator)[own].to(made.device)
        return critic_losses(critic, made, photos, noise.flatten(0, 1))


def _pairs(clips: Tensor, flow: Tensor, frames: Tensor) -> Tensor:
    """Frames of clips (B, 3, F, H, W) and at their places those that follow, (B K, 6, H, W) for ``frames`` (B, K).

    Where the flow (B, F - 1, H, W, 2) leaves the picture, and in a still, nothing follows but the frame itself.
    """
    rows = torch.arange(len(frames), device=clips.device)[:, None]
    first = clips.transpose(1, 2)[rows, frames].flatten(0, 1)
    if clips.size(2) == 1:
        return torch.cat([first, first], dim=1)
    following, inside = brought_back(
        clips.transpose(1, 2)[rows, frames + 1].flatten(0, 1), flow[rows, frames].flatten(0, 1)
    )
    return torch.cat([first, torch.where(inside[:, None], following, first)], dim=1)


@torch.no_grad()
def _own_flow(clips: Tensor, flow: Tensor, rows: Tensor) -> Tensor:
    """The flow (B, F - 1, H, W, 2) with that of the clips (B, 3, F, H, W) themselves in some rows."""
    flow = flow.clone()
    for row in rows.nonzero().flatten().tolist():
        flow[row] = torch.from_numpy(dense_flow(grey_frames(as_pixels(clips[row : row + 1])[0].cpu().numpy())))
    return flow


def as_clips(pixels: Tensor) -> Tensor:
    """Turn (B, F, H, W, 3) uint8 into what the VAE takes: (B, 3, F, H, W) float32 in [-1, 1]."""
    return pixels.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def as_pixels(clips: Tensor) -> Tensor:
    """Turn (B, 3, F, H, W) in about [-1, 1] into (B, F, H, W, 3) uint8: the way back of ``as_clips``."""
    return ((clips.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 4, 1)
