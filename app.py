"""Serve the page: ``python app.py``, then open http://127.0.0.1:7860."""

from __future__ import annotations

import logging
import sys

from magicmirror.errors import MagicMirrorError
from magicmirror.pipeline.freed_memory import keep_freed_memory
from magicmirror.serving.local_engine import LocalEngine
from magicmirror.serving.zero_gpu import prepare
from magicmirror.settings import Settings
from magicmirror.ui.launch import check_port, serve
from magicmirror.ui.page import build_app


def main() -> int:
    """Read the settings, build engine and page, launch; returns the exit status."""
    keep_freed_memory()
    prepare()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.from_environment()
        check_port(settings)
        engine = LocalEngine.from_settings(settings)
        serve(build_app(engine, settings), engine, settings)
    except MagicMirrorError as error:
        sys.stderr.write(" ".join(f"app.py: {error}".split()) + "\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
