"""The page: which components there are, where they stand, and which handler each event calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from magicmirror.pipeline.profiles import Profile, find_profile
from magicmirror.serving.engine import Engine
from magicmirror.settings import Settings
from magicmirror.ui import markup, words
from magicmirror.ui.api import add_api
from magicmirror.ui.handlers import PageHandlers
from magicmirror.ui.visitors import Visitors

EXAMPLES_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "examples"
GROUP_EXAMPLES = frozenset({"two_people"})
"""Pictures of several people are for trying out the choice of a face; they are not offered as one."""
CLEAN_EVERY_S = 600


@dataclass(frozen=True)
class PhotoPart:
    """Components of step 1."""

    examples: gr.HTML
    pictures: gr.Gallery
    faces: gr.HTML


@dataclass(frozen=True)
class FormPart:
    """Components of step 2."""

    prompt: gr.Textbox
    negative: gr.Textbox
    randomise: gr.Checkbox
    seed: gr.Number
    steps: gr.Slider
    guidance: gr.Slider
    identity: gr.Slider


@dataclass(frozen=True)
class ResultPart:
    """Components of step 3."""

    generate: gr.Button
    stop: gr.Button
    status: gr.HTML
    video: gr.Video
    summary: gr.HTML
    video_file: gr.DownloadButton
    settings_file: gr.DownloadButton


def build_app(engine: Engine, settings: Settings) -> gr.Blocks:
    """Build the app on an engine; nothing is launched.

    Args:
        engine: Makes the videos.
        settings: Limits, folders, profile.

    Returns:
        The app, to be launched with ``ui.launch``.
    """
    upload_folder = Path(get_upload_folder())
    examples = sorted(path for path in EXAMPLES_FOLDER.glob("*.jpg") if path.stem not in GROUP_EXAMPLES)
    handlers = PageHandlers(engine, Visitors(upload_folder), examples)
    keep_s = int(settings.retention_hours * 3600) or 10 * 365 * 24 * 3600
    with gr.Blocks(title=words.TITLE, analytics_enabled=False, delete_cache=(CLEAN_EVERY_S, keep_s)) as app:
        gr.HTML(markup.header(), js_on_load=None)
        banner = gr.HTML(elem_id="mm-banner", js_on_load=None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                photo = _photo_part(examples)
                form = _form_part(find_profile(settings.profile))
            with gr.Column(scale=1, min_width=280, elem_classes="mm-sticky"):
                result = _result_part()
        gr.HTML(markup.note(words.CONSENT_NOTE), js_on_load=None)
        add_api(engine)  # before the page's own events, so that the names of the API are free
        _wire(app, handlers, banner, photo, form, result)
    app.queue(default_concurrency_limit=None)
    return app


def _photo_part(examples: list[Path]) -> PhotoPart:
    gr.HTML(markup.step_title(words.PHOTO_STEP) + markup.note(words.PHOTOS_HINT), js_on_load=None)
    pictures = gr.Gallery(
        label=words.PHOTOS_LABEL,
        show_label=False,
        file_types=["image"],
        sources=["upload", "webcam", "clipboard"],
        type="filepath",
        interactive=True,
        columns=3,
        fit_columns=False,
        height=190,
        object_fit="contain",
        buttons=[],
        allow_preview=False,
        elem_id="mm-photos",
    )
    faces = gr.HTML(markup.face_picker(()), js_on_load=markup.PICK_SCRIPT, elem_id="mm-faces")
    strip = gr.HTML(
        markup.example_strip(examples),
        js_on_load=markup.PICK_SCRIPT,
        elem_id="mm-examples",
        visible=bool(examples),
    )
    return PhotoPart(strip, pictures, faces)


def _form_part(profile: Profile) -> FormPart:
    gr.HTML(markup.step_title(words.PROMPT_STEP), js_on_load=None)
    prompt = gr.Textbox(
        label=words.PROMPT_LABEL,
        info=words.PROMPT_HINT,
        placeholder=words.PROMPT_PLACEHOLDER,
        value="",
        lines=2,
        elem_id="mm-prompt",
    )
    gr.Examples(
        [[text] for text in words.PROMPT_EXAMPLES],
        [prompt],
        label=words.PROMPT_EXAMPLES_LABEL,
        api_visibility="private",
        elem_id="mm-prompts",
    )
    with gr.Row():
        seed = gr.Number(0, label=words.SEED_LABEL, info=words.SEED_HINT, precision=0, minimum=0, elem_id="mm-seed")
        randomise = gr.Checkbox(True, label=words.RANDOMISE_LABEL, elem_id="mm-randomise")
    with gr.Accordion(words.ADVANCED_LABEL, open=False):
        steps = gr.Slider(
            1,
            100,
            profile.num_inference_steps,
            step=1,
            label=words.STEPS_LABEL,
            info=words.STEPS_HINT,
            elem_id="mm-steps",
        )
        guidance = gr.Slider(
            1, 12, profile.guidance_scale, step=0.1, label=words.GUIDANCE_LABEL, info=words.GUIDANCE_HINT
        )
        identity = gr.Slider(0, 2, 1, step=0.05, label=words.IDENTITY_LABEL, info=words.IDENTITY_HINT)
        negative = gr.Textbox("", label=words.NEGATIVE_LABEL, info=words.NEGATIVE_HINT, lines=1)
    return FormPart(prompt, negative, randomise, seed, steps, guidance, identity)


def _result_part() -> ResultPart:
    gr.HTML(markup.step_title(words.VIDEO_STEP), js_on_load=None)
    with gr.Row():
        generate = gr.Button(words.GENERATE, variant="primary", scale=3, min_width=140, elem_id="mm-generate")
        stop = gr.Button(words.STOP, variant="secondary", scale=1, min_width=90, interactive=False, elem_id="mm-stop")
    status = gr.HTML(markup.status_line(words.IDLE), elem_id="mm-status", js_on_load=None)
    video = gr.Video(
        label=words.VIDEO_LABEL,
        interactive=False,
        autoplay=True,
        loop=True,
        height=416,
        buttons=[],
        elem_id="mm-video",
    )
    with gr.Row():
        video_file = gr.DownloadButton(
            words.DOWNLOAD_VIDEO, visible=False, size="md", min_width=120, elem_id="mm-download-video"
        )
        settings_file = gr.DownloadButton(
            words.DOWNLOAD_SETTINGS, visible=False, size="md", min_width=120, elem_id="mm-download-settings"
        )
    summary = gr.HTML(elem_id="mm-summary", js_on_load=None)
    return ResultPart(generate, stop, status, video, summary, video_file, settings_file)


def _wire(
    app: gr.Blocks, handlers: PageHandlers, banner: gr.HTML, photo: PhotoPart, form: FormPart, result: ResultPart
) -> None:
    """Connect events with handlers. None of these is part of the API, which has its own in ``ui.api``."""
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
    seen = [photo.faces, result.status]
    # A gallery that is filled from here reports no change of its own.
    photo.examples.select(handlers.take_example, None, photo.pictures, **quiet).then(
        handlers.analyse, photo.pictures, seen, **quiet
    )
    photo.pictures.change(handlers.analyse, photo.pictures, seen, **quiet)
    photo.faces.select(handlers.pick, None, seen, **quiet)
    fields = [form.prompt, form.negative, form.randomise, form.seed, form.steps, form.guidance, form.identity]
    result_outputs = [
        result.status,
        result.video,
        result.summary,
        result.video_file,
        result.settings_file,
        form.seed,
        result.generate,
        result.stop,
    ]
    gr.on(
        [result.generate.click, form.prompt.submit],
        handlers.generate,
        fields,
        result_outputs,
        trigger_mode="once",
        **quiet,
    )
    result.stop.click(handlers.stop, None, result.status, **quiet)
    app.load(handlers.greet, None, banner, **quiet)
    app.unload(handlers.leave)
