"""Puts objective, batches and trainer of a recipe together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import nn

from magicmirror.data.dataset import mean_embedding
from magicmirror.data.vae_hash import refuse_other_vae
from magicmirror.errors import ConfigError
from magicmirror.faces.insightface_packs import recogniser_file
from magicmirror.models import arcface
from magicmirror.models.arcface import ArcFaceRecognizer
from magicmirror.models.precision import has_bfloat16
from magicmirror.models.recognizer import EMBEDDING_SIZE, DlibFaceRecognizer
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.training.batches import identity_batches, tower_batches
from magicmirror.training.caption_objective import CaptionObjective, caption_batches
from magicmirror.training.config import TrainingConfig
from magicmirror.training.critic import CRITICS
from magicmirror.training.identity_loss import IdentityLoss
from magicmirror.training.networks import identity_objective, train_only
from magicmirror.training.parts import BatchSource
from magicmirror.training.perceptual_loss import PerceptualLoss, PictureDistance
from magicmirror.training.portrait_clips import portrait_batches
from magicmirror.training.predicted_latents import PredictedLatents
from magicmirror.training.recipes import Recipe
from magicmirror.training.same_run import fingerprints
from magicmirror.training.schedule import from_seed
from magicmirror.training.tower import TowerObjective
from magicmirror.training.trainer import Trainer, make_accelerator
from magicmirror.training.vae_objective import VaeObjective
from magicmirror.training.validation import PipelineValidation, VaeValidation

logger = logging.getLogger(__name__)

Networks: TypeAlias = MagicMirrorPipeline | AutoencoderKLCogVideoX

CENTRE_BATCHES = 16
"""Whose people's mean embedding the perceptual term of a decoder takes off."""
CHECKPOINT_FOLDER, CURVES_FOLDER, VALIDATION_FOLDER = "checkpoints", "curves", "validation"


def build_trainer(
    recipe: Recipe,
    data: Sequence[Path],
    networks: Networks,
    output: Path,
    allow_incomplete: bool = False,
    portraits: Path | None = None,
    curves: bool = False,
) -> Trainer:
    """Put a run together; nothing is written yet.

    Args:
        recipe: What to do.
        data: Folders of shards; for recipes that train on raw pictures manifests.
        networks: Trained in place: a pipeline, for the recipes ``vae`` and ``decoder`` a VAE.
        output: Of the run.
        allow_incomplete: Train on the shards that are there already.
        portraits: Folder that the manifests' paths begin at.
        curves: Write TensorBoard's curves.

    Raises:
        ConfigError: If recipe, data and networks do not fit together.
    """
    config = recipe.config
    accelerator = make_accelerator(_precision_here(config, networks))
    networks.to(accelerator.device)
    objective, batches = _parts(recipe, data, networks, portraits, allow_incomplete)
    _choose_trained(recipe, objective, networks)
    trainer = Trainer(
        config,
        objective,
        batches,
        output / CHECKPOINT_FOLDER,
        curves=output / CURVES_FOLDER if curves else None,
        accelerator=accelerator,
        made_from=fingerprints(data, objective),
    )
    if config.validation_steps:
        trainer.validate = _validation(recipe, networks, batches, output / VALIDATION_FOLDER, accelerator)
    return trainer


