"""The command line as a person starts it: another process, its streams and its exit status."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.fixture
def command(repository):
    """``command("faces", photo)`` runs ``python -m magicmirror`` and returns the finished process."""

    def run(*arguments, timeout=300, **environment):
        return subprocess.run(
            [sys.executable, "-m", "magicmirror", *map(str, arguments)],
            cwd=repository,
            env=clean_environment(environment),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def environment():
    """``environment(NAME="value")`` is this process's own, without settings of the product."""
    return clean_environment


def clean_environment(extra):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAGICMIRROR_", "GRADIO_"))}
    return {**kept, **extra}
