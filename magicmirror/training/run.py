"""One training run: recipe, data and start in, checkpoints and a saved pipeline out."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from magicmirror.models.recognizer import DlibFaceRecognizer
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.training.batches import identity_batches, tower_batches
from magicmirror.training.checkpoint import trainable_state
from magicmirror.training.identity_loss import IdentityLoss
from magicmirror.training.networks import identity_objective, train_only
from magicmirror.training.recipes import Recipe
from magicmirror.training.tower import TowerObjective
from magicmirror.training.trainer import Trainer

logger = logging.getLogger(__name__)

PIPELINE_FOLDER = "pipeline"


def train(
    recipe: Recipe,
    data: Sequence[Path],
    pipeline: MagicMirrorPipeline,
    output: Path,
    max_hours: float | None = None,
    allow_incomplete: bool = False,
) -> Path:
    """Run a recipe, or go on with it: the same call after an interruption resumes from the newest checkpoint.

    Args:
        recipe: What to do.
        data: Folders of shards.
        pipeline: The networks to start from; trained in place.
        output: Gets ``checkpoints/`` and, at the end, ``pipeline/`` with the averaged weights in half precision.
        max_hours: Wall time.
        allow_incomplete: Train on the shards that are there already.

    Returns:
        Folder of the saved pipeline.
    """
    trainer = build_trainer(recipe, data, pipeline, output, allow_incomplete)
    trainer.resume()
    trainer.run(max_hours)
    return export(trainer.average.module, pipeline, output, recipe)


def dry_run(
    recipe: Recipe, data: Sequence[Path], pipeline: MagicMirrorPipeline, output: Path, allow_incomplete: bool = False
) -> str:
    """Do two steps and write nothing; returns losses, seconds a step and hours of the whole run as text."""
    trainer = build_trainer(recipe, data, pipeline, output, allow_incomplete)
    trainer.train_step()  # the first one also warms up caches
    started = time.monotonic()
    losses = trainer.train_step()
    seconds = time.monotonic() - started
    hours = seconds * recipe.config.max_steps / 3600
    text = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
    return (
        f"{recipe.config.name}: {text}; {seconds:.2f} s a step, about {hours:.1f} h for {recipe.config.max_steps} steps"
    )


def build_trainer(
    recipe: Recipe, data: Sequence[Path], pipeline: MagicMirrorPipeline, output: Path, allow_incomplete: bool = False
) -> Trainer:
    """Put objective, batches and trainer of a recipe together; arguments as in ``train``."""
    config = recipe.config
    if config.name == "tower":
        objective: nn.Module = TowerObjective(pipeline.image_encoder, pipeline.face_perceiver, pipeline.transformer)
        batch_at = tower_batches(pipeline, data, config, allow_incomplete)
    else:
        term = IdentityLoss(pipeline.vae, DlibFaceRecognizer.from_dlib_package().embed_aligned)
        objective = identity_objective(pipeline, config, term if config.identity_loss > 0 else None)
        batch_at = identity_batches(pipeline, data, config, allow_incomplete)
    trained = train_only(objective, recipe.trained)
    count = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    logger.info("%s: %s; %.2f M parameters in %d tensors", config.name, recipe.purpose, count / 1e6, len(trained))
    if not torch.cuda.is_available():
        for block in pipeline.transformer.transformer_blocks:
            block.attn1.processor.compute_dtype = torch.float32
    return Trainer(config, objective.train(), batch_at, output / "checkpoints")


def export(average: nn.Module, pipeline: MagicMirrorPipeline, output: Path, recipe: Recipe) -> Path:
    """Save a pipeline with the averaged weights, in half precision, and the recipe beside it.

    Args:
        average: Averaged objective; its children are the pipeline's components by name.
        pipeline: Gets the averaged weights.
        output: Folder of the run.
        recipe: Of the run.

    Returns:
        The saved pipeline's folder.
    """
    for name, value in trainable_state(average).items():
        component, _, parameter = name.partition(".")
        with torch.no_grad():
            getattr(pipeline, component).get_parameter(parameter).copy_(value)
    folder = output / PIPELINE_FOLDER
    pipeline.to(torch.float16).save_pretrained(folder)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe.config), indent=2) + "\n")
    return folder
