"""What every room's tests share: the example faces, one loaded analyzer, the browser."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

# The suite must pass without a network, and must never wait for one.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Nor may it write into the cache of whoever runs it.
_hub_home = tempfile.TemporaryDirectory(prefix="magicmirror-tests-")
os.environ["HF_HOME"] = _hub_home.name
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder of the example faces."""
    return ROOT / "assets" / "examples"


@pytest.fixture(scope="session")
def face_analyzer():
    """One dlib analyzer for the whole run; its weights take a moment to load."""
    from magicmirror.faces.analyzer import create_face_analyzer

    return create_face_analyzer("dlib")


@pytest.fixture(scope="session")
def example_references(examples, face_analyzer):
    """Name of the picture -> its one analysed face, for all one-person examples."""
    from magicmirror.faces.selection import choose_face
    from magicmirror.media import load_image

    paths = sorted(path for path in examples.glob("*.jpg") if path.stem != "two_people")
    return {path.stem: choose_face(face_analyzer.analyze(load_image(path))) for path in paths}


@pytest.fixture(scope="session")
def run_coroutine():
    """``run_coroutine(coroutine) -> result``; to be used instead of ``asyncio.run``.

    Playwright's synchronous interface keeps an event loop running in the main thread once a browser test has run, and
    ``asyncio.run`` refuses to work beside it. A thread of its own has no loop.
    """

    def run(coroutine):
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(asyncio.run, coroutine).result()

    return run


@pytest.fixture(scope="session")
def find_port():
    """``find_port() -> port`` that is free; Gradio's own search takes the same one in two processes at a time."""

    def find():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find


@pytest.fixture
def serve_process(repository, tmp_path, find_port):
    """``serve_process(*arguments) -> (process, url)``: Python with these arguments, once its server is ready.

    Port and results folder are in its environment; every call of a test has the same results and uploads.
    """
    processes = []

    def start(*arguments):
        url, names = f"http://127.0.0.1:{(port := find_port())}/", os.environ.items()
        clean = {name: value for name, value in names if not name.startswith(("MAGICMIRROR_", "GRADIO_"))}
        chosen = {"MAGICMIRROR_PORT": str(port), "MAGICMIRROR_OUTPUT_DIR": str(tmp_path / "results")}
        chosen |= {"GRADIO_TEMP_DIR": str(tmp_path / "uploads"), "PYTHONPATH": str(repository)}
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=repository, env={**clean, **chosen}, stderr=subprocess.DEVNULL
        )
        processes.append(process)
        while process.poll() is None:
            try:
                assert json.load(urllib.request.urlopen(url + "health", timeout=10))["ready"]
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.2)
            else:
                return process, url
        raise AssertionError("the server did not start")

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium; the test is skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return path
    pytest.skip("no Chromium on the PATH; install the package chromium to run the browser tests")
