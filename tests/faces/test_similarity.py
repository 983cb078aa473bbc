"""Cosine, distance, and the likeness of the frames of a video."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from magicmirror.errors import ConfigError
from magicmirror.faces.similarity import SAME_PERSON_DISTANCE, cosine_similarity, euclidean_distance, likeness_curve
from magicmirror.media import load_image


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
