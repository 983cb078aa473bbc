"""Serve the page: ``python app.py``, then open http://127.0.0.1:7860."""

from __future__ import annotations

import logging

from magicmirror.pipeline.freed_memory import keep_freed_memory
from magicmirror.serving.local_engine import LocalEngine
from magicmirror.serving.zero_gpu import prepare
from magicmirror.settings import Settings
from magicmirror.ui.launch import serve
from magicmirror.ui.page import build_app


def main() -> None:
    """Read the settings, build engine and page, launch."""
    keep_freed_memory()
    prepare()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings.from_environment()
    engine = LocalEngine.from_settings(settings)
    serve(build_app(engine, settings), engine, settings)


if __name__ == "__main__":
    main()
