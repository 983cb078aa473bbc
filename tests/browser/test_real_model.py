"""The whole path in a real browser with the real model and the preview weights."""

from __future__ import annotations

import pytest

from magicmirror.media import read_settings, read_video
from magicmirror.settings import Settings
from magicmirror.ui import words

pytestmark = pytest.mark.browser

PLAYING = """() => {
  const video = document.querySelector('#mm-stage video[data-main]');
  return !!video && video.readyState >= 2 && video.currentTime > 0 && !video.paused;
}"""


@pytest.mark.timeout(900)  # about 20 s on one idle core
def test_from_the_second_face_to_a_video_and_back_to_its_settings(serve, visit, repository, examples, tmp_path):
    if not (repository / "assets/models/preview/model_index.json").is_file():
        pytest.skip("the preview weights are not in assets/models/preview")
    from magicmirror.serving.local_engine import LocalEngine

    page = visit(serve(LocalEngine.from_settings(Settings(output_dir=tmp_path / "results", threads=1))))
    page.locator("#mm-photos input[type=file]").first.set_input_files(str(examples / "two_people.jpg"))
    page.get_by_text(words.CHOOSE_FACE).wait_for()
    page.locator("#mm-faces button").nth(1).click()
    page.locator("#mm-faces .mm-checks p").first.wait_for()
    page.locator("#mm-consent input").check()
    page.locator("#mm-prompts button").nth(2).click()
    page.locator("#mm-notes .mm-good").wait_for()
    page.get_by_text(words.ADVANCED_LABEL).click()
    page.locator("#mm-steps input[type=number]").fill("4")
    page.locator("#mm-generate").click()
    page.locator("#mm-stage .mm-live img").wait_for(timeout=600_000)
    page.wait_for_function(PLAYING, timeout=800_000)

    assert page.locator("#mm-summary .mm-score").count() == 1
    assert page.locator("#mm-summary svg.mm-curve polyline").count() >= 1
    with page.expect_download() as download:
        page.locator("#mm-download-video").click()
    video = tmp_path / "got.mp4"
    download.value.save_as(video)
    frames, fps = read_video(video)
    assert frames.shape == (17, 128, 128, 3) and fps == 8
    settings = read_settings(video)
    assert settings["num_inference_steps"] == 4 and settings["prompt"] == words.PROMPT_EXAMPLES[2]

    page.locator("#mm-prompt textarea").fill("")
    page.locator("#mm-status").get_by_text(words.NEED_PROMPT).wait_for()
    page.locator("#mm-restore input[type=file]").set_input_files(str(video))
    page.locator("#mm-status").get_by_text(words.RESTORED_SAME_FACE).wait_for()
    assert page.locator("#mm-prompt textarea").input_value() == settings["prompt"]
    assert page.locator("#mm-seed input").input_value() == str(settings["seed"])
