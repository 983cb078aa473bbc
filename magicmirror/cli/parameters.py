"""``parameters``: how many parameters each part of the model has."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``parameters``."""
    parser.add_argument(
        "--preset",
        choices=("cogvideox-5b", "cogvideox-1.5-5b", "preview"),
        default="cogvideox-5b",
        help="size of the model",
    )


def run(args: argparse.Namespace) -> int:
    """Print the table; nothing is downloaded, the model is only described."""
    from magicmirror.models.parameters import parameter_table

    print(parameter_table(args.preset))
    return 0
