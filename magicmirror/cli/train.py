"""``train``: run a recipe of the trainer, or go on with it; the same command resumes after an interruption.

python -m magicmirror train joint --data shards/ --start runs/tower/pipeline --output runs/joint
accelerate launch -m magicmirror train cogvideox_5b_stage1 --data shards/ --start CogVideoX-5b/ \
    --identity-encoder photomaker-v2.bin --output runs/stage1
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magicmirror.training.recipes import Recipe

_NAMES = (
    "vae, decoder, anchored_vae, tower, captions, joint, likeness, predicted_decoder, base, stage1_images, "
    "stage2_videos, cogvideox_5b_stage1, cogvideox_5b_stage2, cogvideox_1_5_5b_stage1 or cogvideox_1_5_5b_stage2 "
    "(magicmirror/training/recipes.py)"
)
_SETTINGS = (
    "seed",
    "max_steps",
    "learning_rate",
    "identity_loss",
    "micro_batch",
    "checkpoint_steps",
    "validation_steps",
    "log_steps",
    "mixed_precision",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``train``."""
    parser.add_argument("recipe", metavar="RECIPE", help=_NAMES)
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="folder of shards of `prepare`; for (predicted_)decoder and vae its manifest.jsonl; captions takes none",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="gets checkpoints and networks")
    start = parser.add_argument_group("what to start from (magicmirror/training/start.py says which recipe takes what)")
    start.add_argument("--start", metavar="DIR", help="saved pipeline; for CogVideoX the stock folder or hub id")
    start.add_argument(
        "--vae", type=Path, metavar="DIR", help="trained VAE, for new networks, to go on from or to change to"
    )
    start.add_argument("--tokenizer", type=Path, metavar="DIR", help="tokenizer for new networks, or to change to")
    start.add_argument("--identity-encoder", metavar="PATH", help="PhotoMaker-V2's file, its folder or hub id")
    start.add_argument("--adapter", metavar="DIR", help="adapter of stage 1, for stage 2 of CogVideoX")
    start.add_argument("--portraits", type=Path, metavar="DIR", help="pictures of the manifest, where --data is one")
    start.add_argument("--allow-incomplete", action="store_true", help="train on the shards that are there already")
    settings = parser.add_argument_group("settings in place of the recipe's")
    settings.add_argument("--max-steps", type=int, metavar="N", help="optimiser steps")
    settings.add_argument("--learning-rate", type=float, metavar="RATE", help="the highest of the run")
    settings.add_argument(
        "--identity-loss",
        type=float,
        metavar="WEIGHT",
        help="of the paper's identity term, whose size it does not state; CogVideoX's recipes have it at 0 "
        "and need insightface's pack buffalo_l for more",
    )
    settings.add_argument("--seed", type=int, help="of weights, noise and data order (default: 0)")
    settings.add_argument("--micro-batch", type=int, metavar="N", help="samples a process takes at once, at most")
    settings.add_argument("--checkpoint-steps", type=int, metavar="N", help="steps between checkpoints")
    settings.add_argument("--validation-steps", type=int, metavar="N", help="steps between validation pictures")
    settings.add_argument("--log-steps", type=int, metavar="N", help="steps between log lines")
    settings.add_argument("--mixed-precision", choices=("no", "bf16"), help="precision of the arithmetic")
    settings.add_argument(
        "--gradient-checkpointing",
        action=argparse.BooleanOptionalAction,
        help="compute activations twice rather than keep them",
    )
    parser.add_argument(
        "--new-settings", action="store_true", help="go on with a run although settings that change its result differ"
    )
    parser.add_argument("--max-hours", type=float, metavar="H", help="stop, with a checkpoint, within this wall time")
    parser.add_argument("--tensorboard", action="store_true", help="write curves to DIR/curves")
    parser.add_argument("--dry-run", action="store_true", help="do two steps, write nothing, and say what they took")


def run(args: argparse.Namespace) -> int:
    """Train.

    Args:
        args: As ``add_arguments`` declares.

    Returns:
        Exit status 0.

    Raises:
        MagicMirrorError: When recipe, data or start are unusable, or the loss diverges.
    """
    import logging
    import os

    from magicmirror.errors import ConfigError

    first = os.environ.get("RANK", "0") == "0"  # set by `accelerate launch` where several processes train
    logging.getLogger("magicmirror").setLevel(logging.INFO if first else logging.WARNING)
    recipe = _recipe(args)
    if bool(args.data) == (recipe.objective == "captions"):
        if args.data:
            raise ConfigError('The recipe "captions" has no use for --data: it makes its captions.', "Leave it out.")
        raise ConfigError(f'The recipe "{args.recipe}" needs --data.', "Name a folder of shards of `prepare`.")
    if args.max_hours is not None and not args.max_hours > 0:
        raise ConfigError(f"--max-hours must be positive, got {args.max_hours}.")

    from magicmirror.training.run import dry_run, train
    from magicmirror.training.start import StartPaths, load_start, load_vae_start

    paths = StartPaths(args.start, args.vae, args.tokenizer, args.identity_encoder, args.adapter)
    _hide_progress_bars()
    networks = load_vae_start(recipe, paths) if recipe.objective == "vae" else load_start(recipe, paths)
    if args.dry_run:
        text = dry_run(recipe, args.data, networks, args.output, args.allow_incomplete, args.portraits)
        if first:
            print(text)
        return 0
    folder = train(
        recipe,
        args.data,
        networks,
        args.output,
        args.max_hours,
        args.allow_incomplete,
        args.portraits,
        args.tensorboard,
        args.new_settings,
    )
    if first:
        print(f"saved {folder}")
    return 0


def _recipe(args: argparse.Namespace) -> Recipe:
    """The recipe with the settings of the command line."""
    from dataclasses import replace

    from magicmirror.training.recipes import find_recipe

    recipe = find_recipe(args.recipe)
    names = (*_SETTINGS, "gradient_checkpointing")
    changes = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return replace(recipe, config=replace(recipe.config, **changes))


def _hide_progress_bars() -> None:
    """Those of loading and saving: the log lines say enough, and a refusal stays one line."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()
