"""Serve the app until the process is asked to end, then end the engine in good order."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import threading
from dataclasses import asdict
from typing import Any

import gradio as gr

from magicmirror.errors import ConfigError
from magicmirror.serving.engine import Engine
from magicmirror.settings import Settings
from magicmirror.ui.page import EXAMPLES_FOLDER
from magicmirror.ui.stylesheet import CSS
from magicmirror.ui.theme import build_theme

log = logging.getLogger(__name__)

_OTHER_PORT = "Choose another with --port or MAGICMIRROR_PORT."


def launch_options(settings: Settings) -> dict[str, Any]:
    """Return the arguments of ``Blocks.launch`` that belong to this app."""
    login = {"auth": list(settings.logins)} if settings.logins else {}
    return {
        **login,
        "server_name": settings.host,
        "server_port": settings.port,
        "theme": build_theme(),
        "css": CSS,
        "max_file_size": settings.max_upload_bytes,
        "allowed_paths": [str(EXAMPLES_FOLDER), str(settings.output_dir.resolve())],
        "run_history": False,
        "footer_links": ["api"],
        "ssr_mode": False,
        "share": False,
        "show_error": False,
    }


def check_port(settings: Settings) -> None:
    """Refuse a port that cannot be had, before the model is loaded; whatever else is wrong Gradio says later.

    Raises:
        ConfigError: When another program listens there, or this one may not.
    """
    # Gradio tries the second one as well, whatever the host is.
    for host in {settings.host, "127.0.0.1"}:
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                if os.name == "posix":  # a port that was just given up counts as free, as it does for the server
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(f"Port {settings.port} is in use.", _OTHER_PORT) from error
            if error.errno == errno.EACCES:
                raise ConfigError(f"Port {settings.port} is not open to this user.", _OTHER_PORT) from error


def add_health_route(server: Any, engine: Engine) -> None:
    """Answer plain GET requests for ``/health``, also without login: 200 when jobs are taken, 503 when not.

    Args:
        server: The FastAPI application that ``Blocks.launch`` returns.
        engine: Whose health is asked for.
    """
    from fastapi.responses import JSONResponse

    def health() -> JSONResponse:
        report = asdict(engine.health())
        return JSONResponse(report, status_code=200 if report["ready"] else 503)

    server.add_api_route("/health", health, methods=["GET"], include_in_schema=False)


def serve(app: gr.Blocks, engine: Engine, settings: Settings) -> None:
    """Launch the app and block until Ctrl-C or SIGTERM; the running job is stopped, waiting ones are marked.

    Args:
        app: Of ``build_app``.
        engine: The same engine; it is closed on return.
        settings: Address and limits.

    Raises:
        ConfigError: When the address cannot be had (any more).
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = _launch(app, settings)
        add_health_route(server, engine)
        log.info("Serving %s on http://%s:%d", settings.profile, settings.host, settings.port)
        stop.wait()
    finally:
        app.close()
        engine.close()


def _launch(app: gr.Blocks, settings: Settings) -> Any:
    """Launch the app and return its server.

    Raises:
        ConfigError: When somebody has taken the port since it was checked, or the address is not one of this machine.
    """
    try:
        return app.launch(prevent_thread_lock=True, quiet=True, **launch_options(settings))[0]
    except OSError as error:
        check_port(settings)
        raise ConfigError(
            f"Nothing can be served on port {settings.port} of {settings.host}.",
            f"{_OTHER_PORT.removesuffix('.')}, or another address with --host or MAGICMIRROR_HOST.",
        ) from error
