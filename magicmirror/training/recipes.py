"""The recipes: every stage of training as a function that returns all of its settings.

The preview model is made by ``tower``, ``joint``, then ``likeness`` (figures of each in ``docs/training.md``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from magicmirror.errors import ConfigError
from magicmirror.training.config import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """A stage of training.

    Args:
        config: Settings of the run.
        trained: Parts that learn, see ``networks.train_only``; everything else is frozen.
        purpose: One line for people.
        align_cross_keys: Fit the cross keys to places before the first step (``cross_alignment``).
    """

    config: TrainingConfig
    trained: tuple[str, ...]
    purpose: str
    align_cross_keys: bool = False


def tower() -> Recipe:
    """Vision tower and face perceiver learn to write the reference's latents into face tokens."""
    config = TrainingConfig(
        name="tower",
        preset="preview",
        max_steps=1400,
        learning_rate=2e-3,
        warmup_steps=100,
        decay_steps=700,
        image_batch=64,
        ema_decay=0.99,
    )
    return Recipe(config, ("image_encoder", "face_perceiver"), "teach the vision tower to see (preview only)")


def joint() -> Recipe:
    """Denoiser, text encoder, identity branch and adapter of the small model learn together from stills and clips."""
    config = TrainingConfig(
        name="joint",
        preset="preview",
        max_steps=40_000,
        learning_rate=1e-3,
        warmup_steps=200,
        decay_steps=4_000,
        image_batch=24,
        clip_batch=8,
        clip_share=0.45,
        high_noise_share=0.6,
    )
    return Recipe(
        config,
        ("transformer", "text_encoder", "identity_perceiver", "identity_fusion"),
        "train the small model from nothing on stills and clips",
        align_cross_keys=True,
    )


def likeness() -> Recipe:
    """``joint`` with the identity term of section 3.4, for the last part of training."""
    config = TrainingConfig(
        name="likeness",
        preset="preview",
        max_steps=4_000,
        learning_rate=4e-4,
        warmup_steps=100,
        decay_steps=2_000,
        image_batch=16,
        clip_batch=8,
        clip_share=0.4,
        high_noise_share=0.4,
        identity_loss=2.0,
        identity_loss_samples=4,
    )
    return Recipe(
        config,
        ("transformer", "text_encoder", "identity_perceiver", "identity_fusion", "face_perceiver"),
        "polish with the identity term through decoder and recogniser",
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"tower": tower, "joint": joint, "likeness": likeness}


def find_recipe(name: str) -> Recipe:
    """Make a recipe by name.

    Raises:
        ConfigError: For an unknown name.
    """
    if name not in RECIPES:
        raise ConfigError(f'Unknown recipe "{name}".', f"Choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]()
