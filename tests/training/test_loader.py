"""Batches made ahead are the same batches."""

import threading
import time

import pytest

from magicmirror.training.loader import BatchLoader
from magicmirror.training.parts import Part


@pytest.mark.parametrize("ahead", [False, True])
def test_any_order_gives_the_batch_of_the_step_for_the_own_part(ahead):
    asked = []

    def source(step, part):
        asked.append(step)
        return {"step": step, "part": part}

    loader = BatchLoader(source, Part(1, 2), ahead)
    steps = [0, 1, 2, 7, 8, 3]
    for step in steps:
        assert loader.at(step, last=step == 3) == {"step": step, "part": Part(1, 2)}
    assert max(asked) == (9 if ahead else 8)  # what was made in vain: one batch for each jump
    assert asked.count(4) == 0  # nothing after the last


def test_a_batch_made_ahead_is_not_waited_for():
    threads = set()

    def slow(step, part):
        threads.add(threading.current_thread())
        time.sleep(0.05)
        return {"step": step}

    loader = BatchLoader(slow, Part(), ahead=True)
    loader.at(0)
    first = loader.waited_s
    time.sleep(0.2)  # the step computes
    loader.at(1, last=True)
    assert first >= 0.05 > 2 * loader.waited_s
    assert len(threads) == 1 and threading.current_thread() not in threads


def test_a_source_that_fails_fails_the_step():
    def source(step, part):
        if step == 1:
            raise ValueError("no such file")
        return {}

    loader = BatchLoader(source, Part(), ahead=True)
    assert loader.at(0) == {}
    with pytest.raises(ValueError, match="no such file"):
        loader.at(1)
