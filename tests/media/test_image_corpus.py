"""Thousands of bad pictures: each is loaded or refused with one of our errors, quickly and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magicmirror import errors
from magicmirror.media import load_image
from tests.media.corpus import FORMATS, KINDS, bases, make_input, mend_checksums
from tests.media.corpus_runner import BLOCK, CPU_LIMIT_S, MEMORY_LIMIT_BYTES

ALL_PAIRS = len(FORMATS) * len(KINDS)
DEFAULT_INPUTS = 52 * ALL_PAIRS  # 5,096
MANY_INPUTS = 520 * ALL_PAIRS  # 50,960
KINDS_OF_REFUSAL = {
    "EmptyImage",
    "ImageTooLarge",
    "CostlyImage",
    "TruncatedImage",
    "DamagedImage",
    "MislabelledImage",
    "UnsupportedImage",
}


def run_corpus(first: int, last: int, repository, folder) -> list[dict[str, Any]]:
    """Try a range of inputs in processes of their own, two at a time, and return what became of each."""
    middle = first + (last - first) // BLOCK // 2 * BLOCK
    ranges = {folder / f"{start}.jsonl": (start, end) for start, end in ((first, middle), (middle, last))}
    command = [sys.executable, "-m", "tests.media.corpus_runner"]
    running = [
        subprocess.Popen([*command, str(start), str(end), str(file)], cwd=repository, stderr=subprocess.PIPE, text=True)
        for file, (start, end) in ranges.items()
    ]
    for process in running:
        _, complaints = process.communicate()
        assert process.returncode == 0, complaints[-2_000:]
    answers = {}
    for line in "".join(file.read_text() for file in ranges).splitlines():
        answer = json.loads(line)
        if "outcome" in answer:
            answers[answer["number"]] = answer
    return [answers[number] for number in sorted(answers)]


def check_answers(answers: list[dict[str, Any]], inputs: int) -> None:
    """Hold every answer to the promises of the loader."""
    assert len(answers) == inputs
    allowed = {"loaded", "ImageError", *KINDS_OF_REFUSAL}
    assert [answer for answer in answers if answer["outcome"] not in allowed] == []
    assert all(issubclass(getattr(errors, name), errors.ImageError) for name in KINDS_OF_REFUSAL)
    slowest = max(answers, key=lambda answer: answer["seconds"])
    assert slowest["seconds"] < CPU_LIMIT_S, slowest
    largest = max(answers, key=lambda answer: answer["peak_bytes"])
    assert largest["peak_bytes"] < MEMORY_LIMIT_BYTES, largest
    # The corpus must reach what it is meant to test: each kind of refusal, many pictures in the analyzer, faces too.
    outcomes = Counter(answer["outcome"] for answer in answers)
    assert set(outcomes) >= KINDS_OF_REFUSAL
    assert outcomes["loaded"] > inputs / 5
    assert sum(answer["analysed"] for answer in answers) > inputs / 8
    assert sum(answer["faces"] > 0 for answer in answers) >= 10


@pytest.mark.timeout(1_200)  # a minute of processor time, which a busy machine may take long to give
def test_no_bad_picture_hurts_the_loader_or_the_analyzer(repository, tmp_path) -> None:
    check_answers(run_corpus(0, DEFAULT_INPUTS, repository, tmp_path), DEFAULT_INPUTS)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_no_bad_picture_of_fifty_thousand_does(repository, tmp_path) -> None:
    last = DEFAULT_INPUTS + MANY_INPUTS
    check_answers(run_corpus(DEFAULT_INPUTS, last, repository, tmp_path), MANY_INPUTS)


def test_the_corpus_is_the_same_every_time() -> None:
    for number in (0, 7, 41, 96):
        assert make_input(number) == make_input(number)
    assert make_input(5).data != make_input(5 + ALL_PAIRS).data


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_change_of_a_valid_file_is_read_or_refused(data) -> None:
    """Structure-aware: bytes change, ranges go or come again, and checksums are mended so that changes are believed."""
    form = data.draw(st.sampled_from(sorted(bases())))
    file = bytearray(data.draw(st.sampled_from(bases()[form])))
    place = st.integers(0, len(file) - 1)
    for position, value in data.draw(st.dictionaries(place, st.integers(0, 255), max_size=8)).items():
        file[position] = value
    start, end = sorted(data.draw(st.tuples(place, place)))
    way = data.draw(st.sampled_from(["keep", "cut out", "double", "cut off"]))
    if way == "cut out":
        del file[start:end]
    elif way == "double":
        file[end:end] = file[start:end]
    elif way == "cut off":
        del file[end:]
    refusal, picture = None, None
    try:
        picture = load_image(mend_checksums(file) if form == "PNG" else bytes(file), max_pixels=1_000_000)
    except errors.ImageError as error:
        refusal = error
    if picture is None:
        assert type(refusal).__name__ in KINDS_OF_REFUSAL
        assert refusal.remedy
    else:
        assert picture.ndim == 3
        assert picture.shape[0] * picture.shape[1] <= 1_000_000
