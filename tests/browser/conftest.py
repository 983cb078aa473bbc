"""A real browser on running apps: one on a fake engine for all tests, and others where a test needs its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from magicmirror.serving.fake_engine import FakeEngine, FakeJob
from magicmirror.serving.storage import ResultStorage
from magicmirror.settings import Settings

WAIT_MS = 90_000  # on an idle machine everything takes a second or two


class ScriptedEngine(FakeEngine):
    """A fake engine that is told in the middle how its next jobs go."""

    def play(self, *jobs):
        self._script.extend(jobs)


@dataclass(frozen=True)
class Studio:
    """A running app."""

    url: str
    engine: ScriptedEngine
    folder: Path

    @property
    def uploads(self):
        return self.folder / "uploads"


@pytest.fixture(scope="session")
def browser(chromium, examples, tmp_path_factory):
    """One headless Chromium for all tests; before its camera sits the man of an example."""
    from playwright.sync_api import sync_playwright

    camera = tmp_path_factory.mktemp("camera") / "man.mjpeg"
    camera.write_bytes((examples / "man_1.jpg").read_bytes() * 2)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    flags += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera}"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, headless=True, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def studio(tmp_path_factory, find_port):
    """One app on a fake engine with two waiting places; every test comes to it as new visitors."""
    folder = tmp_path_factory.mktemp("studio")
    # Not too fast: a page that hears of start and end at once never shows what is between.
    engine = ScriptedEngine(ResultStorage(folder / "results"), default=FakeJob(step_s=0.1), capacity=2)
    with pytest.MonkeyPatch.context() as patch:
        app, url = start(engine, folder, patch, find_port())
        yield Studio(url, engine, folder)
        app.close()
        engine.close()


@pytest.fixture
def serve(tmp_path, monkeypatch, find_port):
    """``serve(engine) -> url`` of an app of its own; both are closed at the end of the test, or by ``serve.stop()``."""
    opened = []

    def launch(engine, port=None):
        app, url = start(engine, tmp_path, monkeypatch, port or find_port())
        opened.append((app, engine))
        return url

    def stop():
        while opened:
            app, engine = opened.pop()
            app.close()
            engine.close()

    launch.stop = stop
    yield launch
    stop()


@pytest.fixture
def visit(browser):
    """``visit(url) -> page`` of a new visitor, ready to use.

    At the end of the test no script has failed on any page, and nothing was fetched from anywhere else.
    """
    contexts, asked, errors = [], [], []

    def come(url, **options):
        context = browser.new_context(accept_downloads=True, **options)
        contexts.append(context)
        context.on("request", lambda request: asked.append(request.url))
        context.on("weberror", lambda error: errors.append(str(error.error)))
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        arrive(page, url)
        return page

    yield come
    for context in contexts:
        context.close()
    outside = [url for url in asked if not url.startswith(("http://127.0.0.1", "data:", "blob:"))]
    assert errors == [] and outside == []


def start(engine, folder, patch, port):
    """Launch an app on an engine; returns it and its address."""
    from magicmirror.ui.launch import launch_options
    from magicmirror.ui.page import build_app

    patch.setenv("GRADIO_TEMP_DIR", str(folder / "uploads"))
    settings = Settings(output_dir=folder / "results")
    app = build_app(engine, settings)
    chosen = {**launch_options(settings), "server_name": "127.0.0.1", "server_port": port, "quiet": True}
    _, url, _ = app.launch(prevent_thread_lock=True, **chosen)
    return app, url


def arrive(page, url):
    """Go to the page and wait until it knows its visitor."""
    page.goto(url)
    page.locator("#mm-history p, #mm-history li").first.wait_for()
