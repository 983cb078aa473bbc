"""Reading a likeness curve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from magicmirror.errors import JobCancelled
from magicmirror.serving.likeness import likeness_level, measure_likeness


@pytest.mark.parametrize(
    ("curve", "level"),
    [
        ((0.96, 0.96), "close"),
        ((0.94, 0.94), "same"),
        ((0.91, None, 0.91), "some"),
        ((0.85, 0.85), "none"),
        ((0.99, None, None), "unseen"),
        ((None, None), "unseen"),
        ((), "unseen"),
    ],
)
def test_levels_follow_the_recognisers_own_threshold(curve, level):
    assert likeness_level(curve, 128) == level


def test_arcface_has_its_own_scale():
    assert likeness_level((0.6,), 512) == "close" and likeness_level((0.6,), 128) == "none"


def test_a_video_of_one_person_is_like_that_person_only(example_references, face_analyzer):
    man, woman = example_references["man_1"], example_references["woman_2"]
    frames = np.stack([man.crop, np.zeros_like(man.crop), man.crop])
    own = measure_likeness(frames, (man,), face_analyzer)
    other = measure_likeness(frames, (woman,), face_analyzer)
    assert own[1] is None and own[0] > 0.95 > 0.93 > other[0]
    both = measure_likeness(frames[:1], (man, replace(man, embedding=woman.embedding * 3)), face_analyzer)
    assert other[0] < both[0] < own[0]  # the photos count alike, however long their embeddings are


def test_measuring_stops_on_request(example_references, face_analyzer):
    man = example_references["man_1"]
    asked = []
    with pytest.raises(JobCancelled):
        measure_likeness(np.stack([man.crop] * 3), (man,), face_analyzer, lambda: len(asked) == 1 or asked.append(1))
    assert asked == [1]  # between the first frame and the second
