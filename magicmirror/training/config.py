"""What a training run depends on; saved beside every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from magicmirror.errors import ConfigError


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
        image_batch: Stills a step, when the step is one of stills.
        clip_batch: Clips a step, when the step is one of clips.
        clip_share: Share of steps that take clips, in [0, 1].
        weight_decay: Of AdamW.
        grad_clip: Largest norm of the gradient.
        ema_decay: Of the weights that are kept.
        drop_all: Share of samples that lose text and identity (paper.md, decision 4).
        drop_identity: Further share that loses the identity alone.
        face_loss_share: Share of samples whose loss is taken in the face area only (section 3.4).
        high_noise_share: Share of samples whose timestep is drawn from ``high_noise_from`` on, where only the reference
            says what to draw; the others are drawn uniformly.
        high_noise_from: First timestep of that range.
        identity_loss: Weight lambda of the identity term (section 3.4); 0 leaves it out.
        identity_loss_below: Timestep below which the identity term applies, in [0, 1000].
        identity_loss_samples: Samples a step that the identity term looks at, at most; decoding is what it costs.
        seed: Of noise, timesteps, dropout and data order.
        checkpoint_steps: Steps between checkpoints.
        keep_checkpoints: How many to keep.
        mixed_precision: ``no`` or ``bf16``.
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
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    ema_decay: float = 0.999
    drop_all: float = 0.10
    drop_identity: float = 0.05
    face_loss_share: float = 0.5
    high_noise_share: float = 0.0
    high_noise_from: int = 700
    identity_loss: float = 0.0
    identity_loss_below: int = 500
    identity_loss_samples: int = 8
    seed: int = 0
    checkpoint_steps: int = 500
    keep_checkpoints: int = 2
    mixed_precision: str = "bf16"

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        if self.max_steps < 1 or self.learning_rate <= 0:
            raise ConfigError(
                f"max_steps and learning_rate must be positive, got {self.max_steps}, {self.learning_rate}."
            )
        for field in ("clip_share", "high_noise_share", "drop_all", "drop_identity", "face_loss_share"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise ConfigError(f"{field} must lie in [0, 1], got {getattr(self, field)}.")
        if self.mixed_precision not in ("no", "bf16"):
            raise ConfigError(f"mixed_precision must be 'no' or 'bf16', got {self.mixed_precision!r}.")
