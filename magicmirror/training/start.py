"""What a recipe starts from.

================  ==========================================================  ============================
recipe            networks                                                    arguments
================  ==========================================================  ============================
vae               a trained VAE, or a new one                                 ``vae`` or nothing
decoder           a trained VAE                                               ``vae``
anchored_vae      a trained VAE                                               ``vae``
captions, tower,  a saved pipeline, at will with another VAE or tokenizer     ``start``, ``vae``, ``tokenizer``
joint, base       or new networks around a trained VAE                        ``vae`` and ``tokenizer``
stage1_images     a saved pipeline: of ``base``, or of ``tower`` at least     ``start``
likeness          a saved pipeline: of ``joint``                              ``start``
predicted_decoder a saved pipeline: of ``likeness``                           ``start``
stage2_videos     a saved pipeline whose adapter stage 1 has trained          ``start``
cogvideox_...     a stock CogVideoX and PhotoMaker-V2's encoder; for stage 2  ``start``, ``identity_encoder``;
                  also the adapter of stage 1                                 for stage 2 ``adapter``
================  ==========================================================  ============================
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX

from magicmirror.errors import ConfigError
from magicmirror.models.adapter import ADAPTER_PARTS
from magicmirror.models.presets import ModelPreset, model_preset
from magicmirror.pipeline.assembly import STOCK_PARTS, assemble
from magicmirror.pipeline.compatibility import check_together
from magicmirror.pipeline.hub import HubOptions
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.pipeline.sources import (
    adapter_description,
    adapter_path,
    component_configs,
    identity_encoder_path,
    pipeline_folder,
)
from magicmirror.training.cross_alignment import adapter_is_untrained
from magicmirror.training.networks import fresh_pipeline, fresh_vae, load_vae
from magicmirror.training.recipes import Recipe, Start
from magicmirror.training.vocabulary import adopt_tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartPaths:
    """Where a run's first weights are; see the table above.

    Args:
        start: Saved pipeline, or for the recipes of CogVideoX a stock pipeline's folder or hub id.
        vae: Trained VAE in diffusers layout; for a denoiser that of new networks, or in place of the one in ``start``.
        tokenizer: Of new networks, or in place of the one in ``start``.
        identity_encoder: PhotoMaker-V2's file, its folder or hub id.
        adapter: Folder or hub id of an adapter.
    """

    start: str | None = None
    vae: Path | None = None
    tokenizer: Path | None = None
    identity_encoder: str | None = None
    adapter: str | None = None


_TAKEN: dict[Start, tuple[str, ...]] = {
    "vae": ("vae",),
    "networks": ("start", "vae", "tokenizer"),
    "pipeline": ("start",),
    "stage1": ("start",),
    "cogvideox": ("start", "identity_encoder"),
    "cogvideox_stage1": ("start", "identity_encoder", "adapter"),
}


def check_start(recipe: Recipe, paths: StartPaths) -> None:
    """Refuse arguments that the recipe lacks or has no use for, before anything is loaded.

    Raises:
        ConfigError: Naming what to give, or to leave out.
    """
    given = {field.name for field in fields(paths) if getattr(paths, field.name) is not None}
    taken = _TAKEN[recipe.start]
    extra = sorted(given - set(taken))
    if extra:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in extra)
        raise ConfigError(f'The recipe "{recipe.config.name}" has no use for {flags}.', "Leave it out.")
    if recipe.start == "networks":
        if "start" not in given and given != {"vae", "tokenizer"}:
            raise ConfigError("There are no networks to start from.", "Give --start, or --vae and --tokenizer.")
    elif recipe.start != "vae":
        missing = [f"--{name.replace('_', '-')}" for name in taken if name not in given]
        if missing:
            raise ConfigError(
                f'The recipe "{recipe.config.name}" needs {" and ".join(missing)}.', _REMEDIES[recipe.start]
            )


_REMEDIES: dict[Start, str] = {
    "pipeline": "Name the folder of a saved pipeline: the one of an earlier recipe.",
    "stage1": "Name the pipeline of stage1_images.",
    "cogvideox": "Name a stock CogVideoX and PhotoMaker-V2's encoder.",
    "cogvideox_stage1": "Name the same stock CogVideoX and PhotoMaker-V2's encoder, and the adapter of stage 1.",
}


def load_start(
    recipe: Recipe, paths: StartPaths, find_preset: Callable[[str], ModelPreset] = model_preset
) -> MagicMirrorPipeline:
    """Load or make the networks that a recipe of a denoiser or a tower starts from.

    Args:
        recipe: Its seed is that of new weights.
        paths: Where they are.
        find_preset: Sizes by name.

    Returns:
        The pipeline on the CPU. Around a stock CogVideoX the frozen weights are bfloat16 where the recipe's precision
        is; everything else is float32, whatever the precision of the file.

    Raises:
        ConfigError: If an argument is missing or of no use, or stage 2 is to start from an untrained adapter.
        WeightsError: If weights are missing or do not fit.
    """
    check_start(recipe, paths)
    if recipe.start in ("cogvideox", "cogvideox_stage1"):
        return _around_stock(recipe, paths, find_preset)
    if paths.start is None:
        assert paths.vae is not None and paths.tokenizer is not None
        return fresh_pipeline(recipe.config.preset, paths.vae, paths.tokenizer, recipe.config.seed)
    pipeline = MagicMirrorPipeline.from_pretrained(paths.start, dtype=torch.float32)
    if paths.vae is not None:
        _adopt_vae(pipeline, paths.vae)
    if paths.tokenizer is not None:
        logger.info("%d pieces of the tokenizer are new", adopt_tokenizer(pipeline, paths.tokenizer))
    if recipe.start == "stage1":
        _refuse_untrained(pipeline, recipe, paths.start)
    return pipeline


def _adopt_vae(pipeline: MagicMirrorPipeline, folder: Path) -> None:
    """Put another VAE into a pipeline: one whose latents are like those that the denoiser knows (``anchored_vae``)."""
    vae = load_vae(folder)
    known, given = pipeline.transformer.config.in_channels, vae.config.latent_channels
    if given != known:
        raise ConfigError(f'The VAE in "{folder}" has {given} latent channels, the denoiser takes {known}.')
    pipeline.register_modules(vae=vae)


def load_vae_start(recipe: Recipe, paths: StartPaths) -> AutoencoderKLCogVideoX:
    """Load or make the VAE that the recipe ``vae`` starts from.

    Raises:
        ConfigError: If the folder holds no VAE, or another argument is given.
    """
    check_start(recipe, paths)
    if paths.vae is None and not recipe.config.train_encoder:
        raise ConfigError(
            f'The recipe "{recipe.config.name}" goes on from a trained VAE.', "Give its folder with --vae."
        )
    if paths.vae is None:
        return fresh_vae(recipe.config.preset, recipe.config.seed)
    return load_vae(paths.vae)


def _around_stock(recipe: Recipe, paths: StartPaths, find_preset: Callable[[str], ModelPreset]) -> MagicMirrorPipeline:
    """Stock CogVideoX with a fresh adapter, or with that of stage 1."""
    assert paths.start is not None and paths.identity_encoder is not None
    dtype = torch.bfloat16 if recipe.config.mixed_precision == "bf16" else torch.float32
    preset, cache = find_preset(recipe.config.preset), HubOptions().own_cache
    made_for = None if paths.adapter is None else adapter_description(paths.adapter)
    check_together(paths.start, component_configs(paths.start, STOCK_PARTS), preset, made_for)
    base, encoder = pipeline_folder(paths.start, parts=STOCK_PARTS), identity_encoder_path(paths.identity_encoder)
    # The adapter's first weights come from torch's global generator.
    with torch.random.fork_rng():
        torch.manual_seed(recipe.config.seed)
        pipeline = MagicMirrorPipeline(**assemble(base, encoder, preset, dtype, cache=cache))
    if paths.adapter is not None:
        for part in ADAPTER_PARTS:
            _widen_adapter(pipeline, part)
        pipeline.load_adapter(adapter_path(paths.adapter))
        _refuse_untrained(pipeline, recipe, paths.adapter)
    return pipeline


@torch.no_grad()
def _widen_adapter(pipeline: MagicMirrorPipeline, part: str) -> None:
    """Make room for the adapter's float32 values, so that nothing of stage 1 is rounded away."""
    module = getattr(pipeline, part)
    for name, value in module.named_parameters():
        if part != "transformer" or pipeline.transformer.is_adapter_key(name):
            value.data = value.data.float()


def _refuse_untrained(pipeline: MagicMirrorPipeline, recipe: Recipe, source: str) -> None:
    if adapter_is_untrained(pipeline.transformer):
        raise ConfigError(
            f'"{source}" has an adapter that was never trained; "{recipe.config.name}" goes on from stage 1.',
            "Train stage 1 first and start from what it saved.",
        )
