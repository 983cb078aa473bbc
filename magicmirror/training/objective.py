"""The training objective of section 3.4: v-prediction, face-area loss, condition dropout, identity term."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from diffusers import CogVideoXDDIMScheduler
from torch import Tensor, nn
from transformers import CLIPVisionModel, T5EncoderModel

from magicmirror.data.face_area import template_area
from magicmirror.models.fusion import IdentityFusion
from magicmirror.models.perceiver import FacePerceiver, IdentityPerceiver
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.pipeline.conditioning import encode_faces, fuse_identity
from magicmirror.training.change_term import change_term
from magicmirror.training.config import TrainingConfig
from magicmirror.training.critic import LatentCritic, PictureCritic, critic_losses
from magicmirror.training.draws import Draws, Dropout, draw_step
from magicmirror.training.identity_loss import IdentityLoss
from magicmirror.training.motion_term import STYLE_WEIGHT, MotionTerm
from magicmirror.training.parts import WHOLE, Batch, Part, fill_patches, take
from magicmirror.training.perceptual_loss import PerceptualLoss
from magicmirror.training.tower import clip_pixels

Rotary = Callable[[int, int, int], tuple[Tensor, Tensor] | None]


class IdentityVideoObjective(nn.Module):
    """Denoising loss of the whole conditional model, or of the stock model without a face.

    Which parameters train is decided by ``requires_grad``: everything for the small profile's ``joint`` recipe, the
    adapter alone for the stages of the paper. With ``config.with_identity`` false, no face takes part: that is the
    text-to-video pretraining which CogVideoX brings along.

    Args:
        transformer: The denoiser.
        text_encoder: T5.
        image_encoder: CLIP vision tower.
        identity_perceiver: tau_id.
        face_perceiver: tau_face.
        identity_fusion: MLP_fuse.
        scheduler: Noise schedule; v-prediction with zero terminal SNR.
        empty_ids: (T,) token ids of the empty prompt.
        config: Of the run.
        rotary: Rotary table of a latent size (F, H, W); cosines and sines, or ``None`` where the model has none.
        identity_loss: The identity term, or ``None`` where it is off.
        perceptual_loss: The perceptual term, or ``None`` where it is off.
        motion_term: The motion term, or ``None`` where it is off; trained with the rest.
        critic: Judges the pictures of the perceptual term, or ``None`` where it is off; trained with the rest.
        latent_critic: Judges the predicted latents, or ``None`` where it is off; trained with the rest.
    """

    empty_ids: Tensor

    def __init__(
        self,
        transformer: MagicMirrorTransformer3DModel,
        text_encoder: T5EncoderModel,
        image_encoder: CLIPVisionModel,
        identity_perceiver: IdentityPerceiver,
        face_perceiver: FacePerceiver,
        identity_fusion: IdentityFusion,
        scheduler: CogVideoXDDIMScheduler,
        empty_ids: Tensor,
        config: TrainingConfig,
        rotary: Rotary,
        identity_loss: IdentityLoss | None = None,
        perceptual_loss: PerceptualLoss | None = None,
        motion_term: MotionTerm | None = None,
        critic: PictureCritic | None = None,
        latent_critic: LatentCritic | None = None,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder
        self.image_encoder = image_encoder
        self.identity_perceiver = identity_perceiver
        self.face_perceiver = face_perceiver
        self.identity_fusion = identity_fusion
        self.scheduler = scheduler
        self.config = config
        self.register_buffer("empty_ids", empty_ids, persistent=False)
        # In a tuple, so that the frozen recogniser and decoder are neither trained, averaged nor saved with us.
        self._terms = (identity_loss, perceptual_loss)
        self.motion_term = motion_term
        self.critic = critic
        self.latent_critic = latent_critic
        self.rotary = lru_cache(rotary)

    @property
    def untrained(self) -> tuple[str, ...]:
        """Patterns of parameter names that stay as they are: out of any loss's reach, or left out by the settings."""
        names = ["image_encoder.*post_layernorm.*"]
        if self.config.branches == "identity":
            names += ["face_perceiver.*"]
        if self.config.branches == "face":
            names += ["identity_perceiver.*", "identity_fusion.*"]
        if not self.config.with_can:
            names += ["transformer.*.adapter.can.*"]
        return tuple(names)

    def forward(self, batch: Batch, generator: torch.Generator, part: Part = WHOLE) -> dict[str, Tensor]:
        """Compute the losses of a part of a step's samples.

        Args:
            batch: ``latents`` (B, F, C, H, W) scaled; ``input_ids`` (B, T); ``positions``, B indices of the
                person word's last token; ``crops`` (B, S, S, 3) uint8 RGB and ``embeddings`` (B, E) of the references;
                ``target_embeddings`` (B, E) where the identity term is on; ``face_areas`` (B, F, H, W) in [0, 1] and
                ``eyes`` (B, 4) in the first frame where the data knows them, in place of the head template's; ``poses``
                (B, F, P) where the motion or the change term is on, and ``styles`` (B,) where the motion term is.
            generator: Source of all randomness of the step.
            part: Which of the step's samples these are.

        Returns:
            ``loss`` to minimise, ``noise`` the plain denoising loss, ``identity``, ``perceptual``, ``fooled`` and
            ``told`` (``critic_losses``), ``motion``, ``style``, ``change``, ``latents_fooled`` and ``latents_told``
            where these terms are on. Their means over equal parts are those of the whole step.
        """
        batch = fill_patches(batch, self.transformer.config.patch_size_t or 1)
        latents = batch["latents"]
        draws = draw_step(latents, self.scheduler.config.num_train_timesteps, self.config, generator, part)
        noisy = self.scheduler.add_noise(latents, draws.noise, draws.timesteps)
        target = self.scheduler.get_velocity(latents, draws.noise, draws.timesteps)
        if bool(draws.unrolled.any()):
            noisy, target = self.unroll(batch, noisy, target, draws)
        prediction = self.predict(batch, noisy, draws.timesteps, draws.dropout)

        squared = (prediction - target).square()
        everywhere = squared.mean((1, 2, 3, 4))
        in_face = _mean_in(squared, batch.get("face_areas"))
        losses = {"noise": everywhere.mean().detach(), "loss": torch.where(draws.in_face, in_face, everywhere).mean()}
        clean = self.scheduler.get_velocity(prediction, noisy, draws.timesteps)  # x0 from v, by symmetry of the two
        identity_loss, perceptual_loss = self._terms
        if identity_loss is not None and self.config.identity_loss > 0:
            kept = draws.identity_kept
            term = identity_loss(clean, batch["target_embeddings"], kept, batch.get("eyes")) * draws.identity_weight
            losses["loss"] = losses["loss"] + self.config.identity_loss * term
            losses["identity"] = term.detach()
        if perceptual_loss is not None and self.config.perceptual_loss > 0:
            terms = self._picture_terms(perceptual_loss, clean, latents, draws, generator, part)
            weights = {"perceptual": self.config.perceptual_loss, "fooled": self.config.critic_weight, "told": 1.0}
            for name, term in terms.items():
                losses["loss"] = losses["loss"] + weights[name] * draws.perceptual_weight * term
                losses[name] = draws.perceptual_weight * term.detach()
        if self.motion_term is not None:
            motion, style = self.motion_term(batch["poses"], batch["styles"], ~draws.dropout.text)
            losses["loss"] = losses["loss"] + self.config.motion_loss * (motion + STYLE_WEIGHT * style)
            losses["motion"], losses["style"] = motion.detach(), style.detach()
        if self.config.change_loss > 0:
            term = change_term(clean, latents, batch["poses"], ~draws.dropout.text)
            losses["loss"] = losses["loss"] + self.config.change_loss * term
            losses["change"] = term.detach()
        if self.latent_critic is not None:
            total = part.of_all(latents)
            # After all other draws, which are then those of a run without it.
            nudges = torch.randn((total, 2, *latents.shape[1:]), generator=generator)[part.rows(total)]
            fooled, told = critic_losses(self.latent_critic, clean, latents.float(), nudges.to(clean.device))
            losses["loss"] = losses["loss"] + self.config.latent_critic_weight * fooled + told
            losses["latents_fooled"], losses["latents_told"] = fooled.detach(), told.detach()
        return losses

    def _picture_terms(
        self,
        perceptual_loss: PerceptualLoss,
        clean: Tensor,
        latents: Tensor,
        draws: Draws,
        generator: torch.Generator,
        part: Part,
    ) -> dict[str, Tensor]:
        """Means over the pictures of this part's kept samples; all zero where none is kept."""
        kept = draws.perceptual_kept
        if not bool(kept.any()):
            terms = {"perceptual": clean.new_zeros(())}
            if self.critic is not None:
                # Every process needs a gradient for every weight, or they would wait for each other.
                nothing = torch.stack([parameter.sum() for parameter in self.critic.parameters()]).sum() * 0.0
                terms |= {"fooled": clean.new_zeros(()), "told": nothing}
            return terms
        made, wanted = perceptual_loss.pictures(clean, latents, draws.frames, kept)
        terms = {"perceptual": perceptual_loss.distance(made, wanted)}
        if self.critic is not None:
            total = part.of_all(latents)
            noise = torch.randn((total, 2, *made.shape[1:]), generator=generator)[part.rows(total)].to(made.device)
            terms["fooled"], terms["told"] = critic_losses(self.critic, made, wanted, noise[kept])
        return terms

    def unroll(self, batch: Batch, noisy: Tensor, target: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Put what the model meets in the second of two steps into some samples: noise on its own first prediction.

        On noise over real latents the model learns to finish a picture that is right; in a request it has to mend one
        of its own, in which a head that turns is drawn at both places. As in step-unrolled denoising (arXiv
        2112.06749) the first prediction gets no gradient, and the second is to come out at the clean latents all
        the same.

        Args:
            batch: As ``forward`` takes it.
            noisy: (B, F, C, H, W) clean latents with noise.
            target: (B, F, C, H, W) velocities.
            draws: Of the step.

        Returns:
            Both, changed where ``draws.unrolled`` says so.
        """
        rows = draws.unrolled.nonzero().squeeze(1)
        noise, latents = draws.noise[rows], batch["latents"][rows]
        given = take(batch, rows.tolist())
        dropout = Dropout(*(which[rows] for which in draws.dropout))
        first = torch.full_like(draws.timesteps[rows], self.scheduler.config.num_train_timesteps - 1)
        with torch.no_grad():
            start = self.scheduler.add_noise(torch.zeros_like(noise), noise, first)
            guess = self.scheduler.get_velocity(self.predict(given, start, first, dropout), start, first)
        second = draws.timesteps[rows]
        mixed = self.scheduler.add_noise(guess, noise, second)
        kept = self.scheduler.alphas_cumprod.to(mixed)[second][:, None, None, None, None]
        noisy, target = noisy.clone(), target.clone()
        # The velocity from which ``kept.sqrt() * mixed - (1 - kept).sqrt() * velocity`` is the clean latents.
        noisy[rows], target[rows] = mixed, (kept.sqrt() * mixed - latents) / (1 - kept).sqrt()
        return noisy, target

    def predict(self, batch: Batch, noisy: Tensor, timesteps: Tensor, dropout: Dropout) -> Tensor:
        """Predict the velocity (B, F, C, H, W) in float32.

        Args:
            batch: Conditions, as ``forward`` takes them.
            noisy: (B, F, C, H, W) scaled latents with noise.
            timesteps: (B,).
            dropout: Which samples lose which condition.
        """
        identity = {}
        if self.config.with_identity:
            text, identity["identity_tokens"], identity["face_tokens"] = self.encode_conditions(batch, dropout)
        else:
            text = self._encode_text(batch, dropout)
        frames, _, height, width = noisy.shape[1:]
        prediction: Tensor = self.transformer(
            hidden_states=noisy.to(self.transformer.patch_embed.proj.weight.dtype),
            encoder_hidden_states=text,
            timestep=timesteps,
            image_rotary_emb=self.rotary(frames, height, width),
            return_dict=False,
            **identity,
        )[0]
        return prediction.float()

    def _encode_text(self, batch: Batch, dropout: Dropout) -> Tensor:
        ids = torch.where(dropout.text[:, None], self.empty_ids, batch["input_ids"])
        text: Tensor = self.text_encoder(ids)[0]
        return text

    def encode_conditions(self, batch: Batch, dropout: Dropout) -> tuple[Tensor, Tensor, Tensor]:
        """Text (B, T, D_txt) fused with the identity, ID tokens (B, K, D_id), face tokens (B, N, D)."""
        rows = batch["input_ids"].shape[0]
        text = self._encode_text(batch, dropout)
        identity_tokens, face_tokens = encode_faces(
            self.image_encoder,
            self.identity_perceiver,
            self.face_perceiver,
            clip_pixels(batch["crops"]),
            batch["embeddings"],
        )
        fused = fuse_identity(self.identity_fusion, identity_tokens, text, batch["positions"])
        null_identity, null_face = self.transformer.null_identity(rows)
        dropped = dropout.identity[:, None, None]
        no_identity = dropped | (self.config.branches == "face")
        no_face = dropped | (self.config.branches == "identity")
        return (
            torch.where(no_identity, text, fused.to(text.dtype)),
            torch.where(no_identity, null_identity.to(identity_tokens.dtype), identity_tokens),
            torch.where(no_face, null_face.to(face_tokens.dtype), face_tokens),
        )


def _mean_in(squared: Tensor, areas: Tensor | None) -> Tensor:
    """Mean of (B, F, C, H, W) over the face area of each sample, (B,)."""
    frames, channels, height, width = squared.shape[1:]
    if areas is None:
        areas = template_area(frames, height, width).expand(len(squared), -1, -1, -1)
    weights = areas.to(squared)
    return (squared * weights[:, :, None]).sum((1, 2, 3, 4)) / (weights.sum((1, 2, 3)).clamp(min=1.0) * channels)
