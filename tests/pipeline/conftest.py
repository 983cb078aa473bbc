"""One tiny pipeline of real components for the room."""

import pytest
from diffusers import CogVideoXDDIMScheduler

from tests.tiny_pipeline import SCHEDULE, build_pipeline, build_reference, build_stock, make_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture
def fresh_pipeline():
    """A pipeline that a test may change."""
    return build_pipeline()


@pytest.fixture(scope="session")
def _shared_pipeline():
    return build_pipeline()


@pytest.fixture
def pipeline(_shared_pipeline):
    """For tests that change no weights; its scheduler is its own."""
    _shared_pipeline.scheduler = CogVideoXDDIMScheduler(**SCHEDULE)
    return _shared_pipeline


@pytest.fixture(scope="session")
def make_pipeline():
    return build_pipeline


@pytest.fixture(scope="session")
def stock_of():
    return build_stock


@pytest.fixture(scope="session")
def make_reference():
    return build_reference


@pytest.fixture(scope="session")
def reference():
    return build_reference(1)


@pytest.fixture
def sample(pipeline):
    """Latents of three steps with seed 0, or what the keyword arguments say."""

    def run(references=None, **changes):
        options = {
            "prompt": "a man smiles",
            "num_inference_steps": 3,
            "guidance_scale": 3.0,
            "output_type": "latent",
            **changes,
        }
        if "generator" not in options:
            options.setdefault("seed", 0)
        return pipeline(references=references, **options).frames

    return run
