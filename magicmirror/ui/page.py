"""The page: where its parts stand, and which handler each event calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from magicmirror.pipeline.profiles import find_profile
from magicmirror.serving.engine import Engine
from magicmirror.settings import Settings
from magicmirror.ui import markup, words
from magicmirror.ui.api import add_api
from magicmirror.ui.form import FormPart
from magicmirror.ui.form_handlers import FormHandlers
from magicmirror.ui.job_handlers import JobHandlers
from magicmirror.ui.parts import (
    GIF_SCRIPT,
    HistoryPart,
    PhotoPart,
    PromptPart,
    ResultPart,
    form_part,
    history_part,
    photo_part,
    result_part,
)
from magicmirror.ui.photo_handlers import PhotoHandlers
from magicmirror.ui.visitors import Visitors

EXAMPLES_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "examples"
GROUP_EXAMPLES = frozenset({"two_people"})
"""Pictures of several people are for trying out the choice of a face; they are not offered as one."""
CLEAN_EVERY_S = 600
BROWSER_KEY = "magicmirror"
"""Name, and key of the obfuscation, of what a browser keeps; fixed, so that it outlives a restart of the server."""

SCRIPTS = markup.THEME_SCRIPT + markup.UPLOAD_SCRIPT + markup.RADIO_SCRIPT + markup.RESTART_SCRIPT

_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}


def build_app(engine: Engine, settings: Settings) -> gr.Blocks:
    """Build the app on an engine; nothing is launched.

    Args:
        engine: Makes the videos.
        settings: Limits, folders, profile.

    Returns:
        The app, to be launched with ``ui.launch``.
    """
    profile = find_profile(settings.profile, settings)
    visitors = Visitors(Path(get_upload_folder()))
    examples = sorted(path for path in EXAMPLES_FOLDER.glob("*.jpg") if path.stem not in GROUP_EXAMPLES)
    photos = PhotoHandlers(engine, visitors, examples)
    jobs = JobHandlers(engine, visitors, profile, settings.retention_hours)
    forms = FormHandlers(engine, visitors, profile, jobs, settings.max_takes)
    keep_s = int(settings.retention_hours * 3600) or 10 * 365 * 24 * 3600
    with gr.Blocks(title=words.TITLE, analytics_enabled=False, delete_cache=(CLEAN_EVERY_S, keep_s)) as app:
        browser = gr.BrowserState(None, storage_key=BROWSER_KEY, secret=BROWSER_KEY)
        gr.HTML(markup.header(), js_on_load=SCRIPTS)
        banner = gr.HTML(elem_id="mm-banner", js_on_load=None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300):
                photo = photo_part(examples)
                form, prompt = form_part(profile, settings.max_takes)
            with gr.Column(scale=1, min_width=300, elem_classes="mm-sticky"):
                result = result_part(profile)
        past = history_part()
        gr.HTML(markup.note(words.CONSENT_NOTE), js_on_load=None)
        add_api(engine, visitors)  # before the page's own events, so that the names of the API are free
        _wire_photos(photos, forms, photo, form, result, browser)
        _wire_form(forms, form, prompt, photo, result, past)
        _wire_jobs(jobs, forms, form, result, past)
        outputs = _outputs(form, result, past)
        app.load(photos.arrive, browser, [browser, result.consent, banner], **_QUIET).then(
            jobs.resume, None, outputs, **_QUIET
        )
        app.unload(photos.leave)
    app.queue(default_concurrency_limit=None)
    return app


def _outputs(form: FormPart, result: ResultPart, past: HistoryPart) -> list[Any]:
    """All components of a ``ResultView``, in its order."""
    return [
        *(result.status, result.stage, result.strip, result.summary, result.downloads, result.actions, result.gif),
        *(form.seed, result.generate, result.stop, past.cards),
    ]


def _wire_photos(
    handlers: PhotoHandlers,
    forms: FormHandlers,
    photo: PhotoPart,
    form: FormPart,
    result: ResultPart,
    browser: gr.BrowserState,
) -> None:
    seen = [photo.faces, photo.pictures, result.status]
    # A gallery that is filled from here reports no change of its own.
    taken = photo.examples.select(handlers.take_example, None, photo.pictures, **_QUIET)
    searched = [each(handlers.analyse, photo.pictures, seen, **_QUIET) for each in (taken.then, photo.pictures.change)]
    picked = photo.faces.select(handlers.pick, None, photo.faces, **_QUIET)
    for event in (*searched, picked):
        event.then(forms.watcher(form, result.consent), {*form.inputs, result.consent}, result.status, **_QUIET)
    result.consent.input(handlers.consent, [result.consent, browser], browser, **_QUIET)


def _wire_form(
    handlers: FormHandlers,
    form: FormPart,
    prompt: PromptPart,
    photo: PhotoPart,
    result: ResultPart,
    past: HistoryPart,
) -> None:
    changes = (form.kind, form.takes, form.steps, form.guidance, form.identity, photo.faces, past.cards)
    advise = (handlers.adviser(form), set(form.inputs), [prompt.notes, result.forecast])
    gr.on([component.change for component in changes], *advise, trigger_mode="always_last", **_QUIET)
    # Two listeners of one event that both want its last value would wake each other for ever. And it has to be the
    # change: a textbox reports no input where something was deleted.
    form.prompt.change(*advise, trigger_mode="always_last", **_QUIET).then(
        handlers.prompt_watcher(form, result.consent), {*form.inputs, result.consent}, result.status, **_QUIET
    )
    chosen = [component.input for component in (form.kind, form.takes, form.identity, result.consent)]
    watch = (handlers.watcher(form, result.consent), {*form.inputs, result.consent}, result.status)
    gr.on(chosen, *watch, trigger_mode="multiple", **_QUIET)
    form.kind.change(handlers.change_kind, form.kind, [prompt.hint, form.takes], **_QUIET)
    form.randomise.change(handlers.change_randomise, form.randomise, form.seed, **_QUIET)
    prompt.chips.select(handlers.take_prompt, [form.kind, form.prompt], form.prompt, **_QUIET)
    choices = [prompt.person, prompt.motion, prompt.style, form.kind, form.prompt]
    prompt.compose.click(handlers.compose, choices, form.prompt, **_QUIET)
    result.reuse.click(handlers.use_shown, None, [*form.inputs, result.status], **_QUIET)
    result.gif.click(handlers.make_gif, None, result.downloads, **_QUIET).then(None, js=GIF_SCRIPT)
    past.restore.upload(handlers.restore, past.restore, [*form.inputs, result.status, past.restore], **_QUIET)


def _wire_jobs(
    handlers: JobHandlers,
    forms: FormHandlers,
    form: FormPart,
    result: ResultPart,
    past: HistoryPart,
) -> None:
    outputs = _outputs(form, result, past)
    asked = {*form.inputs, result.consent}
    generate = handlers.generator(form, result.consent)
    gr.on([result.generate.click, form.prompt.submit], generate, asked, outputs, trigger_mode="once", **_QUIET)
    result.another.click(forms.vary_shown, None, [*form.inputs, result.status], **_QUIET).then(
        generate, asked, outputs, **_QUIET
    )
    result.strip.select(handlers.part_picker(form, result.consent), asked, outputs, **_QUIET)
    result.stop.click(handlers.stop, None, result.status, **_QUIET)
    past.cards.select(handlers.open_or_remove, None, outputs, **_QUIET)
