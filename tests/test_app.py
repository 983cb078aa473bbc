"""``python app.py``: serves the page, honours the environment, ends in good order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from magicmirror.settings import Settings


def test_app_is_only_the_wiring(repository):
    assert len((repository / "app.py").read_text().splitlines()) < 40


def test_the_page_is_served_even_without_weights_and_ends_on_sigterm(repository, find_port, tmp_path):
    port = find_port()
    names = {name: value for name, value in os.environ.items() if not name.startswith(("MAGICMIRROR_", "GRADIO_"))}
    environment = {
        **names,
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(tmp_path / "uploads"),
        "MAGICMIRROR_OUTPUT_DIR": str(tmp_path / "results"),
        "MAGICMIRROR_MODEL_PATH": str(tmp_path / "no weights"),
    }
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=repository, env=environment, stderr=subprocess.PIPE, text=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        assert "<gradio-app" in _read(url, process)
        config = json.loads(_read(f"{url}/config", process))
        assert config["title"] == "MagicMirror" and config["analytics_enabled"] is False
        health = _health(url)
        while health["ready"]:  # until the attempt to load the weights has failed
            time.sleep(0.5)
            health = _health(url)
        assert "weights" in health["message"] and health["profile"] == "preview"
        assert str(tmp_path) not in health["message"]
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"{url}/health", timeout=10)
        process.send_signal(signal.SIGTERM)
        log = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode == 0, log


@pytest.mark.parametrize("start", [["app.py"], ["-m", "magicmirror", "serve"]], ids=["app.py", "serve"])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"MAGICMIRROR_PORT": "abc"}, "MAGICMIRROR_PORT must be a whole number"),
        ({"MAGICMIRROR_PROMPT_FILTER": "no/such/rules.txt"}, "rules.txt"),
        ({}, " is in use. Choose another with --port or MAGICMIRROR_PORT."),
    ],
)
def test_a_start_that_cannot_work_ends_in_one_line(repository, find_port, tmp_path, start, changes, reason):
    names = {name: value for name, value in os.environ.items() if not name.startswith(("MAGICMIRROR_", "GRADIO_"))}
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = find_port() if "MAGICMIRROR_PROMPT_FILTER" in changes else other.getsockname()[1]
        environment = {
            **names,
            "MAGICMIRROR_PORT": str(port),
            "MAGICMIRROR_OUTPUT_DIR": str(tmp_path / "results"),
            **changes,
        }
        done = subprocess.run(
            [sys.executable, *start], cwd=repository, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and reason in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("host", "reason"),
    [("127.0.0.1", "Port {port} is in use. Choose"), ("203.0.113.1", "port {port} of 203.0.113.1. Choose")],
)
def test_a_port_that_is_taken_after_the_check_ends_in_one_line_too(repository, find_port, tmp_path, host, reason):
    names = {name: value for name, value in os.environ.items() if not name.startswith(("MAGICMIRROR_", "GRADIO_"))}
    late = "import app, sys; app.check_port = lambda settings: None; sys.exit(app.main())"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1] if host == "127.0.0.1" else find_port()
        environment = {
            **names,
            "MAGICMIRROR_HOST": host,
            "MAGICMIRROR_PORT": str(port),
            "MAGICMIRROR_OUTPUT_DIR": str(tmp_path / "results"),
            "MAGICMIRROR_MODEL_PATH": str(tmp_path / "no weights"),
        }
        done = subprocess.run(
            [sys.executable, "-c", late], cwd=repository, env=environment, capture_output=True, text=True, check=False
        )
    *log, last = done.stderr.splitlines()
    assert done.returncode == 2 and last.startswith("app.py: ") and reason.format(port=port) in last, done.stderr
    assert not any("gradio" in line or "uvicorn" in line for line in log)


def test_a_port_out_of_range_on_the_command_line_is_said_of_its_argument(capsys):
    from magicmirror.cli.main import main

    for port in ("99999", "0", "x"):
        with pytest.raises(SystemExit) as left:
            main(["serve", "--port", port])
        error = capsys.readouterr().err
        assert left.value.code == 2 and f"argument --port: must be a whole number from 1 to 65535, got {port}" in error


def test_settings_come_before_gradios_names():
    both = {"GRADIO_SERVER_PORT": "9001", "GRADIO_SERVER_NAME": "0.0.0.0"}
    assert (Settings.from_environment(both).port, Settings.from_environment(both).host) == (9001, "0.0.0.0")
    assert Settings.from_environment({**both, "MAGICMIRROR_PORT": "9002"}).port == 9002


def _read(url, process):
    """Return the page as soon as it is served."""
    while process.poll() is None:
        try:
            return urllib.request.urlopen(url, timeout=10).read().decode()
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.3)
    raise AssertionError(process.stderr.read())


def _health(url):
    call = urllib.request.Request(
        f"{url}/gradio_api/call/health", b'{"data": []}', {"Content-Type": "application/json"}
    )
    event_id = json.load(urllib.request.urlopen(call, timeout=60))["event_id"]
    answer = urllib.request.urlopen(f"{url}/gradio_api/call/health/{event_id}", timeout=60).read().decode()
    return json.loads(answer.split("data: ")[-1])[0]
