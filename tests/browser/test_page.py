"""The page in a real browser: with the fake engine for every way a job can go, and once with the real model."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from magicmirror.media import read_settings, read_video, write_image
from magicmirror.serving.fake_engine import FakeEngine, FakeJob
from magicmirror.serving.storage import ResultStorage
from magicmirror.ui import words

pytestmark = pytest.mark.browser

FACES = "#mm-faces button"
PRESSED = "#mm-faces button[aria-pressed=true]"
PLAYING = """() => {
  const video = document.querySelector('#mm-video video');
  return !!video && video.readyState >= 2 && video.currentTime > 0 && !video.paused;
}"""


@pytest.fixture
def fake(tmp_path):
    """``fake(script) -> engine``."""
    return lambda script=(), **options: FakeEngine(ResultStorage(tmp_path / "results"), script, **options)


def upload(page, *paths):
    page.locator("#mm-photos input[type=file]").first.set_input_files([str(path) for path in paths])
    page.locator(FACES).first.wait_for()


def write_prompt(page, text="a woman smiles"):
    page.locator("#mm-prompt textarea").fill(text)


def status(page, text):
    page.locator("#mm-status").get_by_text(text).first.wait_for()


def test_upload_choose_generate_play_and_download(open_page, fake, examples, tmp_path):
    page = open_page(fake())
    upload(page, examples / "two_people.jpg")
    assert page.locator(FACES).count() == 2 and page.locator(PRESSED).count() == 0
    page.get_by_text(words.CHOOSE_FACE).wait_for()
    page.locator(FACES).nth(1).click()
    page.locator(PRESSED).wait_for()
    assert page.locator(FACES).nth(1).get_attribute("aria-pressed") == "true"

    write_prompt(page)
    page.locator("#mm-generate").click()
    page.wait_for_function(PLAYING)
    before = page.evaluate("document.querySelector('#mm-video video').currentTime")
    page.wait_for_function(f"document.querySelector('#mm-video video').currentTime != {before}")

    page.locator("#mm-summary").get_by_text(words.LIKENESS["close"]).wait_for()
    assert "0.95" in page.locator("#mm-summary").inner_text()
    with page.expect_download() as video:
        page.locator("#mm-download-video").click()
    with page.expect_download() as settings:
        page.locator("#mm-download-settings").click()
    video.value.save_as(tmp_path / "got.mp4")
    settings.value.save_as(tmp_path / "got.json")
    assert video.value.suggested_filename.endswith(".mp4") and read_video(tmp_path / "got.mp4")[0].shape[0] == 17
    seed = json.loads((tmp_path / "got.json").read_text())["seed"]
    assert seed == read_settings(tmp_path / "got.mp4")["seed"]
    assert page.locator("#mm-seed input").input_value() == str(seed)
    assert f"{seed}" in page.locator("#mm-summary").inner_text()


def test_an_example_face_and_a_prompt_chip_are_enough(open_page, fake):
    page = open_page(fake())
    page.locator("#mm-examples button").nth(2).click()
    page.locator(PRESSED).wait_for()
    page.get_by_text(words.PROMPT_EXAMPLES[0]).click()
    page.wait_for_function("document.querySelector('#mm-prompt textarea').value.length > 0")
    page.locator("#mm-generate").click()
    page.wait_for_function(PLAYING)


def test_stop_ends_the_job_and_the_next_one_runs(open_page, fake, examples):
    engine = fake([FakeJob(step_s=5)])
    page = open_page(engine)
    upload(page, examples / "man_1.jpg")
    write_prompt(page)
    assert page.locator("#mm-stop").is_disabled()
    page.locator("#mm-generate").click()
    page.locator("#mm-status [role=progressbar][aria-valuenow]").wait_for()
    assert page.locator("#mm-generate").is_disabled()
    page.locator("#mm-stop").click()
    status(page, words.CANCELLED)
    assert not engine.health().running
    page.wait_for_function("!document.querySelector('#mm-generate').disabled")
    page.locator("#mm-generate").click()
    page.wait_for_function(PLAYING)


def test_a_waiting_job_shows_its_place_and_can_be_stopped(open_page, fake, examples, example_references):
    from magicmirror.types import GenerationRequest

    gate = threading.Event()
    engine = fake([FakeJob(gate=gate)])
    first = engine.submit(GenerationRequest("a man", (example_references["man_1"],), 0), "somebody else")
    page = open_page(engine)
    upload(page, examples / "man_1.jpg")
    write_prompt(page)
    page.locator("#mm-generate").click()
    status(page, words.QUEUED_NEXT)
    page.locator("#mm-stop").click()
    status(page, words.CANCELLED)
    gate.set()
    assert engine.wait(first, engine.status(first).version).state in ("running", "done")


def test_what_is_missing_is_said_in_plain_words(open_page, fake, examples, tmp_path):
    page = open_page(fake([FakeJob(error=RuntimeError("in /secret/place"))], capacity=1))
    page.locator("#mm-generate").click()
    status(page, words.NEED_PHOTO)
    plain = write_image(np.full((128, 128, 3), 90, np.uint8), tmp_path / "plain.png")
    page.locator("#mm-photos input[type=file]").first.set_input_files(str(plain))
    page.locator("#mm-faces").get_by_text("No face was found").wait_for()
    page.reload()
    upload(page, examples / "man_1.jpg")
    page.locator("#mm-generate").click()
    status(page, "The prompt is empty.")
    write_prompt(page)
    page.locator("#mm-generate").click()
    status(page, "Something went wrong inside the model.")
    text = page.locator("body").inner_text()
    assert "secret" not in text and "Traceback" not in text


def test_photos_are_forgotten_when_the_page_is_closed(open_page, fake, examples, tmp_path):
    page = open_page(fake())
    upload(page, examples / "man_1.jpg")
    files = list((tmp_path / "uploads").rglob("man_1.jpg"))
    assert files
    page.close()
    for _ in range(100):
        if not any(file.exists() for file in files):
            return
        threading.Event().wait(0.2)
    pytest.fail(f"still there: {[file for file in files if file.exists()]}")


def test_nothing_is_fetched_from_elsewhere_and_no_script_fails(open_page, fake, browser):
    engine = fake()
    page = open_page(engine)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.reload()
    page.locator("#mm-generate").wait_for()
    page.locator("#mm-examples button").first.wait_for()
    outside = [url for url in asked if not url.startswith(("http://127.0.0.1", "data:", "blob:"))]
    assert errors == [] and outside == []


def test_it_fits_a_phone(open_page, fake):
    page = open_page(fake(), viewport={"width": 390, "height": 844}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.body.classList.contains('dark')")


@pytest.mark.timeout(900)  # about 20 s on two idle cores
def test_the_real_model_makes_a_playing_video(open_page, repository, examples, tmp_path):
    if not (repository / "assets/models/preview/model_index.json").is_file():
        pytest.skip("the preview weights are not in assets/models/preview")
    from magicmirror.serving.local_engine import LocalEngine
    from magicmirror.settings import Settings

    engine = LocalEngine.from_settings(Settings(output_dir=tmp_path / "results", threads=1))
    page = open_page(engine)
    upload(page, examples / "woman_3.jpg")
    write_prompt(page)
    page.get_by_text(words.ADVANCED_LABEL).click()
    page.locator("#mm-steps input[type=number]").fill("2")
    page.locator("#mm-generate").click()
    page.wait_for_function(PLAYING, timeout=800_000)
    assert words.STEPS_USED in page.locator("#mm-summary").inner_text()
    frames, fps = read_video(next((tmp_path / "results").rglob("*.mp4")))
    assert frames.shape == (17, 128, 128, 3) and fps == 8
