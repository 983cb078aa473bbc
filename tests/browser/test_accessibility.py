"""axe-core, keyboard, phone and dark mode, on the page with everything on it."""

from __future__ import annotations

import pytest

from magicmirror.serving.fake_engine import FakeJob
from magicmirror.ui import words

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}


def violations(page):
    """What axe-core finds serious or critical, as readable lines."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{item['id']}: {node['target']} {node.get('failureSummary', '')}"
        for item in found
        if item["impact"] in ("serious", "critical")
        for node in item["nodes"]
    ]


def fill(page):
    """Bring everything onto the page: faces, notes, a result of two takes, the history."""
    page.locator("#mm-examples button").nth(1).click()
    page.locator("#mm-faces button[aria-pressed=true]").wait_for()
    page.locator("#mm-consent input").check()
    page.locator("#mm-prompt textarea").fill("a man juggles")
    page.locator("#mm-takes input[type=number]").fill("2")
    page.get_by_text(words.HELPER_LABEL).click()
    page.get_by_text(words.ADVANCED_LABEL).click()
    page.locator("#mm-generate").click()
    page.locator("#mm-stop:not([disabled])").wait_for()
    page.locator("#mm-summary .mm-reading").wait_for()
    page.wait_for_timeout(500)


def test_axe_finds_nothing_serious_in_light_and_dark(studio, visit):
    studio.engine.play(FakeJob(likeness=0.8), FakeJob(likeness=0.95))
    page = visit(studio.url, color_scheme="light")
    assert violations(page) == []
    fill(page)
    assert violations(page) == []
    page.get_by_label(words.DARK_MODE).click()
    assert page.evaluate("document.body.classList.contains('dark')")
    page.wait_for_timeout(300)
    assert violations(page) == []
    page.reload()
    page.locator("#mm-history li").first.wait_for()
    assert page.evaluate("document.body.classList.contains('dark')")  # this browser remembers it


def test_it_fits_a_phone_in_the_dark(studio, visit):
    page = visit(studio.url, viewport=PHONE, color_scheme="dark")
    assert page.evaluate("document.body.classList.contains('dark')")
    fill(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert violations(page) == []


def test_the_keyboard_is_enough(studio, visit):
    page = visit(studio.url)
    page.locator("#mm-examples button").nth(2).focus()
    page.keyboard.press("Enter")
    page.locator("#mm-faces button[aria-pressed=true]").wait_for()
    page.locator("#mm-faces button").focus()
    page.keyboard.press("Space")
    page.wait_for_function("document.activeElement?.closest('#mm-faces') !== null")  # not lost when it is drawn anew
    page.locator("#mm-consent input").focus()
    page.keyboard.press("Space")
    page.locator("#mm-kind input").first.focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text(words.KIND_HINTS["film"]).wait_for()
    page.keyboard.press("ArrowRight")
    page.get_by_text(words.KIND_HINTS["image"]).wait_for()
    page.locator("#mm-prompts button").first.focus()
    page.keyboard.press("Enter")
    page.locator("#mm-notes .mm-good").wait_for()
    page.locator("#mm-generate").focus()
    page.keyboard.press("Enter")
    page.locator("#mm-stage img[src*=png]").wait_for()
