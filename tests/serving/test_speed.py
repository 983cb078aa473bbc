"""Forecasts: measured means, guesses marked as such, and the file that keeps them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from magicmirror.serving.speed import Cost, SpeedBook
from magicmirror.serving.timing import PartTimes

COST = Cost("preview on cpu", 17, 128, 128, True, 10, step_flop=2e9, guess_s=(0.5, 1.0))


def test_a_guess_is_marked_and_grows_with_the_work(tmp_path):
    book = SpeedBook(tmp_path / "speed.json")
    small, measured = book.seconds([COST])
    assert (small, measured) == (6.0, False)
    assert book.seconds([replace(COST, steps=20)])[0] == 11.0
    assert book.seconds([COST, COST])[0] == 2 * small


def test_a_measured_speed_is_used_averaged_and_kept(tmp_path):
    book = SpeedBook(tmp_path / "speed.json")
    book.note(COST, PartTimes(head_s=5.0, step_s=1.0, tail_s=2.0, steps=10), warm=True)
    assert book.seconds([COST]) == (17.0, True)
    assert book.seconds([replace(COST, steps=3)]) == (10.0, True)
    book.note(COST, PartTimes(5.0, 2.0, 2.0, 10), warm=True)
    assert book.seconds([COST]) == (pytest.approx(13.0 + 7.0), True)
    assert SpeedBook(tmp_path / "speed.json").seconds([COST]) == book.seconds([COST])


def test_loading_the_model_is_not_taken_for_slowness(tmp_path):
    book = SpeedBook(tmp_path / "speed.json")
    book.note(COST, PartTimes(head_s=60.0, step_s=1.0, tail_s=2.0, steps=10), warm=False)
    assert book.seconds([COST]) == (12.0, True)


def test_another_size_is_guessed_from_the_one_that_was_measured(tmp_path):
    book = SpeedBook(tmp_path / "speed.json")
    book.note(COST, PartTimes(0.0, 1.0, 0.0, 10), warm=True)
    seconds, measured = book.seconds([replace(COST, guided=False, step_flop=1e9)])
    assert seconds == pytest.approx(5.0) and not measured
    assert book.seconds([COST, replace(COST, guided=False)])[1] is False


@pytest.mark.parametrize(
    "content", ["", "not json", "[1]", '{"a": {"step_s": "x"}}', '{"a": 3}', '{"a": {"step_s": 1}}']
)
def test_a_damaged_file_counts_as_empty_and_is_replaced(tmp_path, content):
    path = tmp_path / "speed.json"
    path.write_text(content)
    book = SpeedBook(path)
    assert book.seconds([COST])[1] is False
    book.note(COST, PartTimes(0.0, 1.0, 0.0, 10), warm=True)
    assert SpeedBook(path).seconds([COST]) == (10.0, True)
