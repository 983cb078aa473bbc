"""One tiny trainable pipeline, its data, and a clean start for accelerate."""

import pytest
from accelerate.state import AcceleratorState

from magicmirror.models.recognizer import DlibFaceRecognizer
from tests.tiny_training import build_trainable, write_shards


@pytest.fixture(autouse=True)
def clean_accelerate():
    """Its state is one for the process, and refuses a second precision."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def trainable():
    """A pipeline that a test may change."""
    return build_trainable()


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="session")
def recognizer():
    return DlibFaceRecognizer.from_dlib_package()
