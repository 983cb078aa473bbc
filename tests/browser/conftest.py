"""A real browser on a running app."""

from __future__ import annotations

import pytest

from magicmirror.settings import Settings

WAIT_MS = 120_000  # on an idle machine everything takes a second or two


@pytest.fixture(scope="module")
def browser(chromium):
    """One headless Chromium for all tests of a file."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, headless=True, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, tmp_path, monkeypatch):
    """``open_page(engine) -> page`` on an app of its own; everything is closed at the end of the test."""
    from magicmirror.ui.launch import launch_options
    from magicmirror.ui.page import build_app

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    opened = []

    def start(engine, **context):
        settings = Settings(output_dir=tmp_path / "results")
        app = build_app(engine, settings)
        chosen = {**launch_options(settings), "server_port": None, "quiet": True}
        _, url, _ = app.launch(prevent_thread_lock=True, **chosen)
        session = browser.new_context(accept_downloads=True, **context)
        opened.append((session, app, engine))
        page = session.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(url)
        page.locator("#mm-generate").wait_for()
        return page

    yield start
    for session, app, engine in opened:
        session.close()
        app.close()
        engine.close()
