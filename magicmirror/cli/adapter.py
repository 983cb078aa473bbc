"""``adapter``: what adapter weights are, a package of them for others, and the way to the hub."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magicmirror.pipeline.adapter_package import AdapterReport

_SOURCE = "adapter (folder, file or hub id), saved pipeline, or folder of a finished training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three actions and their arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    inspect = actions.add_parser("inspect", help="show format, sizes, precision, base and recipe")
    inspect.add_argument("source", metavar="ADAPTER", help="folder, file or hub id (owner/name@revision)")
    inspect.add_argument("--json", action="store_true", help="print everything as JSON")
    export = actions.add_parser("export", help="write a package with model card, or one file")
    export.add_argument("source", metavar="SOURCE", help=_SOURCE)
    export.add_argument("target", metavar="TARGET", type=Path, help="new folder, or FILE.safetensors for weights alone")
    export.add_argument("--dtype", metavar="TYPE", help="float32, float16 or bfloat16; the source's if left out")
    push = actions.add_parser(
        "push", help="publish a package on the hub", description="Logs in by `hf auth login` or HF_TOKEN."
    )
    push.add_argument("source", metavar="SOURCE", help=_SOURCE)
    push.add_argument("repository", metavar="OWNER/NAME", help="made if needed")
    push.add_argument("--private", action="store_true", help="make a new repository private")
    push.add_argument("--revision", metavar="BRANCH", help="branch that exists; main if left out")
    for action in (export, push):
        action.add_argument("--license", metavar="ID", help="of the weights, for the model card, as apache-2.0")


def run(args: argparse.Namespace) -> int:
    """Do what was asked for."""
    from magicmirror.pipeline.adapter_package import export_adapter, inspect_adapter, push_adapter

    if args.action == "inspect":
        report = inspect_adapter(args.source)
        print(json.dumps(asdict(report), indent=2) if args.json else _table(report))
    elif args.action == "export":
        print(_table(export_adapter(args.source, args.target, args.dtype, args.license)))
        print(f"written to {args.target}")
    else:
        options = {"private": args.private, "revision": args.revision, "license_id": args.license}
        print(f"published at {push_adapter(args.source, args.repository, **options)}")
    return 0


def _table(report: AdapterReport) -> str:
    """One fact a line."""
    recipe = report.record.get("recipe")
    facts = {
        "format": report.version,
        "base": report.base_class,
        "preset": report.preset or "none of this release",
        **{f"{part}, parameters": f"{count:,}" for part, count in report.parts.items()},
        "precision": ", ".join(report.dtypes),
        "size": f"{report.num_bytes / 1e6:.1f} MB",
        "SHA-256": report.sha256,
        "recipe": (recipe.get("name") if isinstance(recipe, dict) else recipe) or "not recorded",
    }
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in facts.items())
