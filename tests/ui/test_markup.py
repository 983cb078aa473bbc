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

from magicmirror.serving.jobs import JobResult, JobStatus
from magicmirror.types import QualityCheck
from magicmirror.ui import markup, words
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


def test_a_failure_is_escaped():
    text = markup.progress(JobStatus("j", "failed", "ended", message="<img src=x onerror=alert(1)>"))
    assert "&lt;img" in text and "<img" not in text and 'role="alert"' in text
    assert "<b>" not in markup.summary(result(seed="<b>1</b>"))


def test_the_summary_states_likeness_seed_and_frames():
    text = markup.summary(result(timings_s={"total": 3.14}))
    assert "0.94" in text and words.LIKENESS["same"] in text
    assert "<dd>0</dd>" in text and "2 of 3 frames" in text and "3.1 s" in text
    assert len(re.findall("<polyline", text)) == 2  # the frame without a face leaves a gap


def test_a_video_without_any_face_has_no_score():
    text = markup.summary(result((None, None), "unseen"))
    assert "mm-score" not in text and words.LIKENESS["unseen"] in text and "0 of 2 frames" in text


def test_the_picker_presses_the_chosen_face_and_shows_its_crop(example_references):
    man, woman = example_references["man_1"], example_references["woman_1"]
    text = markup.face_picker([AnalysedPhoto((man, woman), chosen=1), AnalysedPhoto((man,), chosen=0)])
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
    assert words.CHOOSE_FACE in markup.face_picker([AnalysedPhoto((man, man))])
    poor = replace(man, checks=(*man.checks, QualityCheck("size", 9.0, 20.0, "px", False, "Come <closer>.")))
    assert "Come &lt;closer&gt;." in markup.face_picker([AnalysedPhoto((poor,), chosen=0)])
    assert "closer" not in markup.face_picker([AnalysedPhoto((man, poor), chosen=0)])  # of the chosen face only
    good = markup.face_picker([AnalysedPhoto((man,), chosen=0)])
    assert "mm-note" not in good and "mm-alert" not in good and words.CHOOSE_FACE not in good
    assert "Nothing there." in markup.face_picker([AnalysedPhoto(problem="Nothing there.")])


def test_a_photo_of_somebody_else_is_pointed_out(example_references):
    man, woman = example_references["man_1"], example_references["woman_1"]
    photos = [AnalysedPhoto((face,), chosen=0) for face in (man, woman, man)]
    first, second, third = markup.face_picker(photos).split('<div class="mm-photo">')[1:]
    assert "Another person" in second and "Another person" not in first + third
    assert "Another person" not in markup.face_picker([photos[0], photos[2]])


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
    assert words.NO_PHOTO in markup.face_picker([])


def test_examples_are_labelled_buttons(examples):
    text = markup.example_strip(sorted(examples.glob("man_*.jpg")))
    assert re.findall(r'aria-label="([^"]+)"', text) == [f"Use the example face man {n}" for n in (1, 2, 3)]
    assert text.count("data:image/jpeg;base64,") == 3
