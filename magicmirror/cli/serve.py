"""``serve``: the page and the API, as ``python app.py`` does."""

from __future__ import annotations

import argparse

from magicmirror.cli.speed import SPEED_ARGUMENTS, add_speed_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``serve``; what is left out comes from the environment."""
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on; 0.0.0.0 for all")
    parser.add_argument("--port", metavar="N", type=int, help="port, 7860 by default")
    parser.add_argument("--profile", metavar="NAME", help="preview (default), cogvideox-5b or cogvideox-1.5-5b")
    parser.add_argument(
        "--memory", metavar="POLICY", help="auto (default), resident, model, group or sequential; see docs/memory.md"
    )
    parser.add_argument("--quantisation", metavar="KIND", help="none (default), int8 or fp8 for the base's weights")
    add_speed_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    import logging
    from dataclasses import replace

    from magicmirror.pipeline.freed_memory import keep_freed_memory
    from magicmirror.serving.local_engine import LocalEngine
    from magicmirror.settings import Settings
    from magicmirror.ui.launch import serve
    from magicmirror.ui.page import build_app

    keep_freed_memory()
    logging.getLogger("magicmirror").setLevel(logging.DEBUG if args.verbose else logging.INFO)
    names = ("host", "port", "profile", "memory", "quantisation", *SPEED_ARGUMENTS)
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    settings = replace(Settings.from_environment(), **given)
    engine = LocalEngine.from_settings(settings)
    serve(build_app(engine, settings), engine, settings)
    return 0
