"""dlib's analyzer against dlib called by hand, and on small, large, crowded and empty pictures."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import dlib
import numpy as np
import pytest

from magicmirror.errors import ConfigError, SeveralFaces, WeightsError
from magicmirror.faces.analyzer import photo_sha256
from magicmirror.faces.dlib_analyzer import DlibFaceAnalyzer, face_chip, template_landmarks_px
from magicmirror.faces.dlib_search import DlibFaceSearch, weights_path
from magicmirror.faces.selection import choose_face
from magicmirror.media import load_image
from tests.pictures import STORED, turned_file


@pytest.fixture(scope="module")
def plain_dlib():
    """dlib's own objects: detector, 5-point predictor, recogniser."""
    return (
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(str(weights_path("shape_predictor_5_face_landmarks.dat"))),
        dlib.face_recognition_model_v1(str(weights_path("dlib_face_recognition_resnet_model_v1.dat"))),
    )


@pytest.mark.parametrize("name", ["woman_1", "man_3", "older_man_1"])
def test_agrees_with_dlib_called_by_hand(name, examples, face_analyzer, plain_dlib) -> None:
    detector, predictor, recogniser = plain_dlib
    photo = load_image(examples / f"{name}.jpg")
    if min(photo.shape[:2]) < 256:  # the analyzer enlarges such a photo first; enlarge it here instead
        photo = cv2.resize(photo, None, fx=2, fy=2)
    (box,) = detector(photo, 0)
    shape = predictor(photo, box)
    chip = dlib.get_face_chip(photo, shape, size=150, padding=0.25)
    expected = np.array(recogniser.compute_face_descriptor(chip))

    (found,) = face_analyzer.analyze(photo)
    assert (found.box.left, found.box.top) == (box.left(), box.top())
    assert (found.box.width, found.box.height) == (box.width(), box.height())
    np.testing.assert_allclose(found.landmarks, [[part.x, part.y] for part in shape.parts()], atol=1e-4)
    np.testing.assert_array_equal(face_chip(photo, found.landmarks), chip)
    np.testing.assert_allclose(found.embedding, expected, atol=1e-6)
    # What face_recognition.face_encodings(photo, model="small") does.
    whole = np.array(recogniser.compute_face_descriptor(photo, shape, 1))
    np.testing.assert_allclose(found.embedding, whole, atol=1e-6)
    assert found.embedding.dtype == np.float32
    assert found.photo_sha256 == photo_sha256(photo)


def test_embedding_is_dlibs_of_the_very_chip(examples, face_analyzer, plain_dlib) -> None:
    photo = load_image(examples / "woman_3.jpg")
    (found,) = face_analyzer.analyze(photo)
    chip = face_chip(photo, found.landmarks)
    np.testing.assert_allclose(found.embedding, np.array(plain_dlib[2].compute_face_descriptor(chip)), atol=1e-6)
    np.testing.assert_array_equal(face_analyzer.embed(photo, found.landmarks), found.embedding)


@pytest.mark.parametrize("side", [128, 180, 1600])
def test_finds_the_face_at_any_size_and_maps_it_back(side, examples, face_analyzer, example_references) -> None:
    reference = example_references["man_1"]  # analysed at 256 px
    photo = cv2.resize(load_image(examples / "man_1.jpg"), (side, side), interpolation=cv2.INTER_AREA)
    (found,) = face_analyzer.analyze(photo)
    scale = side / 256
    expected = (reference.landmarks + 0.5) * scale - 0.5
    np.testing.assert_allclose(found.landmarks, expected, atol=3.0 * max(scale, 0.5))
    assert found.box.width == pytest.approx(reference.box.width * scale, rel=0.25)
    assert np.linalg.norm(found.embedding - reference.embedding) < 0.35
    assert found.crop.shape == (128, 128, 3)


def test_a_picture_without_a_face_has_none(face_analyzer) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    assert face_analyzer.analyze(noise) == ()
    assert face_analyzer.analyze(np.zeros((1, 1, 3), np.uint8)) == ()


def test_two_people_come_largest_first_and_ask_for_a_choice(examples, face_analyzer, example_references) -> None:
    faces = face_analyzer.analyze(load_image(examples / "two_people.jpg"))
    assert len(faces) == 2
    assert faces[0].box.area > faces[1].box.area
    with pytest.raises(SeveralFaces):
        choose_face(faces)
    by_side = sorted(faces, key=lambda face: face.box.left)
    for found, name in zip(by_side, ("woman_2", "man_2"), strict=True):
        assert np.linalg.norm(found.embedding - example_references[name].embedding) < 0.2


