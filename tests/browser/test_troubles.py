"""The page in a real browser on the fake engine: everything that goes slowly or wrong."""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

import numpy as np
import pytest

from magicmirror.media import write_image
from magicmirror.serving.fake_engine import FakeEngine, FakeJob
from magicmirror.serving.reasons import OUT_OF_MEMORY_MESSAGE
from magicmirror.serving.storage import ResultStorage
from magicmirror.types import GenerationRequest
from magicmirror.ui import words

pytestmark = pytest.mark.browser

PLAYING = "() => document.querySelector('#mm-stage video[data-main]')?.currentTime > 0"


@pytest.fixture
def gate(studio):
    """An event that the next job waits for; opened at the end of the test, so that nothing waits for ever."""
    event = threading.Event()
    studio.engine.play(FakeJob(gate=event))
    yield event
    event.set()
    while studio.engine.health().running:
        threading.Event().wait(0.05)


@pytest.fixture
def elsewhere(example_references):
    """A request of somebody who does not use the page."""
    return GenerationRequest("a man", (example_references["man_1"],), 0, profile="fake")


def prepare(page, example=0, prompt="a woman smiles"):
    page.locator("#mm-examples button").nth(example).click()
    page.locator("#mm-faces button[aria-pressed=true]").wait_for()
    page.locator("#mm-consent input").check()
    page.locator("#mm-prompt textarea").fill(prompt)


def status(page, text):
    page.locator("#mm-status").get_by_text(text).first.wait_for()


def test_a_waiting_job_shows_its_place_and_can_be_stopped_and_a_full_queue_says_so(studio, visit, gate, elsewhere):
    first = studio.engine.submit(elsewhere, "somebody")
    page, late = visit(studio.url), visit(studio.url)
    prepare(page)
    prepare(late)
    page.locator("#mm-generate").click()
    status(page, words.QUEUED_NEXT)
    waiting = studio.engine.submit(elsewhere, "somebody")
    late.locator("#mm-generate").click()
    status(late, "waiting places are taken")
    assert late.locator("#mm-generate").is_enabled()
    page.locator("#mm-stop").click()
    status(page, words.CANCELLED)
    assert studio.engine.status(waiting).queue_position == 1
    studio.engine.cancel(waiting)
    gate.set()
    assert studio.engine.wait(first, studio.engine.status(first).version).state in ("running", "done")


def test_stop_ends_a_running_job_and_the_next_one_runs(studio, visit):
    studio.engine.play(FakeJob(step_s=5))
    page = visit(studio.url)
    prepare(page)
    assert page.locator("#mm-stop").is_disabled()
    page.locator("#mm-generate").click()
    page.locator("#mm-status [role=progressbar]").wait_for()
    page.locator("#mm-stop:not([disabled])").click()
    status(page, words.CANCELLED)
    assert not studio.engine.health().running
    page.locator("#mm-generate:not([disabled])").click()
    page.wait_for_function(PLAYING)


@pytest.mark.parametrize(
    ("error", "message"),
    [(MemoryError("at /secret/place"), OUT_OF_MEMORY_MESSAGE), (SystemExit("secret"), words.FAILED.format(reason=""))],
    ids=["out of memory", "worker killed"],
)
def test_a_job_that_ends_badly_is_said_plainly_and_the_next_one_runs(studio, visit, error, message):
    studio.engine.play(FakeJob(error=error))
    page = visit(studio.url)
    prepare(page)
    page.locator("#mm-generate").click()
    status(page, message)
    text = page.locator("body").inner_text()
    assert "secret" not in text and "Traceback" not in text
    page.locator("#mm-generate:not([disabled])").click()
    page.wait_for_function(PLAYING)


def test_a_job_is_found_again_after_a_reload_in_the_middle(studio, visit, gate):
    page = visit(studio.url)
    prepare(page, prompt="a woman nods")
    page.locator("#mm-generate").click()
    page.locator("#mm-stop:not([disabled])").wait_for()
    page.reload()
    page.locator("#mm-stop:not([disabled])").wait_for()
    page.locator("#mm-status [role=progressbar]").wait_for()
    assert page.locator("#mm-generate").is_disabled()
    page.locator("#mm-history p").wait_for()  # earlier results are not kept back until the job is done
    gate.set()
    page.wait_for_function(PLAYING)
    page.locator("#mm-summary").get_by_text("a woman nods").wait_for()
    page.locator("#mm-history").get_by_text("a woman nods").wait_for()


