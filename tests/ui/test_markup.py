"""Pieces of the page as text: what they say, and that nothing of a visitor's gets in as HTML."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magicmirror.serving.jobs import Forecast, HistoryEntry, JobResult, JobStatus, Take
from magicmirror.serving.prompt_guide import PromptNotes
from magicmirror.types import QualityCheck
from magicmirror.ui import face_markup, history_markup, markup, prompt_markup, result_markup, words
from magicmirror.ui.photos import AnalysedPhoto


def result(likeness=(0.95, None, 0.93), level="same", **settings):
    return JobResult(Path("a.mp4"), Path("a.json"), {"seed": 0, "num_inference_steps": 20, **settings}, likeness, level)


def test_a_queued_job_shows_its_place():
    assert words.QUEUED_NEXT in markup.progress(JobStatus("j", "queued", queue_position=1))
    assert "place 3" in markup.progress(JobStatus("j", "queued", queue_position=3))


def test_a_running_job_shows_step_time_and_bar():
    text = markup.progress(JobStatus("j", "running", "denoising", step=5, total=20, eta_s=7.2))
    assert "Step 5 of 20" in text and "about 8 s" in text
    assert 'aria-valuenow="25"' in text and "width:25%" in text
    loading = markup.progress(JobStatus("j", "running", "loading"))
    assert "aria-valuenow" not in loading and "to go" not in loading


@pytest.mark.parametrize(("state", "text"), [("done", words.DONE), ("cancelled", words.CANCELLED)])
def test_an_ended_job_is_one_sentence(state, text):
    assert text in markup.progress(JobStatus("j", state, "ended", step=3, total=4))


@pytest.mark.parametrize("state", ["running", "done"])
def test_a_note_on_how_it_is_made_is_shown(state):
    text = markup.progress(JobStatus("j", state, "denoising", step=1, total=4, message="model: <less> memory"))
    assert "(model: &lt;less&gt; memory.)" in text
    assert 'role="alert"' not in text


def test_a_failure_is_escaped():
    text = markup.progress(JobStatus("j", "failed", "ended", message="<img src=x onerror=alert(1)>"))
    assert "&lt;img" in text and "<img" not in text and 'role="alert"' in text
    assert "<b>" not in result_markup.summary(result(seed="<b>1</b>"), None)


def test_the_summary_states_likeness_seed_and_frames():
    text = result_markup.summary(result(timings_s={"total": 3.14}), None)
    assert "0.94" in text and words.LIKENESS["same"] in text
    assert "<dd>0</dd>" in text and "2 of 3 frames" in text and "3 s" in text
    assert "<polyline" not in text and text.count("<circle") == 2  # the frame without a face leaves a gap
    assert "lowest 0.93, average 0.94, highest 0.95" in text and "Frame 3: 0.93" in text


def test_the_curve_has_a_line_for_each_run_of_frames_and_the_limit_of_one_person():
    text = result_markup.summary(result((0.95, 0.85, None, 0.70, 1.0)), None)
    assert re.findall(r'<polyline points="([^"]+)"', text) == ["0.0,6.7 25.0,20.0", "75.0,40.0 100.0,0.0"]
    assert 'y1="9.3"' in text  # 0.93 between 0.7 at the bottom (40) and 1 at the top (0)
    other = result_markup.summary(result((0.5, 0.5), profile="cogvideox-5b"), None)
    assert 'points="0.0,20.0 100.0,20.0"' in other and 'y1="24.0"' in other  # ArcFace: from 0 to 1, limit 0.4


def test_a_video_without_any_face_has_no_score():
    text = result_markup.summary(result((None, None), "unseen"), None)
    assert "mm-score" not in text and words.LIKENESS["unseen"] in text and "0 of 2 frames" in text


def test_the_picker_presses_the_chosen_face_and_shows_its_crop(example_references):
    man, woman = example_references["man_1"], example_references["woman_1"]
    text = face_markup.face_picker([AnalysedPhoto((man, woman), chosen=1), AnalysedPhoto((man,), chosen=0)])
    assert re.findall(r'aria-pressed="(\w+)"', text) == ["false", "true", "true"]
    assert re.findall(r"data-pick=\"\{&quot;photo&quot;:(\d),&quot;face&quot;:(\d)\}", text) == [
        ("0", "0"),
        ("0", "1"),
        ("1", "0"),
    ]
    encoded = re.findall(r"base64,([\w+/=]+)", text)[1]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")).astype(int)
    assert np.abs(shown - woman.crop).mean() < 6 < np.abs(shown - man.crop).mean()


def test_the_picker_asks_for_a_choice_and_says_what_is_wrong(example_references):
    man = replace(example_references["man_1"], checks=(QualityCheck("yaw", 3.0, 30.0, "deg", True),))
    assert words.CHOOSE_FACE in face_markup.face_picker([AnalysedPhoto((man, man))])
    poor = replace(man, checks=(*man.checks, QualityCheck("size", 9.0, 20.0, "px", False, "Come <closer>.")))
    assert "Come &lt;closer&gt;." in face_markup.face_picker([AnalysedPhoto((poor,), chosen=0)])
    assert "closer" not in face_markup.face_picker([AnalysedPhoto((man, poor), chosen=0)])  # of the chosen face only
    good = face_markup.face_picker([AnalysedPhoto((man,), chosen=0)])
    assert words.GOOD_FACE in good and "mm-alert" not in good and words.CHOOSE_FACE not in good
    assert words.POOR_FACE not in good and words.POOR_FACE in face_markup.face_picker(
        [AnalysedPhoto((poor,), chosen=0)]
    )
    assert "Nothing there." in face_markup.face_picker([AnalysedPhoto(problem="Nothing there.")])


def test_a_photo_of_somebody_else_is_pointed_out(example_references):
    man, woman = example_references["man_1"], example_references["woman_1"]
    photos = [AnalysedPhoto((face,), chosen=0) for face in (man, woman, man)]
    first, second, third = face_markup.face_picker(photos).split('<div class="mm-photo">')[1:]
    assert "Another person" in second and "Another person" not in first + third
    assert "Another person" not in face_markup.face_picker([photos[0], photos[2]])


def test_the_page_says_what_python_says_of_a_photo_without_a_face(tmp_path):
    from magicmirror.errors import NoFaceFound
    from magicmirror.faces.selection import choose_face
    from magicmirror.ui.photos import analyse_photo

    class Blind:
        def analyze(self, photo):
            return ()

    with pytest.raises(NoFaceFound) as caught:
        choose_face(())
    assert analyse_photo(Blind(), tmp_path / "any.png").problem == str(caught.value)
    assert words.NO_PHOTO in face_markup.face_picker([])


def test_examples_are_labelled_buttons(examples):
    text = face_markup.example_strip(sorted(examples.glob("man_*.jpg")))
    assert re.findall(r'aria-label="([^"]+)"', text) == [f"Use the example face man {n}" for n in (1, 2, 3)]
    assert text.count("data:image/jpeg;base64,") == 3


def film(*prompts):
    shots = tuple(Take(Path(f"{i}.mp4"), Path(f"{i}.json"), {"prompt": text}) for i, text in enumerate(prompts))
    return JobResult(Path("film.mp4"), Path("film.json"), {}, kind="film", takes=shots)


def test_takes_are_listed_best_first_and_shots_in_order():
    takes = tuple(Take(Path(f"{i}.mp4"), Path("s.json"), {}, (value,), "same") for i, value in enumerate((0.8, 0.95)))
    ranked = JobResult(Path("1.mp4"), Path("s.json"), {}, kind="takes", takes=takes, ranking=(1, 0))
    text = result_markup.parts_strip(ranked, 1)
    assert re.findall(r"<b>(Take \d)</b>", text) == ["Take 2", "Take 1"]
    assert re.findall(r'aria-pressed="(\w+)"', text) == ["true", "false"]
    shots = result_markup.parts_strip(film("a", "b"), None)
    assert re.findall(r"<b>(.*?)</b>", shots) == [words.WHOLE_FILM, "Shot 1", "Shot 2"]
    assert shots.count("retake") == 2 and "retake" not in text
    assert result_markup.parts_strip(result(), None) == ""


def test_a_whole_film_shows_the_prompts_of_all_shots_and_a_shot_its_own():
    made = film("a woman nods", "a woman looks up")
    assert "Prompt: a woman nods / a woman looks up<" in result_markup.summary(made, None)
    assert "Video: a woman nods / a woman looks up" in result_markup.stage(made, None)
    assert "Prompt: a woman looks up<" in result_markup.summary(made, 1)


def test_nothing_of_a_prompt_gets_in_as_html():
    evil = '"><script>alert(1)</script>'
    pieces = [
        result_markup.stage(film(evil, evil), 0),
        history_markup.history([entry(film(evil, evil), evil)], 24.0),
        prompt_markup.prompt_notes([PromptNotes(evil, 1, 2, (evil,))]),
    ]
    assert all("<script" not in piece and "&lt;script" in piece for piece in pieces)


def entry(made, prompt="a man", created_s=0.0):
    return HistoryEntry(JobStatus("j", "done", "ended"), "film", prompt, created_s, made)


def test_the_history_says_what_and_when_and_how_long_it_is_kept():
    text = history_markup.history([entry(film("a", "b"), created_s=1000.0)], 24.0, now_s=1000.0 + 7300.0)
    assert "Film, 2 h ago" in text and "Delete: a man" in text
    assert "24 hours" in history_markup.history([], 24.0) and "hours" not in history_markup.history([], 0.0)
    failed = HistoryEntry(JobStatus("j", "failed", "ended"), "takes", "a man", 0.0)
    assert history_markup.history([failed], 0.0) == history_markup.history([], 0.0)


def test_notes_count_tokens_and_name_what_is_missing():
    text = prompt_markup.prompt_notes([PromptNotes("man", 3, 40, ()), PromptNotes("", 41, 40, ("zebra",))])
    assert "Shot 1" in text and "goes to &quot;man&quot;" in text and "3 of 40 tokens" in text
    assert "Too long: 41 of 40" in text and "zebra" in text and "No person named" in text
    unknown = prompt_markup.prompt_notes([PromptNotes("man", None, None, ())])
    assert "tokens" not in unknown and "Shot" not in unknown


def test_the_forecast_says_whether_it_was_measured_and_who_is_before():
    assert "Takes about 12 s" in prompt_markup.forecast_line(Forecast(12.0, 0.0, 0, True))
    text = prompt_markup.forecast_line(Forecast(600.0, 30.0, 2, False))
    assert "roughly 10 min" in text and "starts in about 30 s" in text
    assert "Takes" not in prompt_markup.forecast_line(None)
    assert "Memory: resident: all &lt;of&gt; it." in prompt_markup.forecast_line(
        Forecast(12.0, 0.0, 0, True, "resident: all <of> it")
    )


def test_progress_covers_all_parts_of_a_job():
    status = JobStatus("j", "running", "denoising", step=5, total=10, part=2, parts=4)
    text = markup.progress(status, "film")
    assert "Shot 2 of 4: Step 5 of 10" in text and 'aria-valuenow="38"' in text
