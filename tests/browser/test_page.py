"""The page in a real browser on the fake engine: everything that goes well."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from magicmirror.media import load_image, read_settings, read_video
from magicmirror.serving.fake_engine import FakeJob
from magicmirror.ui import words
from tests.media.corpus_bases import heic_files
from tests.pictures import encoded

pytestmark = pytest.mark.browser

FACES = "#mm-faces button"
PRESSED = "#mm-faces button[aria-pressed=true]"
PLAYING = """() => {
  const video = document.querySelector('#mm-stage video[data-main]');
  return !!video && video.readyState >= 2 && video.currentTime > 0 && !video.paused;
}"""
GIVE_CONSENT = "#mm-consent input"


def upload(page, *paths):
    page.locator("#mm-photos input[type=file]").first.set_input_files([str(path) for path in paths])
    page.locator(FACES).first.wait_for()


def prepare(page, prompt="a woman smiles", example=0, kind="takes"):
    """Take an example face, agree, choose what to make, and write the prompt."""
    page.locator("#mm-examples button").nth(example).click()
    page.locator(PRESSED).wait_for()
    page.locator(GIVE_CONSENT).check()
    if kind != "takes":
        page.locator("#mm-kind").get_by_label(words.KINDS[kind], exact=True).check()
        page.get_by_text(words.KIND_HINTS[kind]).wait_for()
    page.locator("#mm-prompt textarea").fill(prompt)


def finish(page):
    """Press Generate and wait for the result."""
    page.locator("#mm-generate").click()
    page.locator("#mm-stop:not([disabled])").wait_for()
    page.locator("#mm-summary .mm-reading").wait_for()


def prompt_of(page):
    return page.locator("#mm-prompt textarea").input_value()


def test_a_photo_from_the_camera(studio, visit):
    """Chromium's make-believe camera looks at an example face."""
    page = visit(studio.url, permissions=["camera"])
    page.locator("#mm-photos").get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#mm-photos video')?.videoWidth > 0")
    page.locator("#mm-photos").get_by_label("capture photo").click()
    page.locator(PRESSED).wait_for()
    assert page.locator(FACES).count() == 1
    page.get_by_text(words.CROP_NOTE).wait_for()


