"""Orders: what one job may make, and the order in which takes are ranked."""

from __future__ import annotations

from pathlib import Path

import pytest

from magicmirror.errors import ConfigError, PromptError
from magicmirror.serving.jobs import JobResult, Take
from magicmirror.serving.orders import (
    as_order,
    compare_order,
    film_order,
    image_order,
    retake_order,
    takes_order,
)
from magicmirror.serving.ranking import rank_takes


def take(*likeness, motion=None, seed=0):
    return Take(Path("a.mp4"), Path("a.json"), {"seed": seed}, tuple(likeness), motion=motion)


def test_takes_differ_in_the_seed_alone_and_wrap_around(request_for):
    order = takes_order(request_for(2**63 - 1), 2)
    assert [part.seed for part in order.requests] == [2**63 - 1, 0]
    assert {part.prompt for part in order.requests} == {"a man smiles"}
    for count in (0, 9):
        with pytest.raises(ConfigError, match=str(count)):
            takes_order(request_for(), count)


def test_a_comparison_differs_in_the_strength_alone(request_for):
    order = compare_order(request_for(4))
    assert [(part.seed, part.identity_scale) for part in order.requests] == [(4, 0.5), (4, 1.0), (4, 1.5)]
    with pytest.raises(ConfigError, match="2 to 8"):
        compare_order(request_for(), [1.0])


def test_a_film_has_a_prompt_and_a_seed_for_each_shot(request_for):
    order = film_order(request_for(4), [" one man", "two men "])
    assert [(part.prompt, part.seed) for part in order.requests] == [("one man", 4), ("two men", 5)]
    for prompts in (["a man"], ["a man"] * 7, ["a man", " "]):
        with pytest.raises(PromptError):
            film_order(request_for(), prompts)


def test_a_bare_request_is_one_take_and_a_picture_is_one_frame(request_for):
    assert as_order(request_for(3)).kind == "takes" and len(as_order(request_for(3)).parts) == 1
    assert image_order(request_for(3)).requests[0].num_frames == 1


def test_a_retake_keeps_the_other_shots(request_for):
    shots = tuple(take(seed=seed) for seed in range(3))
    film = JobResult(Path("f.mp4"), Path("f.json"), {}, kind="film", takes=shots)
    order = retake_order(film, 1, request_for(9))
    assert order.parts[0] is shots[0] and order.parts[2] is shots[2] and order.requests[0].seed == 9
    with pytest.raises(ConfigError, match="shots 0 to 2"):
        retake_order(film, 3, request_for())
    with pytest.raises(ConfigError, match="Only a film"):
        retake_order(JobResult(Path("v.mp4"), Path("v.json"), {}), 0, request_for())


def test_the_most_alike_take_comes_first():
    assert rank_takes([take(0.9, 0.9), take(0.95, 0.97), take(0.93, 0.93)]) == (1, 2, 0)


def test_frames_without_a_face_count_against_a_take():
    assert rank_takes([take(0.99, None, None), take(0.9, 0.9, 0.9), take(None, None)]) == (1, 0, 2)


def test_a_frozen_take_comes_last_however_alike():
    assert rank_takes([take(0.99, motion=0.1), take(0.92, motion=2.0), take(0.94, motion=3.0)]) == (2, 1, 0)


def test_equal_takes_keep_their_order():
    assert rank_takes([take(0.9, motion=1.0)] * 3) == (0, 1, 2)
