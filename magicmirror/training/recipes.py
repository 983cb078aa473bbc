"""The recipes: every stage of training as a function that returns all of its settings.

::

    vae ──> prepare ──> tower ──> captions ──> joint ──> likeness ──> predicted_decoder     how the preview is made
                                      └──────> base ──> stage1_images ──> stage2_videos     the paper's order in small
    CogVideoX-5B ────────────────────────────> cogvideox_5b_stage1 ──> cogvideox_5b_stage2  the paper
    CogVideoX-1.5-5B ────────────────────────> cogvideox_1_5_5b_stage1 ──> cogvideox_1_5_5b_stage2   the same

Numbers marked (paper) are those of section 4.1; every other one is our decision (**D** in ``docs/paper_map.md``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from magicmirror.errors import ConfigError
from magicmirror.training.config import TrainingConfig

Objective = Literal["vae", "decoder", "tower", "captions", "denoise"]
Start = Literal["vae", "networks", "pipeline", "stage1", "cogvideox", "cogvideox_stage1"]

_ADAPTER = ("adapter", "face_perceiver", "identity_fusion")
"""What the paper's two stages train (the fire marks of its Fig. 3)."""


@dataclass(frozen=True)
class Recipe:
    """A stage of training.

    Args:
        config: Settings of the run.
        trained: Parts that learn, see ``networks.train_only``; everything else is frozen.
        purpose: One line for people.
        objective: Which loss.
        start: What it starts from, see ``start.load_start``.
        align_cross_keys: Fit the cross keys to places before the first step (``cross_alignment``), unless the adapter
            has been trained before.
        fresh_adapter: Make the adapter anew once the base has its final weights: its cross keys start from the base's.
    """

    config: TrainingConfig
    trained: tuple[str, ...]
    purpose: str
    objective: Objective = "denoise"
    start: Start = "networks"
    align_cross_keys: bool = False
    fresh_adapter: bool = False


def vae() -> Recipe:
    """The small VAE learns to reconstruct stills and clips rendered from portraits, with its temporal part."""
    config = TrainingConfig(
        name="vae",
        preset="preview",
        max_steps=20_000,
        learning_rate=5e-4,
        warmup_steps=200,
        decay_steps=5_000,
        image_batch=8,
        clip_batch=2,
        clip_share=0.5,
        weight_decay=0.0,
    )
    return Recipe(config, ("vae",), "teach the small VAE to reconstruct moving faces", objective="vae", start="vae")


def decoder() -> Recipe:
    """The small VAE's decoder alone learns on: sharper pictures of the latents that a denoiser already makes."""
    config = TrainingConfig(
        name="decoder",
        preset="preview",
        max_steps=4_000,
        learning_rate=3e-4,
        warmup_steps=50,
        decay_steps=2_000,
        image_batch=8,
        clip_batch=2,
        clip_share=0.5,
        weight_decay=0.0,
        kl_weight=0.0,
        texture_weight=1.0,
        train_encoder=False,
        ema_decay=0.99,
    )
    return Recipe(config, ("vae",), "teach the small VAE's decoder more detail", objective="vae", start="vae")


def anchored_vae() -> Recipe:
    """Encoder and decoder of a trained VAE learn on; latents stay near those that a denoiser already knows."""
    config = replace(
        vae().config,
        name="anchored_vae",
        max_steps=1_800,
        learning_rate=8e-4,
        warmup_steps=20,
        decay_steps=900,
        image_batch=6,
        clip_batch=2,
        clip_share=0.92,
        falling_share=0.08,
        texture_weight=1.0,
        moving_weight=1.0,
        warping_weight=2.0,
        anchor_weight=0.05,
        ema_decay=0.98,
    )
    return Recipe(config, ("vae",), "teach a trained VAE to keep what it lost", objective="vae", start="vae")


