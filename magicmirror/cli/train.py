"""``train``: run a recipe of the trainer, or go on with it; the same command resumes after an interruption.

python -m magicmirror train joint --data shards/ --start runs/tower/pipeline --output runs/joint
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``train``."""
    parser.add_argument("recipe", metavar="RECIPE", help="tower, joint or likeness (magicmirror/training/recipes.py)")
    parser.add_argument("--data", type=Path, action="append", required=True, metavar="DIR", help="shards of `prepare`")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="gets checkpoints and pipeline")
    parser.add_argument("--start", type=Path, metavar="DIR", help="saved pipeline to start from")
    parser.add_argument("--vae", type=Path, metavar="DIR", help="without --start: trained VAE for new networks")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="without --start: tokenizer for new networks")
    parser.add_argument("--max-steps", type=int, metavar="N", help="in place of the recipe's")
    parser.add_argument("--max-hours", type=float, metavar="H", help="stop with a checkpoint after this wall time")
    parser.add_argument("--seed", type=int, default=0, help="of weights, noise and data order (default: 0)")
    parser.add_argument("--allow-incomplete", action="store_true", help="train on the shards that are there already")
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
    from dataclasses import replace

    from magicmirror.errors import ConfigError
    from magicmirror.training.recipes import find_recipe

    logging.getLogger("magicmirror").setLevel(logging.INFO)
    recipe = find_recipe(args.recipe)
    changes = {"seed": args.seed, **({"max_steps": args.max_steps} if args.max_steps is not None else {})}
    recipe = replace(recipe, config=replace(recipe.config, **changes))
    if args.start is None and (args.vae is None or args.tokenizer is None):
        raise ConfigError("There are no networks to start from.", "Give --start, or --vae and --tokenizer.")

    import torch

    from magicmirror.pipeline.pipeline import MagicMirrorPipeline
    from magicmirror.training.networks import fresh_pipeline
    from magicmirror.training.run import dry_run, train

    _hide_progress_bars()
    if args.start is not None:
        # Said aloud, because transformers takes the precision of the file, and a finished run's file is in half.
        pipeline = MagicMirrorPipeline.from_pretrained(args.start, dtype=torch.float32)
    else:
        pipeline = fresh_pipeline(recipe.config.preset, args.vae, args.tokenizer, args.seed)
    if args.dry_run:
        print(dry_run(recipe, args.data, pipeline, args.output, args.allow_incomplete))
        return 0
    print(f"saved {train(recipe, args.data, pipeline, args.output, args.max_hours, args.allow_incomplete)}")
    return 0


def _hide_progress_bars() -> None:
    """Those of loading and saving: the log lines say enough, and a refusal stays one line."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()
