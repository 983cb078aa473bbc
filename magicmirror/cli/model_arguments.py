"""Arguments of every command that makes videos: which weights, and how they run."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magicmirror.settings import Settings

_NAMES = (
    "profile",
    "model_path",
    "adapter",
    "identity_encoder",
    "memory",
    "quantisation",
    "compile",
    "attention",
    "step_cache",
)
"""Names of the settings that the arguments stand for."""


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them; what is left out, ``None``, comes from the environment."""
    parser.add_argument("--profile", metavar="NAME", help="preview (default), cogvideox-5b or cogvideox-1.5-5b")
    parser.add_argument(
        "--model-path", metavar="BASE", type=Path, help="folder or hub id of the base, in place of the profile's"
    )
    parser.add_argument(
        "--adapter", metavar="ADAPTER", help="folder, file or hub id (owner/name@revision) of adapter weights"
    )
    parser.add_argument(
        "--identity-encoder", metavar="FILE", help="file, folder or hub id of PhotoMaker-V2's encoder, for a full size"
    )
    parser.add_argument(
        "--memory", metavar="POLICY", help="auto (default), resident, model, group or sequential; see docs/memory.md"
    )
    parser.add_argument("--quantisation", metavar="KIND", help="none (default), int8 or fp8 for the base's weights")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the model's blocks: the first video waits for it",
    )
    parser.add_argument(
        "--attention",
        metavar="KERNEL",
        help="for example native, _native_cudnn, padded, flash or sage; torch's choice if left out",
    )
    parser.add_argument(
        "--step-cache",
        metavar="CACHE",
        help="first-block or first-block:0.1: steps reuse blocks of the one before, which changes the video;"
        " none (default)",
    )


def with_model_arguments(settings: Settings, args: argparse.Namespace) -> Settings:
    """The settings with what was given on the command line in place of the environment's."""
    return replace(settings, **{name: getattr(args, name) for name in _NAMES if getattr(args, name) is not None})
