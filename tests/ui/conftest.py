"""A running app on a fake engine, and a client in the same process."""

from __future__ import annotations

import pytest

from magicmirror.serving.fake_engine import FakeEngine
from magicmirror.serving.storage import ResultStorage
from magicmirror.settings import Settings


@pytest.fixture
def launch(tmp_path, monkeypatch, find_port):
    """``launch(script, login) -> (url, engine)``; apps and engines are closed at the end of the test."""
    from magicmirror.ui.launch import launch_options
    from magicmirror.ui.page import build_app

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    opened = []

    def start(script=(), login=None, **options):
        settings = Settings(output_dir=tmp_path / "results", login=login)
        engine = FakeEngine(ResultStorage(settings.output_dir), script, **options)
        app = build_app(engine, settings)
        opened.append((app, engine))
        chosen = {**launch_options(settings), "server_name": "127.0.0.1", "server_port": find_port(), "quiet": True}
        _, url, _ = app.launch(prevent_thread_lock=True, **chosen)
        return url, engine

    yield start
    for app, engine in opened:
        app.close()
        engine.close()


@pytest.fixture
def connect(launch):
    """``connect(script) -> (client, engine)`` through the network."""
    from gradio_client import Client

    clients = []

    def start(script=(), **options):
        url, engine = launch(script, **options)
        clients.append(Client(url, verbose=False))
        return clients[-1], engine

    yield start
    for client in clients:
        client.close()
