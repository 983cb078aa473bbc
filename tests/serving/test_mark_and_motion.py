"""The visible mark, the measure of motion, and what may be asked for."""

from __future__ import annotations

import numpy as np
import pytest

from magicmirror.errors import ConfigError, PromptError
from magicmirror.serving.mark import draw_mark, mark_from
from magicmirror.serving.motion import measure_motion
from magicmirror.serving.prompt_filter import REFUSED, check_prompt, load_prompt_filter
from magicmirror.settings import Settings


def shot(height=128, width=128, frames=2, value=200):
    return np.full((frames, height, width, 3), value, np.uint8)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (480, 720), (1080, 1920)])
def test_the_mark_is_small_legible_and_in_its_corner(height, width):
    frames = shot(height, width)
    marked = draw_mark(frames, "AI-generated")
    changed = (marked != frames).any(axis=(0, 3))
    rows, columns = np.nonzero(changed)
    assert rows.min() > height * 0.85 and columns.max() < width * 0.7
    assert 0.001 < changed.mean() < 0.08
    corner = marked[0][rows.min() :, : columns.max() + 1]
    assert int(corner.max()) - int(corner.min()) > 120  # white letters on a dark ground
    assert frames.max() == frames.min() == 200


def test_every_frame_carries_the_same_mark_and_a_long_text_fits():
    marked = draw_mark(shot(frames=3), "x" * 40)
    assert np.array_equal(marked[0], marked[2]) and marked.shape == (3, 128, 128, 3)
    assert (marked[0][:, -6:] == 200).all()


def test_the_deployer_can_switch_the_mark_off_and_word_it():
    assert mark_from(Settings(mark=False)) is None
    ours, theirs = (mark_from(Settings(mark_text=text))(shot()) for text in ("AI-generated", "Made by a model"))
    assert not np.array_equal(ours, theirs)


def test_motion_is_a_share_of_the_picture_per_second():
    rng = np.random.default_rng(0)
    from cv2 import GaussianBlur

    soft = GaussianBlur(rng.integers(0, 256, (96, 96, 3)).astype(np.float32), (0, 0), 4)
    ground = np.clip((soft - soft.mean()) / soft.std() * 60 + 128, 0, 255).astype(np.uint8)
    moving = np.stack([np.roll(ground, index, axis=1) for index in range(5)])
    assert measure_motion(moving, 8) == pytest.approx(100 / 96 * 8, rel=0.15)
    assert measure_motion(np.stack([ground] * 5), 8) < 0.1
    assert measure_motion(moving[:1], 8) is None


def words_file(tmp_path, text):
    path = tmp_path / "words.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_list_refuses_whole_words_whatever_their_case_and_accents(tmp_path):
    refuses = load_prompt_filter(words_file(tmp_path, "# names\nCafé\nsome body\n\n"))
    assert refuses("a man in a CAFE") == refuses("a man, Some  Body else") == REFUSED
    assert refuses("a man in a cafeteria") is None and refuses("a man smiles") is None
    with pytest.raises(PromptError, match="does not make videos"):
        check_prompt(refuses, "a man in a cafe")
    check_prompt(None, "anything")


def test_a_function_of_the_deployer_decides(tmp_path, monkeypatch):
    (tmp_path / "house_rules.py").write_text(
        "def judge(prompt):\n    if 'crash' in prompt:\n        raise RuntimeError('secret')\n"
        "    return 'No hats here.' if 'hat' in prompt else None\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    judge = load_prompt_filter("house_rules:judge")
    with pytest.raises(PromptError, match="No hats here"):
        check_prompt(judge, "a man with a hat")
    check_prompt(judge, "a man smiles")
    with pytest.raises(PromptError, match="does not make videos") as caught:
        check_prompt(judge, "a crash")  # what cannot be judged is not made
    assert "secret" not in str(caught.value)


def test_a_filter_that_cannot_work_is_told_at_the_start(tmp_path):
    for setting, reason in (
        ("no_such_module:judge", "cannot be imported"),
        ("os:no_such_name", "cannot be imported"),
        ("os:sep", "not a function"),
        (str(tmp_path / "missing.txt"), "cannot be read"),
        (words_file(tmp_path, "# nothing\n"), "no words"),
    ):
        with pytest.raises(ConfigError, match=reason):
            load_prompt_filter(setting)