def _precision_here(config: TrainingConfig, networks: Networks) -> TrainingConfig:
    """The settings without bfloat16, where this machine would emulate it and all weights are float32.

    Frozen weights in bfloat16, as those around a stock CogVideoX, need it beside the trained ones in float32.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    parts = networks.components.values() if isinstance(networks, MagicMirrorPipeline) else [networks]
    weights = (weight for part in parts if isinstance(part, nn.Module) for weight in part.parameters())
    if config.mixed_precision == "no" or has_bfloat16(device) or any(w.dtype == torch.bfloat16 for w in weights):
        return config
    logger.info("this machine does not multiply bfloat16 itself: it trains in float32, which is much faster here")
    return replace(config, mixed_precision="no")


def _parts(
    recipe: Recipe, data: Sequence[Path], networks: Networks, portraits: Path | None, allow_incomplete: bool
) -> tuple[nn.Module, BatchSource]:
    """Objective and batches of a recipe."""
    if recipe.objective in ("vae", "decoder"):
        if portraits is None:
            raise ConfigError(
                f'The recipe "{recipe.config.name}" needs portraits.', "Give their folder with --portraits."
            )
        if isinstance(networks, AutoencoderKLCogVideoX):
            return VaeObjective(networks, recipe.config), portrait_batches(data, portraits, recipe.config)
        return _predicted_decoder_parts(recipe, data, networks, portraits)
    assert isinstance(networks, MagicMirrorPipeline)
    return _pipeline_parts(recipe, data, networks, allow_incomplete)


def _predicted_decoder_parts(
    recipe: Recipe, data: Sequence[Path], pipeline: MagicMirrorPipeline, portraits: Path
) -> tuple[VaeObjective, BatchSource]:
    """A VAE whose decoder learns on what the rest of its pipeline predicts."""
    if pipeline.identity_perceiver.config.embedding_dim != EMBEDDING_SIZE:
        raise ConfigError(
            f'The recipe "{recipe.config.name}" makes dlib\'s embeddings of its pictures; this model takes others.'
        )
    denoiser = identity_objective(pipeline, recipe.config).to(pipeline.device)
    predict = PredictedLatents(denoiser, pipeline.vae.config.scaling_factor, recipe.config)
    length = pipeline.transformer.config.max_text_seq_length
    batches = portrait_batches(data, portraits, recipe.config, tokenizer=pipeline.tokenizer, text_length=length)
    distance = None
    if recipe.config.perceptual_loss > 0:
        centre = torch.cat([batches(step)["embeddings"] for step in range(CENTRE_BATCHES)]).mean(0)
        recognizer = DlibFaceRecognizer.from_dlib_package().to(pipeline.vae.device)
        distance = PictureDistance(recognizer, centre)
    return VaeObjective(pipeline.vae, recipe.config, predict, distance), batches


def _pipeline_parts(
    recipe: Recipe, data: Sequence[Path], pipeline: MagicMirrorPipeline, allow_incomplete: bool
) -> tuple[nn.Module, BatchSource]:
    """Objective and batches of the recipes of a pipeline."""
    config = recipe.config
    if pipeline.device.type == "cpu":
        for block in pipeline.transformer.transformer_blocks:
            block.attn1.processor.compute_dtype = torch.float32
    if recipe.objective in ("tower", "denoise"):
        refuse_other_vae(data, pipeline.vae)
    if recipe.objective == "tower":
        objective = TowerObjective(pipeline.image_encoder, pipeline.face_perceiver, pipeline.transformer)
        return objective, tower_batches(pipeline, data, config, allow_incomplete)
    if recipe.objective == "captions":
        made = from_seed(config.seed, lambda: CaptionObjective(pipeline.text_encoder))
        return made, caption_batches(pipeline, config)
    # Batches first: they refuse shards that do not fit together, whose mean embedding could not be taken.
    batches = identity_batches(pipeline, data, config, allow_incomplete)
    terms = _recogniser_terms(pipeline, config, data, allow_incomplete)
    if terms[0] is None:
        logger.info("the identity term of section 3.4 is off in this run")
    return identity_objective(pipeline, config, *terms), batches


def _recogniser_terms(
    pipeline: MagicMirrorPipeline, config: TrainingConfig, data: Sequence[Path], allow_incomplete: bool
) -> tuple[IdentityLoss | None, PerceptualLoss | None]:
    """The terms through the pipeline's decoder and the recogniser that made the embeddings."""
    if config.identity_loss == config.perceptual_loss == 0:
        return None, None
    width = pipeline.identity_perceiver.config.embedding_dim
    if width == arcface.EMBEDDING_SIZE and config.identity_loss > 0:
        if config.gradient_checkpointing:
            pipeline.vae.enable_gradient_checkpointing()
        recognise = ArcFaceRecognizer.from_onnx_file(recogniser_file()).to(pipeline.vae.device).embed_faces
        # Strangers are about orthogonal, so the paper's plain cosine measures likeness.
        return IdentityLoss(pipeline.vae, recognise), None
    if width != EMBEDDING_SIZE:
        logger.warning("no differentiable recogniser is known for embeddings of this model (paper.md, decision 7)")
        return None, None
    recognizer = DlibFaceRecognizer.from_dlib_package().to(pipeline.vae.device)
    centre = mean_embedding(data, allow_incomplete)
    identity, perceptual = None, None
    if config.identity_loss > 0:
        identity = IdentityLoss(pipeline.vae, recognizer.embed_faces, centre)
    if config.perceptual_loss > 0:
        perceptual = PerceptualLoss(pipeline.vae, recognizer, centre)
    return identity, perceptual


def _choose_trained(recipe: Recipe, objective: nn.Module, networks: Networks) -> None:
    """Freeze what is not trained, and set modes and precision of what is."""
    heads = [name for name in ("motion_term", *CRITICS) if getattr(objective, name, None) is not None]
    trained = train_only(objective, (*recipe.trained, *heads))
    count = 0
    for parameter in objective.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # a step of 1e-5 would be lost in half precision
            count += parameter.numel()
    logger.info(
        "%s: %s; %.2f M parameters in %d tensors", recipe.config.name, recipe.purpose, count / 1e6, len(trained)
    )
    objective.train()
    for part in objective.children():
        # What is frozen works as it does in inference; a published T5 brings dropout with it.
        part.train(any(parameter.requires_grad for parameter in part.parameters()))
    if recipe.config.gradient_checkpointing:
        network: Any = objective.vae if isinstance(objective, VaeObjective) else networks.transformer
        network.enable_gradient_checkpointing()


def _validation(
    recipe: Recipe, networks: Networks, batches: BatchSource, folder: Path, accelerator: Any
) -> PipelineValidation | VaeValidation:
    if isinstance(networks, AutoencoderKLCogVideoX):
        return VaeValidation(networks, batches, recipe.config, folder)
    if recipe.objective not in ("denoise", "decoder"):
        raise ConfigError(f'The recipe "{recipe.config.name}" makes no pictures.', "Leave --validation-steps out.")
    return PipelineValidation(networks, batches, recipe.config, folder, accelerator.autocast)
