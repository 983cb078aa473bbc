"""``serve``: the page and the API, as ``python app.py`` does."""

from __future__ import annotations

import argparse

from magicmirror.cli.model_arguments import add_model_arguments, with_model_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``serve``; what is left out comes from the environment."""
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on; 0.0.0.0 for all")
    parser.add_argument("--port", metavar="N", type=_port, help="port, 7860 by default")
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    import logging
    from dataclasses import replace

    from magicmirror.pipeline.freed_memory import keep_freed_memory
    from magicmirror.serving.local_engine import LocalEngine
    from magicmirror.settings import Settings
    from magicmirror.ui.launch import check_port, serve
    from magicmirror.ui.page import build_app

    keep_freed_memory()
    logging.getLogger("magicmirror").setLevel(logging.DEBUG if args.verbose else logging.INFO)
    given = {name: getattr(args, name) for name in ("host", "port") if getattr(args, name) is not None}
    settings = with_model_arguments(replace(Settings.from_environment(), **given), args)
    check_port(settings)
    engine = LocalEngine.from_settings(settings)
    serve(build_app(engine, settings), engine, settings)
    return 0


def _port(text: str) -> int:
    """Read ``--port``; the settings would blame a variable that nobody has set."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 65535, got {text}")
    return int(text)