def test_aligned_crops_are_embedded_without_detection(face_analyzer, example_references) -> None:
    embeddings = np.stack([face.embedding for face in example_references.values()])
    aligned = face_analyzer.embed_aligned(np.stack([face.crop for face in example_references.values()]))
    assert aligned.shape == (len(embeddings), 128)
    distances = np.linalg.norm(aligned[:, None] - embeddings[None], axis=2)
    assert distances.diagonal().max() < 0.25  # different people: 0.6 and more
    assert (distances.argmin(axis=1) == np.arange(len(embeddings))).all()


def test_aligned_crops_of_any_side_and_none_at_all(face_analyzer, example_references) -> None:
    crop = example_references["woman_2"].crop
    large = cv2.resize(crop, (300, 300), interpolation=cv2.INTER_CUBIC)
    small, big = face_analyzer.embed_aligned(crop[None])[0], face_analyzer.embed_aligned(large[None])[0]
    assert np.linalg.norm(small - big) < 0.15
    assert face_analyzer.embed_aligned(np.zeros((0, 128, 128, 3), np.uint8)).shape == (0, 128)
    for wrong in (crop, crop[None, :, :100], crop[None].astype(np.float32)):
        with pytest.raises(ConfigError, match=r"\(B, S, S, 3\)"):
            face_analyzer.embed_aligned(wrong)


def test_template_landmarks_have_the_eyes_on_the_template() -> None:
    points = template_landmarks_px(128)
    eyes = np.stack([points[2:4].mean(axis=0), points[0:2].mean(axis=0)])
    np.testing.assert_allclose(eyes, [[46.22, 57.1], [80.78, 57.1]], atol=0.02)
    assert points[4, 1] > 57.1  # the nose is below the eyes
    assert points[4, 0] == pytest.approx(63.5, abs=1.0)


def test_threads_share_one_analyzer(examples) -> None:
    analyzer = DlibFaceAnalyzer()
    photos = [load_image(examples / f"{name}.jpg") for name in ("woman_1", "man_1", "woman_3", "man_3")]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(analyzer.analyze, photos * 2))
    for photo, (found,) in zip(photos * 2, together, strict=True):
        (alone,) = analyzer.analyze(photo)
        np.testing.assert_array_equal(found.embedding, alone.embedding)
        np.testing.assert_array_equal(found.landmarks, alone.landmarks)


def test_threads_search_at_the_same_time_and_never_with_one_detector(examples, monkeypatch) -> None:
    made, make, meeting = [], dlib.get_frontal_face_detector, threading.Barrier(2)

    class Watched:
        def __init__(self) -> None:
            made.append(self)
            self.detector, self.alone = make(), threading.Lock()

        def run(self, *arguments):
            assert self.alone.acquire(blocking=False)
            try:
                meeting.wait(timeout=30)  # passes once both threads are inside
                return self.detector.run(*arguments)
            finally:
                self.alone.release()

    monkeypatch.setattr(dlib, "get_frontal_face_detector", Watched)
    search, photo = DlibFaceSearch(), load_image(examples / "woman_1.jpg")
    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            (first,), (second,) = pool.map(lambda _: search.find(photo, thorough=False), range(2))
        assert first.box == second.box
    assert len(made) == 2


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="crop_size_px"):
        DlibFaceAnalyzer(crop_size_px=8)
    with pytest.raises(ConfigError, match="upsample"):
        DlibFaceAnalyzer(upsample=4)


def test_missing_weights_say_what_to_install(monkeypatch) -> None:
    with pytest.raises(WeightsError, match=r"no file nothing\.dat"):
        weights_path("nothing.dat")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install face_recognition_models"):
        DlibFaceAnalyzer().analyze(np.zeros((300, 300, 3), np.uint8))


def test_the_weights_package_is_never_imported() -> None:
    code = (
        "import sys, numpy as np\n"
        "from magicmirror.faces.analyzer import create_face_analyzer\n"
        "create_face_analyzer('dlib', upsample=0).analyze(np.zeros((64, 64, 3), np.uint8))\n"
        "print('dlib' in sys.modules, 'face_recognition_models' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["True", "False"]


@pytest.mark.parametrize("orientation", STORED)
def test_all_orientations_of_a_photo_give_the_same_embedding(
    orientation, examples, face_analyzer, example_references
) -> None:
    upright = load_image(examples / "woman_3.jpg")
    for kind, options, allowed in (("PNG", {}, 0.0), ("JPEG", {"quality": 95, "subsampling": 0}, 0.1)):
        file = turned_file(upright, orientation, kind, **options)
        (found,) = face_analyzer.analyze(load_image(file))
        assert np.linalg.norm(found.embedding - example_references["woman_3"].embedding) <= allowed
