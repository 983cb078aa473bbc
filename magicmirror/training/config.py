"""What a training run depends on; saved beside every checkpoint and compared with it when a run goes on."""

from __future__ import annotations

from dataclasses import dataclass

from magicmirror.errors import ConfigError

COUNTS = (
    "max_steps",
    "image_batch",
    "clip_batch",
    "falling_copies",
    "checkpoint_steps",
    "keep_checkpoints",
    "log_steps",
)
"""Settings of which there is at least one."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one run of the trainer.

    Args:
        name: Name of the recipe.
        preset: Preset of the networks.
        max_steps: Optimiser steps.
        learning_rate: Peak learning rate.
        warmup_steps: Steps of linear warm-up.
        decay_steps: Last steps over which the rate falls to a hundredth along a cosine.
        image_batch: Stills a step, over all processes, when the step is one of stills.
        clip_batch: Clips a step, over all processes, when the step is one of clips.
        clip_share: Share of steps that take clips, in [0, 1].
        falling_share: Where a recipe renders its pictures itself, the share of them with snow or rain, which an encoder
            loses first; the others have any style.
        falling_copies: Where pictures come from shards, how often as often as others those with snow or rain are taken.
        strata_balance: Exponent in [0, 1] by which rows of a small stratum of the shards are taken more often
            (``BatchOrder``): 0 takes all rows equally often, 1 all strata.
        micro_batch: Samples that one process takes at once, at most; their gradients are accumulated to the step's
            batch. 0 takes a process's whole share at once.
        gradient_checkpointing: Compute activations again in the backward pass rather than keep them.
        weight_decay: Of AdamW.
        grad_clip: Largest norm of the gradient.
        ema_decay: Of the weights that are kept.
        with_identity: Whether the denoiser sees a face; without, it is the stock text-to-video model.
        branches: Which identity branches take part: ``both``, ``identity`` (tau_id and its fusion alone) or ``face``
            (tau_face alone). The other one's tokens are the learned null tokens, for the ablation of Table 3.
        with_can: Whether the residual of Eq. 7 is trained; it starts at zero, so an adapter that never trains it has
            none. The other half of the ablation.
        drop_all: Share of samples that lose text and identity (paper.md, decision 4).
        drop_identity: Further share that loses the identity alone.
        face_loss_share: Share of samples whose loss is taken in the face area only (section 3.4).
        high_noise_share: Share of samples whose timestep is drawn from ``high_noise_from`` on, where only the reference
            says what to draw; the others are drawn uniformly.
        high_noise_from: First timestep of that range, in [0, 1000).
        unrolled_share: Share of samples that get noise on the model's own first prediction, as the second step of a
            request does, rather than on the clean latents (``IdentityVideoObjective.unroll``).
        identity_loss: Weight lambda of the identity term (section 3.4); 0 leaves it out.
        identity_loss_below: Timestep below which the identity term applies, in [0, 1000].
        identity_loss_samples: Samples a step that the identity term looks at, at most; decoding is what it costs.
        perceptual_loss: Weight of the perceptual term on decoded frames (``perceptual_loss.py``); 0 leaves it out.
        perceptual_loss_samples: Samples a step that it looks at, at most.
        motion_loss: Weight of the motion term (``motion_term.py``); 0 leaves it out.
        change_loss: Weight of the change term (``change_term.py``); 0 leaves it out.
        edge_weight: Of the edge term in the loss of the VAE.
        kl_weight: Of the divergence in the loss of the VAE.
        texture_weight: Of the texture term in the loss of the VAE.
        moving_weight: Of the change term in the loss of the VAE (``reconstruction.change_error``); 0 leaves it out.
        warping_weight: Of the warping term in the loss of the VAE; 0 leaves it out.
        critic_weight: Of the critic's verdict (``critic.py``) in the loss of the VAE, or on the pictures of the
            perceptual term; 0 leaves the critic out.
        latent_critic_weight: Of the verdict of a critic of the predicted latents in the loss of the denoiser; 0 leaves
            that critic out.
        anchor_weight: Of the squared distance, in the loss of the VAE, of its latents from those that it made at first.
        train_encoder: Whether the VAE's encoder learns too; if not, latents keep their meaning.
        predicted_from: First timestep, in [0, 1000), of the noise out of which the denoiser predicts the latents that a
            decoder learns on (``predicted_latents.py``).
        predicted_below: End of that range, in (``predicted_from``, 1000]; of stronger noise than the last step of a
            request has, another picture would come out than the one that is asked for.
        predicted_share: Share of its samples that are predicted; the others are latents of the pictures themselves,
            in which a smile has its full size.
        requested_share: Share of them that is a whole request from pure noise instead, in the preview's two steps; the
            critic alone can judge it.
        guidance_scale: Of these predictions; 1 is without guidance.
        seed: Of noise, timesteps, dropout and data order.
        checkpoint_steps: Steps between checkpoints.
        keep_checkpoints: How many to keep.
        log_steps: Steps between log lines.
        validation_steps: Steps between validation pictures and videos; 0 makes none.
        mixed_precision: ``no`` or ``bf16``; float32 weights train without on a device that would have to emulate it.

    Raises:
        ConfigError: When a value cannot work.
    """

    name: str
    preset: str
    max_steps: int
    learning_rate: float
    warmup_steps: int = 200
    decay_steps: int = 0
    image_batch: int = 32
    clip_batch: int = 8
    clip_share: float = 0.0
    falling_share: float = 0.0
    falling_copies: int = 1
    strata_balance: float = 0.5
    micro_batch: int = 0
    gradient_checkpointing: bool = False
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    ema_decay: float = 0.999
    with_identity: bool = True
    branches: str = "both"
    with_can: bool = True
    drop_all: float = 0.10
    drop_identity: float = 0.05
    face_loss_share: float = 0.5
    high_noise_share: float = 0.0
    high_noise_from: int = 700
    unrolled_share: float = 0.0
    identity_loss: float = 0.0
    identity_loss_below: int = 500
    identity_loss_samples: int = 8
    perceptual_loss: float = 0.0
    perceptual_loss_samples: int = 4
    motion_loss: float = 0.0
    change_loss: float = 0.0
    edge_weight: float = 1.0
    kl_weight: float = 1e-4
    texture_weight: float = 0.0
    moving_weight: float = 0.0
    warping_weight: float = 0.0
    critic_weight: float = 0.0
    latent_critic_weight: float = 0.0
    anchor_weight: float = 0.0
    train_encoder: bool = True
    predicted_from: int = 300
    predicted_below: int = 800
    predicted_share: float = 1.0
    requested_share: float = 0.0
    guidance_scale: float = 1.0
    seed: int = 0
    checkpoint_steps: int = 500
    keep_checkpoints: int = 2
    log_steps: int = 50
    validation_steps: int = 0
    mixed_precision: str = "bf16"

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        for name in COUNTS:
            self._check(name, getattr(self, name) >= 1, "be at least 1")
        for name in ("learning_rate", "grad_clip"):
            self._check(name, 0 < getattr(self, name) < float("inf"), "be positive")
        for name in (
            "warmup_steps",
            "decay_steps",
            "micro_batch",
            "validation_steps",
            "identity_loss_samples",
            "perceptual_loss_samples",
            "seed",
        ):
            self._check(name, getattr(self, name) >= 0, "not be negative")
        for name in (
            "weight_decay",
            "identity_loss",
            "perceptual_loss",
            "motion_loss",
            "change_loss",
            "edge_weight",
            "kl_weight",
            "texture_weight",
            "moving_weight",
            "warping_weight",
            "critic_weight",
            "latent_critic_weight",
            "anchor_weight",
        ):
            self._check(name, 0 <= getattr(self, name) < float("inf"), "not be negative")
        for name in (
            "clip_share",
            "falling_share",
            "strata_balance",
            "high_noise_share",
            "unrolled_share",
            "drop_all",
            "drop_identity",
            "face_loss_share",
            "predicted_share",
            "requested_share",
        ):
            self._check(name, 0 <= getattr(self, name) <= 1, "lie in [0, 1]")
        self._check("ema_decay", 0 <= self.ema_decay < 1, "lie in [0, 1)")
        self._check("high_noise_from", 0 <= self.high_noise_from < 1000, "lie in [0, 1000)")
        self._check("predicted_from", 0 <= self.predicted_from < 1000, "lie in [0, 1000)")
        self._check("predicted_below", self.predicted_from < self.predicted_below <= 1000, "lie above predicted_from")
        self._check("guidance_scale", 1 <= self.guidance_scale < float("inf"), "be at least 1")
        self._check("identity_loss_below", 0 <= self.identity_loss_below <= 1000, "lie in [0, 1000]")
        self._check("branches", self.branches in ("both", "identity", "face"), "be 'both', 'identity' or 'face'")
        if self.motion_loss > 0:
            # The heads keep outputs of blocks, and a checkpointed block computes its output a second time.
            self._check("gradient_checkpointing", not self.gradient_checkpointing, "be off with the motion term")
        self._check("mixed_precision", self.mixed_precision in ("no", "bf16"), "be 'no' or 'bf16'")

    def _check(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ConfigError(f"{name} must {rule}, got {getattr(self, name)!r}.")
