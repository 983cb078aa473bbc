"""Shared parts: a request with a made-up face, and an engine that is always closed."""

from __future__ import annotations

import numpy as np
import pytest

from magicmirror.serving.storage import ResultStorage
from magicmirror.types import FaceBox, FaceReference, GenerationRequest


@pytest.fixture
def face():
    rng = np.random.default_rng(0)
    return FaceReference(
        box=FaceBox(0, 0, 64, 64),
        landmarks=np.zeros((5, 2), np.float32),
        landmark_scheme="dlib5",
        crop=rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
        embedding=rng.standard_normal(128).astype(np.float32),
        score=1.0,
        photo_sha256="ab" * 32,
    )


@pytest.fixture
def request_for(face):
    def make(seed=0, **changes):
        return GenerationRequest(prompt="a man smiles", references=(face,), seed=seed, **changes)

    return make


@pytest.fixture
def storage(tmp_path):
    return ResultStorage(tmp_path / "results")


@pytest.fixture
def closing():
    """Close every engine that the test hands over."""
    engines = []
    yield lambda engine: engines.append(engine) or engine
    for engine in engines:
        engine.close()
