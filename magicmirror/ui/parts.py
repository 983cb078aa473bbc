"""The components of the page, part by part; what they do is in ``ui.page``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from magicmirror.pipeline.profiles import Profile
from magicmirror.serving.prompt_guide import HELPER_MOTIONS, HELPER_PERSONS, HELPER_STYLES
from magicmirror.ui import markup, result_markup, words
from magicmirror.ui.face_markup import example_strip, face_picker
from magicmirror.ui.form import FEW_STEPS, FormPart, most_steps
from magicmirror.ui.likeness_markup import CURVE_SCRIPT
from magicmirror.ui.photos import UNSHOWN
from magicmirror.ui.prompt_markup import forecast_line, prompt_notes
from magicmirror.ui.uploads import hand_over_paths

GIF_SCRIPT = "() => { const link = document.querySelector('#mm-download-gif'); if (link) link.click(); }"


@dataclass(frozen=True)
class PhotoPart:
    """Components of step 1."""

    examples: gr.HTML
    pictures: gr.Gallery
    faces: gr.HTML


@dataclass(frozen=True)
class PromptPart:
    """Components of step 2 that are no values of the form."""

    hint: gr.HTML
    notes: gr.HTML
    person: gr.Dropdown
    motion: gr.Dropdown
    style: gr.Dropdown
    compose: gr.Button
    chips: gr.HTML


@dataclass(frozen=True)
class ResultPart:
    """Components of step 3."""

    consent: gr.Checkbox
    forecast: gr.HTML
    generate: gr.Button
    stop: gr.Button
    status: gr.HTML
    stage: gr.HTML
    strip: gr.HTML
    summary: gr.HTML
    downloads: gr.HTML
    actions: gr.Row
    another: gr.Button
    reuse: gr.Button
    gif: gr.Button


@dataclass(frozen=True)
class HistoryPart:
    """Components of the list of earlier results."""

    cards: gr.HTML
    restore: gr.File


def photo_part(examples: list[Path]) -> PhotoPart:
    """Photos, faces and example faces."""
    gr.HTML(markup.step_title(words.PHOTO_STEP) + markup.note(words.PHOTOS_HINT), js_on_load=None)
    pictures = gr.Gallery(
        label=words.PHOTOS_LABEL,
        show_label=False,
        file_types=["image", *sorted(UNSHOWN)],  # browsers that do not know a format do not call it an image
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
    faces = gr.HTML(face_picker(()), js_on_load=markup.PICK_SCRIPT, elem_id="mm-faces")
    strip = gr.HTML(
        example_strip(examples), js_on_load=markup.PICK_SCRIPT, elem_id="mm-examples", visible=bool(examples)
    )
    return PhotoPart(strip, pictures, faces)


def form_part(profile: Profile, max_takes: int) -> tuple[FormPart, PromptPart]:
    """What to make, the prompt with its help, and the numbers; takes where more than one is allowed."""
    gr.HTML(markup.step_title(words.PROMPT_STEP), js_on_load=None)
    kinds: list[tuple[str, str]] = [(label, kind) for kind, label in words.KINDS.items()]
    kind = gr.Radio(kinds, value="takes", label=words.KIND_LABEL, elem_id="mm-kind")
    hint = gr.HTML(markup.note(words.KIND_HINTS["takes"]), js_on_load=None)
    prompt = gr.Textbox(
        label=words.PROMPT_LABEL,
        info=words.PROMPT_HINT,
        placeholder=words.PROMPT_PLACEHOLDER,
        value="",
        lines=2,
        max_lines=8,
        elem_id="mm-prompt",
    )
    notes = gr.HTML(prompt_notes(()), js_on_load=None, elem_id="mm-notes")
    chips = gr.HTML(_chips(), js_on_load=markup.PICK_SCRIPT, elem_id="mm-prompts")
    helper = _helper()
    with gr.Row():
        randomise = gr.Checkbox(True, label=words.RANDOMISE_LABEL, elem_id="mm-randomise", min_width=120)
        seed = gr.Number(
            0, label=words.SEED_LABEL, info=words.SEED_HINT, precision=0, minimum=0, elem_id="mm-seed", min_width=120
        )
    takes = gr.Slider(
        1,
        max(max_takes, 2),
        1,
        step=1,
        label=words.TAKES_LABEL,
        info=words.TAKES_HINT,
        elem_id="mm-takes",
        visible=max_takes > 1,
    )
    with gr.Accordion(words.ADVANCED_LABEL, open=False):
        identity = _slider(0, 2, 1, 0.05, words.IDENTITY_LABEL, words.IDENTITY_HINT, "mm-identity")
        few, trained = profile.num_inference_steps <= FEW_STEPS, profile.num_inference_steps
        hint_of_steps = words.FEW_STEPS_HINT.format(count=trained) if few else words.STEPS_HINT
        steps = _slider(1, most_steps(profile), trained, 1, words.STEPS_LABEL, hint_of_steps, "mm-steps")
        guidance = _slider(1, 12, profile.guidance_scale, 0.1, words.GUIDANCE_LABEL, words.GUIDANCE_HINT, "mm-guidance")
        negative = gr.Textbox("", label=words.NEGATIVE_LABEL, info=words.NEGATIVE_HINT, lines=1, elem_id="mm-negative")
    form = FormPart(kind, prompt, negative, randomise, seed, steps, guidance, identity, takes)
    return form, PromptPart(hint, notes, *helper, chips)


def result_part(profile: Profile) -> ResultPart:
    """Buttons, progress, stage, takes, likeness, downloads."""
    gr.HTML(markup.step_title(words.VIDEO_STEP) + _profile_note(profile), js_on_load=None)
    consent = gr.Checkbox(False, label=words.CONSENT_LABEL, info=words.CONSENT_HINT, elem_id="mm-consent")
    with gr.Row():
        generate = gr.Button(words.GENERATE, variant="primary", scale=3, min_width=140, elem_id="mm-generate")
        stop = gr.Button(words.STOP, variant="secondary", scale=1, min_width=90, interactive=False, elem_id="mm-stop")
    forecast = gr.HTML(forecast_line(None), js_on_load=None, elem_id="mm-forecast")
    status = gr.HTML(markup.status_line(words.IDLE), elem_id="mm-status", js_on_load=None)
    stage = gr.HTML(result_markup.stage_idle(), elem_id="mm-stage", js_on_load=None)
    strip = gr.HTML(elem_id="mm-strip", js_on_load=markup.PICK_SCRIPT)
    summary = gr.HTML(elem_id="mm-summary", js_on_load=CURVE_SCRIPT)
    downloads = gr.HTML(elem_id="mm-downloads", js_on_load=None)
    with gr.Row(visible=False, elem_id="mm-actions") as actions:
        another = gr.Button(words.MAKE_ANOTHER, size="md", min_width=110, elem_id="mm-another")
        reuse = gr.Button(words.USE_SETTINGS, size="md", min_width=110, elem_id="mm-reuse")
        gif = gr.Button(words.DOWNLOAD_GIF, size="md", min_width=70, elem_id="mm-gif")
    return ResultPart(
        consent, forecast, generate, stop, status, stage, strip, summary, downloads, actions, another, reuse, gif
    )  # fmt: skip


def history_part() -> HistoryPart:
    """Earlier results, and a place for a video from before."""
    gr.HTML(markup.step_title(words.HISTORY_STEP), js_on_load=None)
    cards = gr.HTML(js_on_load=markup.PICK_SCRIPT, elem_id="mm-history")
    restore = gr.File(label=words.RESTORE_LABEL, file_types=[".mp4", ".json"], height=120, elem_id="mm-restore")
    hand_over_paths(restore)
    return HistoryPart(cards, restore)


def _profile_note(profile: Profile) -> str:
    """What to expect of the preview model; nothing for a full one."""
    if profile.preset != "preview":
        return ""
    shape = profile.shape
    return markup.note(words.PREVIEW_NOTE.format(width=shape.width_px, seconds=shape.duration_s))


def _helper() -> tuple[gr.Dropdown, gr.Dropdown, gr.Dropdown, gr.Button]:
    """Person, motion and style, and the button that makes a sentence of them."""
    with gr.Accordion(words.HELPER_LABEL, open=False, elem_id="mm-helper"):
        gr.HTML(markup.note(words.HELPER_HINT), js_on_load=None)
        with gr.Row():
            person = gr.Dropdown(list(HELPER_PERSONS), value="woman", label=words.HELPER_PERSON, min_width=120)
            motion = _choice(words.HELPER_MOTION, HELPER_MOTIONS, words.MOTIONS)
            style = _choice(words.HELPER_STYLE, HELPER_STYLES, words.STYLES)
        compose = gr.Button(words.HELPER_USE, size="md", elem_id="mm-compose")
    return person, motion, style, compose


def _choice(label: str, names: tuple[str, ...], texts: Any) -> gr.Dropdown:
    return gr.Dropdown([(texts[name], name) for name in names], value=names[0], label=label, min_width=120)


def _chips() -> str:
    """Example prompts as buttons."""
    chips = "".join(
        markup.pick_button({"prompt": index}, text, text, css="mm-chip")
        for index, text in enumerate(words.PROMPT_EXAMPLES)
    )
    return f'<div class="mm-chips" role="group" aria-label="{words.PROMPT_EXAMPLES_LABEL}">{chips}</div>'


def _slider(low: float, high: float, value: float, step: float, label: str, info: str, name: str) -> gr.Slider:
    return gr.Slider(low, high, value, step=step, label=label, info=info, elem_id=name)
