"""One training run: recipe, data and start in, checkpoints and saved networks out."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from accelerate.utils import send_to_device

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.media import make_writable_folder
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.training.batches import identity_batches
from magicmirror.training.build import Networks, build_trainer
from magicmirror.training.cross_alignment import adapter_is_untrained, align_cross_keys
from magicmirror.training.export import export, export_folder
from magicmirror.training.objective import IdentityVideoObjective
from magicmirror.training.recipes import Recipe
from magicmirror.training.schedule import step_generator
from magicmirror.training.trainer import Trainer

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    data: Sequence[Path],
    networks: Networks,
    output: Path,
    max_hours: float | None = None,
    allow_incomplete: bool = False,
    portraits: Path | None = None,
    curves: bool = False,
    new_settings: bool = False,
) -> Path:
    """Run a recipe, or go on with it: the same call after an interruption resumes from the newest checkpoint.

    Args:
        recipe: What to do.
        data: Folders of shards; for recipes that train on raw pictures manifests.
        networks: To start from; trained in place.
        output: Gets ``checkpoints/`` and, at the end, what ``export`` says.
        max_hours: Wall time of the steps and checkpoints.
        allow_incomplete: Train on the shards that are there already.
        portraits: Folder that the manifests' paths begin at.
        curves: Write TensorBoard's curves to ``output/curves``.
        new_settings: Go on from checkpoints of other settings, see ``Trainer.resume``.

    Returns:
        Folder of the saved networks.

    Raises:
        ConfigError: If recipe, data, networks and output do not fit together; no step has been done then.
        WeightsError: If a checkpoint is damaged, or one or the networks cannot be written.
    """
    trainer = build_trainer(recipe, data, networks, output, allow_incomplete, portraits, curves)
    if trainer.accelerator.is_main_process:
        _check_output(trainer, export_folder(output, recipe))
    if trainer.resume(new_settings) == 0 and recipe.align_cross_keys:
        assert isinstance(networks, MagicMirrorPipeline)
        _align(trainer, recipe, data, networks, allow_incomplete)
    trainer.run(max_hours)
    if trainer.accelerator.is_main_process:
        _export(trainer, networks, output, recipe)
    trainer.accelerator.wait_for_everyone()
    return export_folder(output, recipe)


def _check_output(trainer: Trainer, saved: Path) -> None:
    """Make the folder of the checkpoints, before hours are spent on what could not be written there.

    Raises:
        ConfigError: If nothing can be written there, or something is in the way of the saved networks.
    """
    make_writable_folder(trainer.folder, ConfigError)
    if os.path.lexists(saved) and not saved.is_dir():
        raise ConfigError(f'"{saved}" is not a folder.', "Move it away: the networks will be saved there.")


def _export(trainer: Trainer, networks: Networks, output: Path, recipe: Recipe) -> None:
    """Save the networks; whoever cannot is told that the run itself is not lost."""
    try:
        export(trainer, networks, output, recipe)
    except WeightsError as error:
        kept = "The last checkpoint is kept: the same command then saves the networks."
        raise WeightsError(error.message, f"{error.remedy} {kept}") from error


def dry_run(
    recipe: Recipe,
    data: Sequence[Path],
    networks: Networks,
    output: Path,
    allow_incomplete: bool = False,
    portraits: Path | None = None,
) -> str:
    """Do two steps and write nothing; returns losses, seconds a step and hours of the whole run as text."""
    quiet = replace(recipe, config=replace(recipe.config, validation_steps=0))
    trainer = build_trainer(quiet, data, networks, output, allow_incomplete, portraits)
    trainer.train_step()  # the first one also warms up caches
    started = time.monotonic()
    losses = trainer.train_step()
    seconds = time.monotonic() - started
    hours = seconds * recipe.config.max_steps / 3600
    text = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
    return (
        f"{recipe.config.name}: {text}; {seconds:.2f} s a step, about {hours:.1f} h for {recipe.config.max_steps} steps"
    )


def _align(
    trainer: Trainer, recipe: Recipe, data: Sequence[Path], pipeline: MagicMirrorPipeline, allow_incomplete: bool
) -> None:
    """Fit the cross keys on one batch of stills (``cross_alignment``), unless the adapter knows something already."""
    if not adapter_is_untrained(pipeline.transformer):
        logger.info("the adapter has been trained before: its cross keys stay as they are")
        return
    stills = replace(recipe.config, clip_share=0.0)
    batch = send_to_device(identity_batches(pipeline, data, stills, allow_incomplete)(0), trainer.accelerator.device)
    objective = trainer.trained
    assert isinstance(objective, IdentityVideoObjective)
    shares = align_cross_keys(objective, batch, step_generator(recipe.config.seed, 0))
    logger.info("cross-attention on the own place: %s", ", ".join(f"{share:.3f}" for share in shares))