def predicted_decoder() -> Recipe:
    """The decoder learns on latents that the denoiser predicts, as it meets them when a video is made."""
    config = replace(
        decoder().config,
        name="predicted_decoder",
        max_steps=800,  # no more were looked at; with a critic of 0.3 stripes came within 700
        learning_rate=3e-4,
        warmup_steps=30,
        decay_steps=250,
        edge_weight=2.0,
        texture_weight=4.0,
        moving_weight=1.0,
        warping_weight=3.0,
        critic_weight=0.2,
        perceptual_loss=0.35,
        predicted_share=0.5,
        requested_share=0.3,
        guidance_scale=1.1,
    )
    return Recipe(
        config,
        ("vae",),
        "teach the decoder to draw what the denoiser predicts",
        objective="decoder",
        start="pipeline",
    )


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
    return Recipe(
        config,
        ("image_encoder", "face_perceiver"),
        "teach the vision tower to see (preview only)",
        objective="tower",
    )


def captions() -> Recipe:
    """The text encoder learns which motions and which style a caption asks for; the preview has no pretrained T5."""
    config = TrainingConfig(
        name="captions",
        preset="preview",
        max_steps=4_000,
        learning_rate=5e-3,
        warmup_steps=50,
        decay_steps=4_000,
        image_batch=64,
        weight_decay=0.0,
        ema_decay=0.99,
    )
    return Recipe(
        config,
        ("text_encoder", "heads"),
        "teach the small text encoder what captions mean",
        objective="captions",
    )


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
        clip_share=0.6,
        high_noise_share=0.7,
        high_noise_from=950,
        unrolled_share=0.35,
        motion_loss=0.5,
        change_loss=0.6,
    )
    return Recipe(
        config,
        ("transformer", "text_encoder", "identity_perceiver", "identity_fusion"),
        "train the small model from nothing on stills and clips",
        align_cross_keys=True,
    )


def likeness() -> Recipe:
    """``joint`` with the identity term of section 3.4, a perceptual term and a critic, for the end of training."""
    config = TrainingConfig(
        name="likeness",
        preset="preview",
        max_steps=4_000,
        learning_rate=4e-4,
        warmup_steps=100,
        decay_steps=2_000,
        image_batch=12,
        clip_batch=8,
        clip_share=0.7,
        strata_balance=1.0,
        high_noise_share=0.7,
        high_noise_from=950,
        unrolled_share=0.45,
        identity_loss=0.2,
        identity_loss_below=1000,
        identity_loss_samples=2,
        perceptual_loss=0.35,
        perceptual_loss_samples=6,
        latent_critic_weight=0.12,
        motion_loss=0.5,
        change_loss=0.6,
    )
    return Recipe(
        config,
        ("transformer", "text_encoder", "identity_perceiver", "identity_fusion", "face_perceiver"),
        "polish with a critic of latents, and identity and perceptual terms through decoder and recogniser",
        start="pipeline",
    )


def base() -> Recipe:
    """The small denoiser learns text-to-video without any face: the pretraining that CogVideoX brings along."""
    config = TrainingConfig(
        name="base",
        preset="preview",
        max_steps=40_000,
        learning_rate=1e-3,
        warmup_steps=200,
        decay_steps=4_000,
        image_batch=24,
        clip_batch=8,
        clip_share=0.45,
        with_identity=False,
        drop_identity=0.0,
        face_loss_share=0.0,
    )
    return Recipe(
        config,
        ("base", "text_encoder"),
        "train the small model as plain text-to-video, adapter off",
        fresh_adapter=True,
    )


def stage1_images() -> Recipe:
    """The paper's first stage at the preview's size: adapter on stills, base frozen.

    The identity perceiver learns too: the paper's comes pretrained, the preview's does not.
    """
    config = TrainingConfig(
        name="stage1_images",
        preset="preview",
        max_steps=12_000,
        learning_rate=5e-4,
        warmup_steps=200,
        decay_steps=6_000,
        image_batch=24,
        high_noise_share=0.6,
    )
    return Recipe(
        config,
        (*_ADAPTER, "identity_perceiver"),
        "train the adapter of the small model on stills, base frozen",
        start="pipeline",
    )


