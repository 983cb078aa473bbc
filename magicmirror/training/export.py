"""What a run leaves for others: a pipeline, a VAE or an adapter, with the averaged weights and the recipe beside it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import nn

from magicmirror.errors import WeightsError
from magicmirror.media import complete_folder
from magicmirror.pipeline.adapter_package import RECIPE_FILE, write_card
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.pipeline.quantisation import weight_bytes
from magicmirror.training.checkpoint import num_bytes
from magicmirror.training.parts import BatchSource
from magicmirror.training.recipes import Recipe
from magicmirror.training.trainer import Trainer
from magicmirror.training.vae_objective import as_clips

SCALE_BATCHES = 16
"""Batches from which the VAE's scaling factor is measured."""


def export_folder(output: Path, recipe: Recipe) -> Path:
    """Folder of what a recipe makes: a VAE, the adapter around a stock CogVideoX, or a whole pipeline."""
    if recipe.objective == "vae":
        return output / "vae"
    return output / ("adapter" if recipe.start in ("cogvideox", "cogvideox_stage1") else "pipeline")


def export(
    trainer: Trainer, networks: MagicMirrorPipeline | AutoencoderKLCogVideoX, output: Path, recipe: Recipe
) -> Path:
    """Save what a recipe has made; a folder of an earlier call is replaced once the new one is complete.

    Args:
        trainer: At its end. Its networks get the averaged weights.
        networks: That were trained.
        output: Folder of the run.
        recipe: Of the run.

    Returns:
        ``export_folder``: a pipeline in half precision; VAE and adapter, which training goes on from, in full.

    Raises:
        WeightsError: When it cannot be written; checkpoints and earlier networks are still there then.
    """
    trainer.average.copy_to(trainer.trained)
    folder = export_folder(output, recipe)
    if isinstance(networks, AutoencoderKLCogVideoX):
        return _export_vae(networks, trainer.loader.source, folder, recipe)
    if recipe.fresh_adapter:
        with torch.random.fork_rng():
            torch.manual_seed(recipe.config.seed)
            networks.transformer.reset_adapter()
    if folder.name == "adapter":
        return _export_adapter(networks, folder, recipe)
    parts = [part for part in networks.components.values() if isinstance(part, nn.Module)]
    for part in parts:
        nn.Module.to(part, torch.float16)  # diffusers' own warns of parts that it need not keep
    with complete_folder(folder, WeightsError, sum(map(weight_bytes, parts)), replace=True) as partial:
        networks.save_pretrained(partial)
        for path in partial.rglob("*.json"):
            _forget_origin(path)
        _write_recipe(partial, recipe)
    return folder


def _export_adapter(pipeline: MagicMirrorPipeline, folder: Path, recipe: Recipe) -> Path:
    needed_bytes = num_bytes(pipeline.transformer.adapter_state_dict().values())
    needed_bytes += weight_bytes(pipeline.face_perceiver) + weight_bytes(pipeline.identity_fusion)
    with complete_folder(folder, WeightsError, needed_bytes, replace=True) as partial:
        try:
            pipeline.save_adapter(partial, {"recipe": asdict(recipe.config)})
        except WeightsError as error:
            # It names a hidden file; from the cause follows what names the folder, and what is to be freed.
            raise error.__cause__ or error from None
        write_card(partial)
    return folder


def _export_vae(vae: AutoencoderKLCogVideoX, batches: BatchSource, folder: Path, recipe: Recipe) -> Path:
    if recipe.config.train_encoder and recipe.config.anchor_weight == 0:
        vae.register_to_config(scaling_factor=round(1 / latent_deviation(vae, batches), 6))
    with complete_folder(folder, WeightsError, weight_bytes(vae), replace=True) as partial:
        vae.eval().save_pretrained(partial)
        for path in partial.rglob("*.json"):
            _forget_origin(path)
        _write_recipe(partial, recipe)
    return folder


@torch.no_grad()
def latent_deviation(vae: AutoencoderKLCogVideoX, batches: BatchSource, count: int = SCALE_BATCHES) -> float:
    """Root mean square deviation of the posterior means from their mean, over some batches.

    The denoiser is trained on latents times ``scaling_factor``, whose deviation is to be one.
    """
    values = []
    for step in range(count):
        clips = as_clips(batches(step)["pixels"].to(vae.device))
        values.append(vae.encode(clips.to(vae.dtype)).latent_dist.mean.float().flatten().cpu())
    return float(torch.cat(values).std())


def _write_recipe(folder: Path, recipe: Recipe) -> None:
    (folder / RECIPE_FILE).write_text(json.dumps(asdict(recipe.config), indent=2) + "\n", encoding="utf-8")


def _forget_origin(path: Path) -> None:
    """Take out of a configuration where its component was loaded from: a path of the training machine."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.pop("_name_or_path", None) is not None:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