def test_a_page_that_is_open_outlives_a_restart_of_the_server(serve, visit, tmp_path):
    def restart(port=None):
        return serve(FakeEngine(ResultStorage(tmp_path / "results")), port)

    url = restart()
    page = visit(url)
    prepare(page, prompt="a woman nods")
    page.locator("#mm-generate").click()
    page.locator("#mm-history li").wait_for()
    serve.stop()
    page.get_by_text(words.AWAY).wait_for()
    assert restart(urlsplit(url).port) == url
    page.get_by_text(words.RESTARTED).wait_for()
    page.locator("#mm-history li").wait_for()
    page.wait_for_function("() => document.querySelector('#mm-prompt textarea')?.value === 'a woman nods'")
    page.locator("#mm-examples button").first.click()
    page.locator("#mm-faces button[aria-pressed=true]").wait_for()
    page.locator("#mm-generate").click()
    page.locator("#mm-history li").nth(1).wait_for()


def test_two_users_at_once_get_their_own_videos(studio, visit):
    studio.engine.play(FakeJob(step_s=0.2))
    pages = [visit(studio.url), visit(studio.url)]
    prompts = ["a man nods slowly", "a girl blinks"]
    for example, (page, prompt) in enumerate(zip(pages, prompts, strict=True)):
        prepare(page, example, prompt)
        page.locator("#mm-generate").click()
    sources = set()
    for page, prompt in zip(pages, prompts, strict=True):
        page.wait_for_function(PLAYING)
        page.locator("#mm-summary").get_by_text(prompt).wait_for()
        assert page.locator("#mm-history li").count() == 1
        sources.add(page.locator("#mm-stage video").get_attribute("src"))
    assert len(sources) == 2


def test_what_is_missing_is_said_in_plain_words(studio, visit, examples, tmp_path):
    page = visit(studio.url)
    page.locator("#mm-generate").click()
    status(page, words.NEED_PHOTO)
    plain = write_image(np.full((128, 128, 3), 90, np.uint8), tmp_path / "plain.png")
    page.locator("#mm-photos input[type=file]").first.set_input_files(str(plain))
    page.locator("#mm-faces").get_by_text("No face was found").wait_for()
    page.locator("#mm-examples button").first.click()
    page.locator("#mm-faces button[aria-pressed=true]").wait_for()
    page.locator("#mm-consent input").check()
    page.locator("#mm-generate").click()
    status(page, "The prompt is empty.")
    page.wait_for_timeout(500)
    status(page, "The prompt is empty.")  # stays until something changes
    page.locator("#mm-prompt textarea").fill("a woman smiles")
    status(page, words.READY)
    page.locator("#mm-prompt textarea").fill("")
    status(page, words.NEED_PROMPT)
    page.locator("#mm-restore input[type=file]").set_input_files(str(_foreign_mp4(tmp_path)))
    status(page, "No settings were found in this file.")


def test_the_status_line_says_what_is_missing_before_generate_is_pressed(studio, visit, examples):
    page = visit(studio.url)
    shown = page.locator("#mm-status p")
    assert shown.inner_text() == words.IDLE
    page.locator("#mm-prompts button").first.click()
    status(page, words.NEED_PHOTO)
    page.locator("#mm-photos input[type=file]").first.set_input_files(str(examples / "two_people.jpg"))
    status(page, words.NEED_CHOICE.format(number=1))
    page.locator("#mm-faces button").first.click()
    status(page, words.NEED_CONSENT)
    page.locator("#mm-consent input").check()
    status(page, words.READY)
    page.locator("#mm-prompt textarea").fill("")
    status(page, words.NEED_PROMPT)
    page.locator("#mm-prompt textarea").fill("the sea")
    status(page, "names no person")
    page.locator("#mm-prompt textarea").fill("a woman smiles")
    status(page, words.READY)
    page.locator("#mm-kind").get_by_label(words.KINDS["film"], exact=True).check()
    status(page, words.NEED_SHOTS.format(count=1))
    page.locator("#mm-kind").get_by_label(words.KINDS["takes"], exact=True).check()
    status(page, words.READY)
    page.locator("#mm-consent input").uncheck()
    status(page, words.NEED_CONSENT)


