"""One tiny trainable pipeline, its data, and a clean start for accelerate."""

import json
from dataclasses import asdict

import pytest
from accelerate.state import AcceleratorState

from magicmirror.data.manifest import PortraitRecord
from magicmirror.models.recognizer import DlibFaceRecognizer
from tests.tiny_training import SIDE_PX, build_trainable, write_shards


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


@pytest.fixture(scope="session")
def manifest(examples, face_analyzer, tmp_path_factory):
    """Two portraits of different strata for training, one held out."""
    from magicmirror.faces.selection import choose_face
    from magicmirror.media import load_image

    path = tmp_path_factory.mktemp("manifest") / "manifest.jsonl"
    lines = []
    for name, group, split in (
        ("man_1", "man", "train"),
        ("woman_1", "woman", "train"),
        ("man_2", "man", "validation"),
    ):
        face = choose_face(face_analyzer.analyze(load_image(examples / f"{name}.jpg")))
        record = PortraitRecord(
            path=f"{name}.jpg",
            source="tests",
            licence="CC0",
            person_id=name,
            group=group,
            stratum=group,
            landmarks=tuple((float(x), float(y)) for x, y in face.landmarks),
            box=(face.box.left, face.box.top, face.box.right, face.box.bottom),
            split=split,
        )
        lines.append(json.dumps(asdict(record)) + "\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture
def small_clips(monkeypatch):
    """Clips of 9 frames of 32 px in place of the preview's, in what a recipe renders by itself."""
    from magicmirror.training.portrait_clips import portrait_batches

    _, _, *rest = portrait_batches.__defaults__
    monkeypatch.setattr(portrait_batches, "__defaults__", (9, SIDE_PX, *rest))