def stage2_videos() -> Recipe:
    """The paper's second stage at the preview's size: the same on clips, from the end of stage 1."""
    config = TrainingConfig(
        name="stage2_videos",
        preset="preview",
        max_steps=4_000,
        learning_rate=2e-4,
        warmup_steps=100,
        decay_steps=4_000,
        clip_batch=8,
        clip_share=1.0,
        high_noise_share=0.6,
    )
    return Recipe(
        config,
        (*_ADAPTER, "identity_perceiver"),
        "train the adapter of the small model on clips, base frozen",
        start="stage1",
    )


def cogvideox_5b_stage1() -> Recipe:
    """Stage 1 of the paper: adapter, face perceiver and fusion on images, CogVideoX-5B and face encoders frozen.

    Of the paper: steps, batch, learning rate and that it decays, the face-area share. Ours: warm-up and the form of
    the decay, the weight average, dropped conditions (decision 4), clipping, and the micro-batch, with which eight
    GPUs accumulate twice. The identity term is off until it gets a weight (``--identity-loss``), which the paper
    does not state.
    """
    config = TrainingConfig(
        name="cogvideox_5b_stage1",
        preset="cogvideox-5b",
        max_steps=30_000,  # (paper)
        learning_rate=1e-5,  # (paper)
        warmup_steps=500,
        decay_steps=30_000,
        image_batch=64,  # (paper)
        clip_share=0.0,
        micro_batch=4,
        gradient_checkpointing=True,
        ema_decay=0.9999,
        face_loss_share=0.5,  # (paper)
        checkpoint_steps=1_000,
    )
    return Recipe(config, _ADAPTER, "stage 1 of the paper: adapter of CogVideoX-5B on images", start="cogvideox")


def cogvideox_5b_stage2() -> Recipe:
    """Stage 2 of the paper: the same parts on videos, from the adapter of stage 1; see ``cogvideox_5b_stage1``."""
    config = TrainingConfig(
        name="cogvideox_5b_stage2",
        preset="cogvideox-5b",
        max_steps=5_000,  # (paper)
        learning_rate=1e-5,  # (paper)
        warmup_steps=200,
        decay_steps=5_000,
        clip_batch=8,  # (paper)
        clip_share=1.0,
        micro_batch=1,
        gradient_checkpointing=True,
        ema_decay=0.999,
        face_loss_share=0.5,  # (paper)
        checkpoint_steps=500,
    )
    return Recipe(config, _ADAPTER, "stage 2 of the paper: the same on videos", start="cogvideox_stage1")


def cogvideox_1_5_5b_stage1() -> Recipe:
    """``cogvideox_5b_stage1`` around CogVideoX-1.5-5B, which the paper does not train: its numbers are taken over."""
    return _around(cogvideox_5b_stage1(), "cogvideox_1_5_5b_stage1", "cogvideox-1.5-5b")


def cogvideox_1_5_5b_stage2() -> Recipe:
    """``cogvideox_5b_stage2`` around CogVideoX-1.5-5B; see ``cogvideox_1_5_5b_stage1``."""
    return _around(cogvideox_5b_stage2(), "cogvideox_1_5_5b_stage2", "cogvideox-1.5-5b")


def _around(recipe: Recipe, name: str, preset: str) -> Recipe:
    """The same recipe around another backbone."""
    purpose = recipe.purpose.replace("CogVideoX-5B", "CogVideoX-1.5-5B")
    return replace(recipe, config=replace(recipe.config, name=name, preset=preset), purpose=purpose)


_ALL: tuple[Callable[[], Recipe], ...] = (
    vae,
    decoder,
    anchored_vae,
    predicted_decoder,
    tower,
    captions,
    joint,
    likeness,
    base,
    stage1_images,
    stage2_videos,
    cogvideox_5b_stage1,
    cogvideox_5b_stage2,
    cogvideox_1_5_5b_stage1,
    cogvideox_1_5_5b_stage2,
)
RECIPES: dict[str, Callable[[], Recipe]] = {make.__name__: make for make in _ALL}


def find_recipe(name: str) -> Recipe:
    """Make a recipe by name.

    Raises:
        ConfigError: For an unknown name.
    """
    if name not in RECIPES:
        raise ConfigError(f'Unknown recipe "{name}".', f"Choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]()