@pytest.fixture
def slow_search(studio, monkeypatch):
    """An event that the search in one-coloured pictures waits for."""
    event, search = threading.Event(), studio.engine.analyze

    def analyze(photo):
        faces = search(photo)
        assert faces or event.wait(60)
        return faces

    monkeypatch.setattr(studio.engine, "analyze", analyze)
    yield event
    event.set()


def test_a_photo_that_is_still_searched_is_waited_for_and_a_later_one_counts(studio, visit, tmp_path, slow_search):
    page = visit(studio.url)
    prepare(page)
    status(page, words.READY)
    plain = write_image(np.full((128, 128, 3), 90, np.uint8), tmp_path / "plain.png")
    page.locator("#mm-photos input[type=file]").first.set_input_files(str(plain))
    status(page, words.SEARCHING)
    page.locator("#mm-generate").click()
    page.locator("#mm-status .mm-bad").get_by_text(words.SEARCHING).wait_for()
    assert page.locator("#mm-history li").count() == 0
    page.locator("#mm-examples button").nth(1).click()
    page.locator("#mm-faces button[aria-pressed=true]").wait_for()
    slow_search.set()
    page.wait_for_timeout(1500)
    status(page, words.READY)
    assert page.locator("#mm-faces button[aria-pressed=true]").count() == 1
    assert page.locator("#mm-photos img").count() == 1


def test_photos_are_searched_once_though_the_gallery_tells_of_them_twice(studio, visit, monkeypatch):
    """A second search would keep Generate waiting that was pressed after the first, and forget the chosen face."""
    searched, search = [], studio.engine.analyze
    monkeypatch.setattr(studio.engine, "analyze", lambda photo: searched.append(photo.name) or search(photo))
    page = visit(studio.url)
    prepare(page)
    status(page, words.READY)
    for example in (1, 0, 2):
        page.locator("#mm-examples button").nth(example).click()
        page.wait_for_timeout(1000)
        status(page, words.READY)
    assert searched == ["man_1.jpg", "man_2.jpg", "man_1.jpg", "man_3.jpg"]


def test_photos_whose_search_broke_can_be_tried_again(studio, visit, monkeypatch):
    search, answers = studio.engine.analyze, [RuntimeError("a fault in a library")]

    def analyze(photo):
        if answers:
            raise answers.pop()
        return search(photo)

    monkeypatch.setattr(studio.engine, "analyze", analyze)
    page = visit(studio.url)
    page.locator("#mm-examples button").first.click()
    page.wait_for_timeout(1500)
    assert answers == []
    page.locator("#mm-examples button").first.click()
    page.locator("#mm-faces button[aria-pressed=true]").wait_for(timeout=20_000)


def test_a_page_at_rest_asks_for_nothing(studio, visit, monkeypatch):
    """Two listeners of one event once woke each other for ever after quick typing."""
    asked, forecast = [], studio.engine.forecast
    monkeypatch.setattr(studio.engine, "forecast", lambda work: asked.append(work) or forecast(work))
    page = visit(studio.url)
    prepare(page, prompt="")
    page.locator("#mm-prompt textarea").press_sequentially("a woman smiles and waves", delay=20)
    status(page, words.READY)
    page.wait_for_timeout(1500)
    calls = len(asked)
    page.wait_for_timeout(1500)
    assert 0 < len(asked) == calls


def test_what_is_written_during_a_job_leaves_its_progress_alone(studio, visit, gate):
    page = visit(studio.url)
    prepare(page)
    page.locator("#mm-generate").click()
    page.locator("#mm-status [role=progressbar]").wait_for()
    page.locator("#mm-prompt textarea").fill("a woman nods")
    page.locator("#mm-notes").get_by_text("woman").wait_for()
    page.wait_for_timeout(500)
    assert page.locator("#mm-status [role=progressbar]").is_visible()
    gate.set()
    status(page, words.DONE)


def _foreign_mp4(folder):
    path = folder / "holiday.mp4"
    path.write_bytes(b"not a video at all")
    return path
