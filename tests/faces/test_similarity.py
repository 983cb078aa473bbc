"""Cosine, distance, and the likeness of the frames of a video."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from magicmirror.errors import ConfigError
from magicmirror.faces import dlib_analyzer
from magicmirror.faces.similarity import (
    SAME_PERSON_DISTANCE,
    average_face,
    cosine_similarity,
    euclidean_distance,
    likeness_curve,
    likeness_decay,
    mean_likeness,
    person_distance,
)
from magicmirror.media import load_image
from magicmirror.serving.chip_embedder import ChipEmbedder


def test_cosine_and_distance_of_known_vectors() -> None:
    a, b = np.float32([3, 4]), np.float32([4, 3])
    assert cosine_similarity(a, b) == pytest.approx(24 / 25)
    assert cosine_similarity(a, -a) == pytest.approx(-1.0)
    assert cosine_similarity(a, 7 * a) <= 1.0
    assert euclidean_distance(a, b) == pytest.approx(np.sqrt(2))


def test_embeddings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(2,\) and \(3,\)"):
        cosine_similarity(np.ones(2, np.float32), np.ones(3, np.float32))
    with pytest.raises(ConfigError, match="undefined"):
        cosine_similarity(np.zeros(2, np.float32), np.ones(2, np.float32))


def test_the_examples_are_different_people(example_references) -> None:
    faces = list(example_references.values())
    for i, first in enumerate(faces):
        for second in faces[:i]:
            assert euclidean_distance(first.embedding, second.embedding) > SAME_PERSON_DISTANCE


def test_likeness_is_high_for_the_person_lower_for_another_and_none_without_a_face(
    examples, face_analyzer, example_references
) -> None:
    def frame(name: str) -> np.ndarray:
        return cv2.resize(load_image(examples / f"{name}.jpg"), (128, 128), interpolation=cv2.INTER_AREA)

    frames = np.stack([frame("woman_1"), frame("man_2"), np.zeros((128, 128, 3), np.uint8)])
    own, other, nobody = likeness_curve(frames, example_references["woman_1"], face_analyzer)
    assert own is not None and own > 0.96
    assert other is not None and other < 0.9
    assert nobody is None


def test_a_reference_of_another_recogniser_is_refused(face_analyzer, example_references) -> None:
    from dataclasses import replace

    foreign = replace(example_references["man_1"], embedding=np.ones(512, np.float32))
    with pytest.raises(ConfigError, match="512 numbers"):
        likeness_curve(np.zeros((1, 8, 8, 3), np.uint8), foreign, face_analyzer)


def test_the_mean_leaves_out_frames_without_a_face() -> None:
    assert mean_likeness((0.5, None, 1.0)) == 0.75
    assert mean_likeness((None,)) is None


def test_decay_is_the_fall_of_the_line() -> None:
    assert likeness_decay((0.9, 0.8, 0.7)) == pytest.approx(0.2)
    assert likeness_decay((0.9, None, 0.7)) == pytest.approx(0.2)  # time goes on in frames without a face
    assert likeness_decay((None, 0.9, 0.8, None)) == pytest.approx(0.3)  # the line, carried on to both ends
    assert likeness_decay((0.7, 0.8)) == pytest.approx(-0.1)
    assert likeness_decay((0.9, 0.5, 0.9)) == pytest.approx(0.0)
    assert likeness_decay((0.9, None)) is None
    assert likeness_decay(()) is None


def test_the_average_face_points_between_the_photos(example_references) -> None:
    from dataclasses import replace

    man, woman = example_references["man_1"], example_references["woman_1"]
    assert average_face([man]) is man
    both = average_face([man, replace(woman, embedding=woman.embedding * 3)])
    to_man, to_woman = (cosine_similarity(both.embedding, each.embedding) for each in (man, woman))
    assert to_man == pytest.approx(to_woman, abs=1e-5)  # the photos count alike, however long their embeddings are


def test_distance_of_each_recogniser() -> None:
    a, b = np.float32([1.0] + [0] * 127), np.float32([0, 2.0] + [0] * 126)
    assert person_distance(a, b) == pytest.approx(np.sqrt(5))
    assert person_distance(np.tile(a, 4), np.tile(b, 4)) == pytest.approx(1.0)


@pytest.mark.parametrize("embed_chips", [None, ChipEmbedder()], ids=["dlib", "torch"])
def test_frames_are_embedded_together_as_each_is_alone(examples, embed_chips, monkeypatch) -> None:
    monkeypatch.setattr(dlib_analyzer, "EMBED_BATCH", 3)
    analyzer = dlib_analyzer.DlibFaceAnalyzer(embed_chips=embed_chips)
    people = [load_image(examples / f"{name}.jpg") for name in ("man_2", "two_people", "woman_1")]
    nobody = np.zeros((64, 64, 3), np.uint8)
    frames = [people[0], nobody, people[1], nobody, people[2], *[nobody] * 3]
    found = analyzer.embed_frames(iter(frames))
    assert [each is None for each in found] == [False, True, False, True, False, True, True, True]
    for frame, embedding in zip(frames, found, strict=True):
        if embedding is not None:
            alone = analyzer.analyze(frame, thorough=False)[0].embedding
            np.testing.assert_allclose(embedding, alone, rtol=0, atol=1e-6)
    assert analyzer.embed_frames([]) == ()
