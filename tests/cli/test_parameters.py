"""``parameters``: the table of both presets."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.mark.skipif(
    importlib.util.find_spec("magicmirror.models.parameters") is None, reason="the parameter table is not written yet"
)
@pytest.mark.parametrize("preset", ["preview", "cogvideox-5b"])
def test_the_table_is_the_models_own(command, preset):
    from magicmirror.models.parameters import parameter_table

    done = command("parameters", "--preset", preset)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == parameter_table(preset).strip()


def test_an_unknown_preset_is_refused(command):
    done = command("parameters", "--preset", "huge")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
