import json

import numpy as np
import pytest

from magicmirror.data.motion import MOTIONS
from magicmirror.data.style import STYLES
from magicmirror.errors import ConfigError
from magicmirror.evaluation.cases import make_cases, read_prompts, suite_prompts
from magicmirror.evaluation.portraits import Portrait, Subject


@pytest.fixture
def people(example_references, examples):
    names = ("man_1", "woman_1", "woman_2")
    groups = ("man", "woman", "woman")
    return [
        Subject(Portrait(examples / f"{name}.jpg", group), example_references[name])
        for name, group in zip(names, groups, strict=True)
    ]


def test_identities_times_prompts_times_seeds(people):
    cases = make_cases(people, suite_prompts("paper"), (0, 100))
    assert len(cases) == 3 * 4 * 2
    assert len({case.name for case in cases}) == 24
    assert [case.subject.name for case in cases[:3]] == ["man_1", "woman_1", "woman_2"]
    assert [case.seed for case in cases[:3]] == [0, 1, 2]
    assert {case.seed for case in cases[12:]} == {100, 101, 102}
    assert {case.prompt for case in cases} == {"p1", "p2", "p3", "p4"}


def test_cases_are_always_the_same(people):
    first, second = (make_cases(people, suite_prompts("paper"), (0,)) for _ in range(2))
    assert [(case.name, case.clip) for case in first] == [(case.name, case.clip) for case in second]


def test_captions_name_the_person_and_what_is_asked(people):
    for case in make_cases(people, suite_prompts("paper"), (0,)):
        assert " img" in case.clip.caption
        assert 1 <= len(case.clip.motions) <= 2


def test_obedience_asks_every_motion_and_every_style_once(people):
    cases = make_cases(people[:1], suite_prompts("obedience"), (0,))
    plain = [case for case in cases if case.clip.style == "none"]
    assert {case.clip.motions[0].name for case in plain} == set(MOTIONS)
    assert {case.clip.style for case in cases} == set(STYLES)
    assert len(cases) == len(MOTIONS) + len(STYLES) - 1
    assert {case.clip.motions[0].name for case in cases if case.clip.style != "none"} == {"still"}


def test_wording_varies_with_the_person(people):
    captions = {case.clip.caption for case in make_cases(people[1:], suite_prompts("obedience")[:6], (0,))}
    assert len(captions) > 6


def test_prompts_of_a_file(people, tmp_path):
    path = tmp_path / "prompts.txt"
    asked = {"prompt": "a {person} img nods in sepia", "motions": ["nod"], "style": "sepia"}
    path.write_text(f"a {{person}} img waves\n\n{json.dumps(asked)}\n{{person}} img sleeps\n")
    prompts = read_prompts(path)
    assert [prompt.name for prompt in prompts] == ["line1", "line3", "line4"]
    wave, nod, sleep = (prompt.clip(people[1]) for prompt in prompts)
    assert (wave.caption, wave.motions, wave.style) == ("a woman img waves", (), "none")
    assert nod.caption == "a woman img nods in sepia"
    assert ([cue.name for cue in nod.motions], nod.style) == (["nod"], "sepia")
    assert sleep.caption == "woman img sleeps"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no prompt"),
        ('ok\n{"prompt": "a man", "motions": ["fly"]}', "line 2: Unknown motion 'fly'"),
        ('{"prompt": "a man", "style": "cubist"}', "line 1: unknown style 'cubist'"),
        ('{"prompt": "a man", "moves": []}', r"line 1: unknown fields \['moves'\]"),
        ('{"motions": []}', "line 1: not a prompt"),
        ('{"prompt"', "line 1: not a prompt"),
    ],
)
def test_wrong_prompts_are_refused_with_their_line(tmp_path, text, message):
    path = tmp_path / "prompts.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_prompts(path)


def test_missing_file_and_repeated_seeds_are_refused(people, tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt")
    for seeds in ((), (1, 1), (-1,)):
        with pytest.raises(ConfigError, match="Seeds"):
            make_cases(people, suite_prompts("paper"), seeds)


def test_motions_are_sampled_like_those_of_training(people):
    cases = make_cases(people, suite_prompts("paper"), tuple(range(0, 1000, 10)))
    # Prompts do not depend on the seed, so that seeds can be compared.
    assert len({(case.subject.name, case.prompt, case.clip.caption) for case in cases}) == 12
    assert np.mean([case.clip.style == "none" for case in cases[:12]]) < 1
