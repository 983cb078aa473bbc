"""One training run: recipe, data and start in, checkpoints and a saved pipeline out."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate.utils import send_to_device
from torch import nn

from magicmirror.models.recognizer import DlibFaceRecognizer
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.training.batches import identity_batches, tower_batches
from magicmirror.training.checkpoint import trainable_state
from magicmirror.training.cross_alignment import align_cross_keys
from magicmirror.training.identity_loss import IdentityLoss
from magicmirror.training.networks import identity_objective, train_only
from magicmirror.training.objective import IdentityVideoObjective
from magicmirror.training.recipes import Recipe
from magicmirror.training.tower import TowerObjective
from magicmirror.training.trainer import Trainer, step_generator

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
    if trainer.resume() == 0 and recipe.align_cross_keys:
        _align(trainer, recipe, data, pipeline, allow_incomplete)
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
    if torch.cuda.is_available():
        pipeline.to("cuda")
    else:
        for block in pipeline.transformer.transformer_blocks:
            block.attn1.processor.compute_dtype = torch.float32
    if config.name == "tower":
        objective: nn.Module = TowerObjective(pipeline.image_encoder, pipeline.face_perceiver, pipeline.transformer)
        batch_at = tower_batches(pipeline, data, config, allow_incomplete)
    else:
        term = _identity_loss(pipeline) if config.identity_loss > 0 else None
        if term is None:
            logger.info("the identity term of section 3.4 is off in this recipe")
        objective = identity_objective(pipeline, config, term)
        batch_at = identity_batches(pipeline, data, config, allow_incomplete)
    trained = train_only(objective, recipe.trained)
    count = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    logger.info("%s: %s; %.2f M parameters in %d tensors", config.name, recipe.purpose, count / 1e6, len(trained))
    objective.train()
    for part in objective.children():
        # What is frozen works as it does in inference; a published T5 brings dropout with it.
        part.train(any(parameter.requires_grad for parameter in part.parameters()))
    return Trainer(config, objective, batch_at, output / "checkpoints")


def _identity_loss(pipeline: MagicMirrorPipeline) -> IdentityLoss:
    """The identity term through the pipeline's decoder and dlib's recogniser."""
    recognizer = DlibFaceRecognizer.from_dlib_package().to(pipeline.vae.device)
    return IdentityLoss(pipeline.vae, recognizer.embed_aligned)


def _align(
    trainer: Trainer, recipe: Recipe, data: Sequence[Path], pipeline: MagicMirrorPipeline, allow_incomplete: bool
) -> None:
    """Fit the cross keys on one batch of stills; see ``cross_alignment``."""
    stills = replace(recipe.config, clip_share=0.0)
    batch = send_to_device(identity_batches(pipeline, data, stills, allow_incomplete)(0), trainer.accelerator.device)
    objective = trainer.trained
    assert isinstance(objective, IdentityVideoObjective)
    shares = align_cross_keys(objective, batch, step_generator(recipe.config.seed, 0))
    logger.info("cross-attention on the own place: %s", ", ".join(f"{share:.3f}" for share in shares))


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
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            nn.Module.to(part, torch.float16)  # diffusers' own warns of parts that it need not keep
    pipeline.save_pretrained(folder)
    for path in folder.rglob("*.json"):
        _forget_origin(path)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe.config), indent=2) + "\n")
    return folder


def _forget_origin(path: Path) -> None:
    """Take out of a configuration where its component was loaded from: a path of the training machine."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.pop("_name_or_path", None) is not None:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
