"""Public names: all there, and nothing heavy loaded before it is used."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import magicmirror

HEAVY = ("torch", "diffusers", "transformers", "cv2", "dlib", "gradio", "insightface", "imageio_ffmpeg")


def loaded_after(code: str) -> list[str]:
    """Which heavy libraries a fresh interpreter has loaded after some code."""
    report = f"import sys\n{code}\nprint(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("name", sorted(magicmirror.__all__))
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(magicmirror, name).__doc__
    assert name in dir(magicmirror)


def test_the_promised_names_are_public() -> None:
    promised = {
        "FaceAnalyzer",
        "GenerationRequest",
        "MagicMirrorPipeline",
        "MagicMirrorTransformer3DModel",
        "__version__",
    }
    assert promised <= set(magicmirror.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Mirror'"):
        _ = magicmirror.Mirror


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import magicmirror") == []


@pytest.mark.parametrize("module", ["types", "errors", "settings", "media", "faces.analyzer", "faces.similarity"])
def test_inner_rooms_load_nothing_heavy(module: str) -> None:
    assert loaded_after(f"import magicmirror.{module}") == []


def test_a_light_name_stays_light_and_a_heavy_one_is_seen() -> None:
    assert loaded_after("from magicmirror import GenerationRequest, FaceAnalyzer") == []
    assert "torch" in loaded_after("from magicmirror import MagicMirrorTransformer3DModel")


def test_the_error_tree_is_the_one_that_is_drawn() -> None:
    errors = importlib.import_module("magicmirror.errors")
    drawn = [line for line in errors.__doc__.splitlines() if "──" in line or line.strip() == "MagicMirrorError"]
    parents: list[type] = []
    for line in drawn:
        name = next(word for word in line.split() if word.isidentifier())
        depth = (line.index(name) - 4) // 4
        found = getattr(errors, name)
        parents[depth:] = [found]
        assert found.__bases__ == (parents[depth - 1] if depth else Exception,)
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert {line.split("─ ")[-1].split()[0] for line in drawn} == defined
