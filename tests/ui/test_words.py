"""All words are in one file: none is left over, and every choice has its word."""

from __future__ import annotations

from typing import get_args

import pytest

from magicmirror.serving.jobs import JobStage, OrderKind
from magicmirror.serving.likeness import LikenessLevel
from magicmirror.serving.prompt_guide import HELPER_MOTIONS, HELPER_STYLES, unknown_words
from magicmirror.ui import words


def test_every_word_is_used(repository):
    sources = [path.read_text() for path in (repository / "magicmirror/ui").glob("*.py")]
    names = [name for name in vars(words) if name.isupper()]
    # Once where it is written, and once or more where it is used.
    unused = [name for name in names if sum(source.count(name) for source in sources) < 2]
    assert len(names) > 80 and unused == []


def test_every_choice_has_its_word():
    for table in (words.KINDS, words.KIND_HINTS, words.PARTS):
        assert set(table) == set(get_args(OrderKind))
    for table in (words.LIKENESS, words.LIKENESS_SHORT):
        assert set(table) == set(get_args(LikenessLevel))
    assert set(words.STAGES) == set(get_args(JobStage))
    assert set(words.MOTIONS) == set(HELPER_MOTIONS) and set(words.STYLES) == set(HELPER_STYLES)


def test_the_examples_are_what_the_preview_model_can_do():
    assert [unknown_words(prompt) for prompt in words.PROMPT_EXAMPLES] == [()] * len(words.PROMPT_EXAMPLES)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (1, "1 s"), (89, "89 s"), (90, "2 min"), (600, "10 min"), (3600, "60 min")]
)
def test_times_are_said_as_people_do(seconds, text):
    assert words.duration(seconds) == text
