"""Deployment without a daemon: the Dockerfile's steps, the Space's header, the table of settings."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from magicmirror.settings import PREFIX, Settings


@pytest.fixture(scope="module")
def steps(repository):
    """The Dockerfile as (instruction, arguments), continuation lines joined, comments left out."""
    text = re.sub(r"\\\n", " ", (repository / "Dockerfile").read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def values(steps, name):
    return [arguments for instruction, arguments in steps if instruction == name]


def environment(steps, variant):
    pairs = [pair for arguments in values(steps, "ENV") for pair in shlex.split(arguments)]
    return {name: value.replace("${VARIANT}", variant) for name, _, value in (pair.partition("=") for pair in pairs)}


def test_nothing_runs_as_root_and_the_user_is_the_one_that_spaces_expect(steps):
    names = [instruction for instruction, _ in steps]
    assert values(steps, "USER") == ["1000"]
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])
    assert any("useradd" in run and "--uid 1000" in run for run in values(steps, "RUN"))
    assert values(steps, "EXPOSE") == ["7860"]


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_the_environment_of_the_image_makes_settings(steps, variant):
    settings = Settings.from_environment(environment(steps, variant))
    assert (settings.host, settings.port, settings.device) == ("0.0.0.0", 7860, variant)
    home = environment(steps, variant)["HOME"]
    assert environment(steps, variant)["HF_HOME"].startswith(home) and str(settings.output_dir).startswith(home)
    assert {argument.split("=")[0] for argument in values(steps, "ARG")} == {"VARIANT", "TORCH_INDEX"}


def test_everything_that_is_copied_is_there_and_not_ignored(steps, repository):
    ignored = (repository / ".dockerignore").read_text().split()
    for arguments in values(steps, "COPY"):
        *sources, _ = [part for part in arguments.split() if not part.startswith("--")]
        assert all((repository / source).exists() and source not in ignored for source in sources)
    weights = subprocess.run(
        ["git", "ls-files", "assets/models/preview"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.split()
    assert any(name.endswith(".safetensors") for name in weights)
    assert not any(name.startswith(tuple(f"{entry}/" for entry in ignored)) for name in weights)
    assert "outputs" in ignored and ".git" in ignored


def test_the_steps_that_read_the_requirements_work(steps, repository):
    (install,) = (run for run in values(steps, "RUN") if "pip install" in run)
    (assignment,) = re.findall(r'torch="(\$\(.*?\))"', install)
    found = subprocess.run(
        ["bash", "-c", f"echo {assignment}"], cwd=repository, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"torch==[\d.]+\n", found.stdout)
    assert subprocess.run(["bash", "-n", "-c", install], check=False).returncode == 0
    assert os.access(repository / ".ci" / "opencv", os.X_OK)
    # In an environment with all requirements installed, pip has nothing to fetch and says so.
    check = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--quiet", "-r", "requirements.txt"]
    dry = subprocess.run(check, cwd=repository, capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check_asks_the_server(steps, status, healthy):
    (arguments,) = values(steps, "HEALTHCHECK")
    command = json.loads(arguments[arguments.index("[") :])
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    port = server.server_port
    if status is None:  # nobody listens
        server.shutdown()
        server.server_close()
    try:
        command = [sys.executable if part == "python" else part.replace("7860", str(port)) for part in command]
        assert (subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0) is healthy
        assert asked == ([] if status is None else ["/health"])
    finally:
        if status is not None:
            server.shutdown()
            server.server_close()
        thread.join()


def test_the_command_of_the_image_is_the_app(steps, repository):
    assert [json.loads(arguments) for arguments in values(steps, "CMD")] == [["python", "app.py"]]
    assert (repository / "app.py").is_file()


def test_the_readme_makes_the_repository_a_space(repository):
    _, header, _ = (repository / "README.md").read_text().split("---\n", 2)
    entries = dict(line.split(": ", 1) for line in header.splitlines() if ": " in line)
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)$", (repository / "requirements.txt").read_text(), re.MULTILINE))
    assert entries["sdk"] == "gradio" and entries["sdk_version"] == pins["gradio"]
    assert (repository / entries["app_file"]).is_file() and entries["python_version"] == '"3.11"'
    assert entries["suggested_hardware"] == "cpu-basic"
    assert len(entries["short_description"]) <= 60 and entries["license"] == "apache-2.0"
    assert set(entries["colorFrom"].split()) | {entries["colorTo"]} <= {
        "red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray",
    }  # fmt: skip


def test_the_table_of_settings_in_the_docs_is_complete_and_current(repository):
    documented = re.findall(
        r"^\| `(MAGICMIRROR_\w+)` \| (.*?) \| (.*?) \|$", (repository / "docs/deploy.md").read_text(), re.M
    )
    assert documented == [tuple(row) for row in expected_rows()]


def expected_rows():
    """Name, default and meaning of every setting, from the class itself."""
    meanings = dict(re.findall(r"^        (\w+): (.*?)(?=^        \w+: |\Z)", Settings.__doc__, re.M | re.S))
    for field in fields(Settings):
        default = "" if field.default is None else f"`{field.default}`"
        yield PREFIX + field.name.upper(), default, " ".join(meanings[field.name].split()).replace("``", "`")


def test_the_docs_of_the_api_name_every_endpoint_and_parameter(repository):
    from inspect import signature

    from magicmirror.ui.api import Api

    text = (repository / "docs" / "api.md").read_text()
    endpoints = set(re.findall(r"^\| `/(\w+)` \|", text, re.MULTILINE))
    assert endpoints == {name for name in vars(Api) if not name.startswith("_")}
    parameters = {name for endpoint in endpoints for name in signature(getattr(Api, endpoint)).parameters}
    described = set(re.findall(r"^\| (\w+) \| ", text, re.MULTILINE))
    assert parameters - {"self", "request"} <= described
