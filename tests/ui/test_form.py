"""The form as one value: to an order, and back from stored settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from magicmirror.errors import FaceError, PromptError
from magicmirror.pipeline.profiles import find_profile
from magicmirror.serving.jobs import JobResult, Take
from magicmirror.ui.form import Form, are_settings, form_of_result, form_of_settings, most_steps
from magicmirror.ui.parts import form_part
from magicmirror.ui.photo_handlers import browser_record

PROFILE = find_profile("preview")
FORM = Form(prompt="a man smiles\n", seed=7, randomise=False, steps=3, guidance=2.0, takes=2)


@pytest.fixture
def face(example_references):
    return (example_references["man_1"],)


def test_takes_have_seeds_in_a_row(face):
    order = FORM.order(face, "preview")
    assert order.kind == "takes" and [part.seed for part in order.requests] == [7, 8]
    assert {part.prompt for part in order.requests} == {"a man smiles"}
    drawn = replace(FORM, randomise=True).order(face, "preview").requests[0].seed
    assert drawn != 7 and 0 <= drawn < 2**32


def test_every_line_of_a_film_is_a_shot(face):
    film = replace(FORM, kind="film", prompt="a man smiles\n\n  a man nods ")
    assert [part.prompt for part in film.order(face, "preview").requests] == ["a man smiles", "a man nods"]
    for lines in (1, 7):
        with pytest.raises(PromptError, match=f"yours has {lines}"):
            replace(film, prompt="a man\n" * lines).order(face, "preview")
    with pytest.raises(PromptError, match="empty"):
        replace(film, prompt="\n").order(face, "preview")


def test_a_picture_has_one_frame_and_a_comparison_one_seed(face):
    assert replace(FORM, kind="image").order(face, "preview").requests[0].num_frames == 1
    compared = replace(FORM, kind="compare").order(face, "preview").requests
    assert len({part.seed for part in compared}) == 1 and len({part.identity_scale for part in compared}) == 3


def test_a_face_is_needed():
    with pytest.raises(FaceError):
        FORM.order((), "preview")


def test_stored_settings_give_the_form_that_made_them():
    settings = {"prompt": "a man", "negative_prompt": "rain", "seed": 0, "num_inference_steps": 5}
    form = form_of_settings({**settings, "guidance_scale": 3.5, "identity_scale": 0.5, "num_frames": 17}, PROFILE)
    assert form == Form("takes", "a man", "rain", False, 0, 5, 3.5, 0.5)
    assert form_of_settings({"prompt": "a man", "num_frames": 1}, PROFILE).kind == "image"


@pytest.mark.parametrize("seed", [None, "7", -1, 1.5, True])
def test_strange_settings_take_the_defaults(seed):
    strange = {"seed": seed, "num_inference_steps": "many", "guidance_scale": 1e9, "identity_scale": True, "film": 3}
    form = form_of_settings(strange, PROFILE)
    assert (form.seed, form.steps, form.guidance, form.identity) == (
        (0, PROFILE.num_inference_steps, PROFILE.guidance_scale, 1.0)
    )


@pytest.mark.parametrize(
    ("settings", "usable"),
    [
        ({"prompt": "a man"}, True),
        ({"prompt": "a man", "seed": 7}, True),
        ({"film": [{"prompt": "a man"}, {"prompt": "a woman", "seed": 1}]}, True),
        ({}, False),
        ({"prompt": 5, "seed": "x"}, False),
        ({"prompt": " "}, False),
        ({"prompt": "a man", "seed": "x"}, False),
        ({"prompt": "a man", "seed": True}, False),
        ({"film": [{"prompt": "a man"}, {"prompt": 3}]}, False),
        ({"film": [1, 2]}, False),
    ],
)
def test_only_settings_of_the_right_types_are_restored(settings, usable):
    assert are_settings(settings) is usable


def test_a_stored_film_gives_all_of_its_lines():
    film = {"prompt": "a", "seed": 4, "film": [{"prompt": "a", "seed": 4}, {"prompt": "b", "seed": 5}]}
    form = form_of_settings(film, PROFILE)
    assert (form.kind, form.prompt, form.seed) == ("film", "a\nb", 4)


def test_a_model_of_few_steps_is_offered_few_and_says_why():
    full = find_profile("cogvideox-5b")
    assert PROFILE.num_inference_steps == 2 and (most_steps(PROFILE), most_steps(full)) == (10, 100)
    for profile, hint in ((PROFILE, "trained for 2 steps"), (full, "finer detail")):
        with gr.Blocks():
            form, _ = form_part(profile, 8)
        assert hint in form.steps.info and form.steps.maximum == most_steps(profile)
        assert form.steps.value == profile.num_inference_steps
    many = {"prompt": "a man", "num_inference_steps": 50}  # more than the slider would take back
    assert (form_of_settings(many, PROFILE).steps, form_of_settings(many, full).steps) == (2, 50)


def test_a_film_gives_all_of_its_lines_and_a_take_its_own_seed():
    shots = tuple(Take(Path("a.mp4"), Path("a.json"), {"prompt": text, "seed": 4 + i}) for i, text in enumerate("ab"))
    film = JobResult(Path("f.mp4"), Path("f.json"), {}, kind="film", takes=shots)
    assert form_of_result(film, None, PROFILE).prompt == "a\nb" and form_of_result(film, None, PROFILE).seed == 4
    takes = replace(film, kind="takes")
    assert form_of_result(takes, 1, PROFILE).seed == 5


def test_a_browser_keeps_its_secret_and_its_consent_and_nothing_else_counts():
    first = browser_record(None)
    assert len(first["owner"]) >= 32 and first["consent"] is False
    assert browser_record({**first, "consent": True, "more": 1}) == {"owner": first["owner"], "consent": True}
    assert browser_record(None)["owner"] != first["owner"]
    for strange in ("text", {"owner": "short"}, {"owner": 3, "consent": "yes"}, {"owner": "x" * 1000}):
        record = browser_record(strange)
        assert len(record["owner"]) == len(first["owner"]) and record["consent"] is False
