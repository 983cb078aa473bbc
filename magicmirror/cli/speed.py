"""Arguments of every command that makes videos: what may make the model faster."""

from __future__ import annotations

import argparse

SPEED_ARGUMENTS = ("compile", "attention", "step_cache")
"""Names of the settings that the arguments stand for."""


def add_speed_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them; what is left out, ``None``, comes from the environment."""
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the model's blocks: the first video waits for it",
    )
    parser.add_argument(
        "--attention",
        metavar="KERNEL",
        help="for example native, _native_cudnn, flash or sage; torch's choice if left out",
    )
    parser.add_argument(
        "--step-cache",
        metavar="CACHE",
        help="first-block or first-block:0.1: steps reuse blocks of the one before, which changes the video;"
        " none (default)",
    )
