import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from magicmirror.errors import ConfigError
from magicmirror.evaluation.portraits import find_portraits, is_held_out, load_subjects, portrait_group
from magicmirror.media import write_image


@pytest.fixture
def folder(tmp_path):
    """1,200 empty files in very uneven groups."""
    for group, count in (("female_white", 800), ("male_asian", 150), ("female_black", 150)):
        for index in range(count):
            (tmp_path / f"{group}_{index:04x}.jpg").touch()
    (tmp_path / "congress").mkdir()
    for index in range(100):
        (tmp_path / "congress" / f"A{index:06d}.jpg").touch()
    (tmp_path / "notes.txt").touch()
    return tmp_path


def test_held_out_is_the_stated_hash():
    names = [f"{index}.jpg" for index in range(300)]
    expected = [name for name in names if int(hashlib.sha1(name.encode()).hexdigest(), 16) % 10 == 0]
    assert [name for name in names if is_held_out(name)] == expected
    assert 15 < len(expected) < 50


def test_only_held_out_portraits_unless_everyone(folder):
    portraits = find_portraits(folder)
    assert portraits
    assert all(is_held_out(portrait.path.name) for portrait in portraits)
    assert len(find_portraits(folder, everyone=True)) == 1200


def test_groups_take_turns(folder):
    counts = Counter(portrait.group for portrait in find_portraits(folder)[:20])
    assert counts == {"congress": 5, "female_black": 5, "female_white": 5, "male_asian": 5}


def test_order_depends_on_names_only(folder):
    order = [portrait.path.name for portrait in find_portraits(folder)]
    assert order == [portrait.path.name for portrait in find_portraits(folder)]
    assert order != sorted(order)


def test_group_and_person_word(folder):
    assert portrait_group(Path("generated/female_latino_1a2b.jpg")) == "female_latino"
    assert portrait_group(Path("congress/A000014.jpg")) == "congress"
    assert portrait_group(Path("people/john_smith.jpg")) == "people"
    words = {portrait.group: portrait.person_word for portrait in find_portraits(folder)}
    assert words == {"female_white": "woman", "female_black": "woman", "male_asian": "man", "congress": "person"}


def test_missing_empty_and_ambiguous_folders_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no folder"):
        find_portraits(tmp_path / "none")
    with pytest.raises(ConfigError, match="0 pictures"):
        find_portraits(tmp_path)
    (tmp_path / "one.jpg").touch()
    (tmp_path / "one.png").touch()
    with pytest.raises(ConfigError, match="same name"):
        find_portraits(tmp_path, everyone=True)


def test_portraits_without_one_clear_face_are_passed_over(examples, face_analyzer, tmp_path):
    for name in ("woman_1.jpg", "two_people.jpg", "man_1.jpg", "man_2.jpg"):
        (tmp_path / name).write_bytes((examples / name).read_bytes())
    write_image(np.full((200, 200, 3), 90, np.uint8), tmp_path / "wall.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    portraits = find_portraits(tmp_path, everyone=True)
    assert {subject.name for subject in load_subjects(portraits, 10, face_analyzer)} == {"woman_1", "man_1", "man_2"}
    assert len(load_subjects(portraits, 2, face_analyzer)) == 2
    with pytest.raises(ConfigError, match="at least 2"):
        load_subjects(portraits, 1, face_analyzer)
    with pytest.raises(ConfigError, match="one clear face"):
        load_subjects([portrait for portrait in portraits if portrait.path.stem == "broken"], 2, face_analyzer)