def test_from_two_faces_to_a_video_and_back(studio, visit, examples, tmp_path):
    studio.engine.play(FakeJob(step_s=0.8))
    page = visit(studio.url)
    upload(page, examples / "two_people.jpg")
    assert page.locator(FACES).count() == 2 and page.locator(PRESSED).count() == 0
    page.get_by_text(words.CHOOSE_FACE).wait_for()
    page.locator(FACES).nth(1).click()
    page.locator(PRESSED).wait_for()
    assert page.locator(FACES).nth(1).get_attribute("aria-pressed") == "true"
    page.locator("#mm-forecast").get_by_text("Takes").wait_for()
    page.locator("#mm-prompt textarea").fill("a woman smiles")
    page.locator("#mm-generate").click()
    page.locator("#mm-status").get_by_text(words.NEED_CONSENT).wait_for()
    page.locator(GIVE_CONSENT).check()
    page.locator("#mm-generate").click()
    page.locator("#mm-stage .mm-live img").wait_for()
    assert page.locator("#mm-generate").is_disabled()
    page.wait_for_function(PLAYING)

    page.locator("#mm-summary").get_by_text(words.LIKENESS["close"]).wait_for()
    assert "0.95" in page.locator("#mm-summary").inner_text()
    assert page.locator("#mm-summary svg polyline").count() == 1
    got = {}
    for name in ("video", "settings"):
        with page.expect_download() as download:
            page.locator(f"#mm-download-{name}").click()
        got[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(got[name])
    with page.expect_download() as download:
        page.locator("#mm-gif").click()
    download.value.save_as(tmp_path / "got.gif")
    assert (tmp_path / "got.gif").read_bytes()[:6] == b"GIF89a"
    assert got["video"].suffix == ".mp4" and read_video(got["video"])[0].shape[0] == 17
    seed = json.loads(got["settings"].read_text())["seed"]
    assert seed == read_settings(got["video"])["seed"]
    assert page.locator("#mm-seed input").input_value() == str(seed)
    assert f"{seed}" in page.locator("#mm-summary").inner_text()

    stranger = visit(studio.url)
    stranger.locator("#mm-restore input[type=file]").set_input_files(str(got["video"]))
    stranger.locator("#mm-status").get_by_text(words.RESTORED_NEEDS_FACE).wait_for()
    assert prompt_of(stranger) == "a woman smiles"
    assert stranger.locator("#mm-seed input").input_value() == str(seed)
    assert not stranger.locator("#mm-randomise input").is_checked()
    assert not list(studio.uploads.rglob("*.mp4"))
    assert not [path for path in studio.uploads.rglob("*") if path.is_file() and not path.stat().st_size]


@pytest.mark.parametrize("kind", ["heic", "tiff"])
def test_a_photo_that_no_browser_shows_is_shown_by_a_copy(studio, visit, examples, tmp_path, kind):
    with Image.open(examples / "woman_1.jpg") as opened:
        picture = opened.convert("RGB")
    if kind == "heic" and not heic_files(picture):
        pytest.skip("pillow-heif is not installed")
    photo = tmp_path / f"IMG_0001.{kind.upper()}"
    photo.write_bytes(heic_files(picture)[0] if kind == "heic" else encoded(picture, "TIFF"))
    page = visit(studio.url)
    upload(page, photo)
    page.wait_for_function("document.querySelector('#mm-photos img')?.naturalWidth > 100")
    assert page.locator(PRESSED).count() == 1
    (kept,) = studio.uploads.rglob(photo.name)
    assert kept.read_bytes() == photo.read_bytes()
    page.locator("#mm-photos input[type=file]").first.set_input_files(str(examples / "woman_1.jpg"))
    page.locator(FACES).nth(1).wait_for()
    assert page.locator("#mm-photos img").count() == 2
    page.locator(GIVE_CONSENT).check()
    page.locator("#mm-prompt textarea").fill("a woman nods")
    finish(page)
    page.goto("about:blank")
    while [*studio.uploads.rglob("IMG_0001.*"), *studio.uploads.rglob("woman_1.jpg")]:
        page.wait_for_timeout(100)


def test_the_prompt_is_judged_while_it_is_written_and_the_helper_writes_one(studio, visit):
    page = visit(studio.url)
    notes = page.locator("#mm-notes")
    page.locator("#mm-prompt textarea").fill("a quantum wizard is juggling")
    notes.get_by_text(words.PERSON_FOUND.format(word="wizard")).wait_for()
    notes.get_by_text(words.UNKNOWN_WORDS.format(words="quantum, juggling")).wait_for()
    page.locator("#mm-prompt textarea").fill("the camera zooms in")
    notes.get_by_text(words.PERSON_MISSING).wait_for()
    page.locator("#mm-prompts button").nth(1).click()
    notes.get_by_text(words.PERSON_FOUND.format(word="man")).wait_for()
    assert prompt_of(page) == words.PROMPT_EXAMPLES[1]
    page.get_by_text(words.HELPER_LABEL).click()
    page.locator("#mm-compose").click()
    notes.get_by_text(words.PERSON_FOUND.format(word="woman")).wait_for()
    assert prompt_of(page) == "a woman smiles" and notes.locator(".mm-warn").count() == 0


def test_takes_come_ranked_and_another_one_has_the_same_settings(studio, visit):
    page = visit(studio.url)
    prepare(page)
    studio.engine.play(FakeJob(likeness=0.80), FakeJob(likeness=0.96), FakeJob(likeness=0.93))
    page.locator("#mm-takes input[type=number]").fill("3")
    finish(page)
    cards = page.locator("#mm-strip button")
    assert [text.split("\n")[0] for text in cards.all_inner_texts()] == ["Take 2", "Take 3", "Take 1"]
    assert cards.first.get_attribute("aria-pressed") == "true"
    assert page.locator("#mm-summary .mm-score").inner_text() == "0.96"
    cards.nth(2).click()
    page.locator("#mm-summary").get_by_text(words.LIKENESS["none"]).wait_for()
    seed = page.locator("#mm-seed input").input_value()

    page.locator("#mm-reuse").click()
    page.locator("#mm-status").get_by_text(words.RESTORED).wait_for()
    assert page.locator("#mm-seed input").input_value() == seed and prompt_of(page) == "a woman smiles"
    page.locator("#mm-another").click()
    page.locator("#mm-stop:not([disabled])").wait_for()
    page.locator("#mm-summary").get_by_text(words.LIKENESS["close"]).wait_for()
    assert page.locator("#mm-seed input").input_value() != seed


def test_a_film_has_shots_that_can_be_taken_again(studio, visit):
    page = visit(studio.url)
    prepare(page, "a woman smiles", kind="film")
    page.locator("#mm-generate").click()
    page.locator("#mm-status").get_by_text(words.NEED_SHOTS.format(count=1)).wait_for()
    page.locator("#mm-prompt textarea").fill("a woman smiles\na woman nods")
    finish(page)
    page.wait_for_function(PLAYING)
    seconds = page.evaluate("document.querySelector('#mm-stage video').duration")
    assert seconds == pytest.approx(2 * 17 / 8, abs=0.3)
    sources = page.locator("#mm-strip video").evaluate_all("videos => videos.map(video => video.src)")
    page.get_by_label(f"{words.RETAKE}: Shot 2").click()
    page.locator("#mm-stop:not([disabled])").wait_for()
    page.locator("#mm-summary .mm-reading").wait_for()
    again = page.locator("#mm-strip video").evaluate_all("videos => videos.map(video => video.src)")
    assert len(again) == 2 and again[1] != sources[1]


def test_a_comparison_shows_three_strengths_and_a_picture_is_a_picture(studio, visit, tmp_path):
    page = visit(studio.url)
    prepare(page, kind="compare")
    finish(page)
    assert page.locator("#mm-stage figcaption").all_inner_texts() == ["Strength 0.5", "Strength 1", "Strength 1.5"]
    assert page.locator("#mm-stage video").count() == 3
    page.locator("#mm-kind").get_by_label(words.KINDS["image"], exact=True).check()
    finish(page)
    page.locator("#mm-stage img").wait_for()
    with page.expect_download() as download:
        page.locator("#mm-download-video").click()
    download.value.save_as(tmp_path / "got.png")
    assert load_image(tmp_path / "got.png").shape == (128, 128, 3) and not page.locator("#mm-gif").is_visible()


def test_the_history_is_of_this_browser_only_and_can_be_deleted(studio, visit):
    page, stranger = visit(studio.url), visit(studio.url)
    prepare(page, "a woman shakes her head")
    finish(page)
    page.locator("#mm-history").get_by_text("a woman shakes her head").wait_for()
    page.reload()
    page.locator("#mm-history").get_by_text("a woman shakes her head").wait_for()
    page.wait_for_function(PLAYING)  # what was made last is shown again
    assert page.locator(GIVE_CONSENT).is_checked() and page.locator(FACES).count() == 0
    stranger.reload()
    stranger.locator("#mm-history").get_by_text("is listed here").wait_for()
    assert "shakes her head" not in stranger.locator("body").inner_text()
    page.get_by_label("Delete: a woman shakes her head").click()
    page.locator("#mm-history").get_by_text("is listed here").wait_for()
    page.locator("#mm-stage .mm-empty").wait_for()


def test_photos_are_forgotten_when_the_page_is_closed(studio, visit, examples):
    page = visit(studio.url)
    upload(page, examples / "man_2.jpg")
    files = list(studio.uploads.rglob("man_2.jpg"))
    assert files
    page.close()
    watcher = visit(studio.url)
    for _ in range(100):
        if not any(file.exists() for file in files):
            return
        watcher.wait_for_timeout(100)
    pytest.fail(f"still there: {[file for file in files if file.exists()]}")
