"""What happens when a visitor fills in the form: notes on the prompt, the forecast, and settings brought back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from magicmirror.errors import MagicMirrorError
from magicmirror.media import read_settings, read_video, write_gif
from magicmirror.pipeline.profiles import Profile
from magicmirror.serving.engine import Engine
from magicmirror.serving.jobs import OrderKind
from magicmirror.serving.prompt_guide import PromptGuide, compose_prompt
from magicmirror.types import GeneratedVideo
from magicmirror.ui import markup, result_markup, words
from magicmirror.ui.form import FORM_FIELDS, Form, FormPart, are_settings, form_of_settings, values
from magicmirror.ui.job_handlers import JobHandlers
from magicmirror.ui.photo_handlers import session_of
from magicmirror.ui.photos import chosen_faces
from magicmirror.ui.prompt_markup import forecast_line, prompt_notes
from magicmirror.ui.visitors import Visitors

log = logging.getLogger(__name__)

FORECAST_PROMPT = "a person"
"""Stands for a prompt that is not written yet: how long it takes does not depend on the words."""


class FormHandlers:
    """Handlers of one app.

    Args:
        engine: For the forecast.
        visitors: What is remembered of each page.
        profile: For defaults and the vocabulary.
        jobs: Knows what is shown.
        max_takes: Most takes that one job may make.
    """

    def __init__(self, engine: Engine, visitors: Visitors, profile: Profile, jobs: JobHandlers, max_takes: int) -> None:
        self._max_takes = max_takes
        self._engine = engine
        self._visitors = visitors
        self._profile = profile
        self._jobs = jobs
        self._guide = PromptGuide(profile)

    def adviser(self, form: FormPart) -> Callable[[dict[Any, Any], gr.Request], tuple[str, str]]:
        """Return the handler of every change of the form."""

        def advise(data: dict[Any, Any], request: gr.Request) -> tuple[str, str]:
            """Describe the prompt, and say how long the work would take."""
            filled = form.read(data)
            notes = prompt_notes([self._guide.read(text) for text in filled.shots if text])
            try:
                faces = chosen_faces(self._visitors.photos(session_of(request)))
                shots = max(len(filled.shots), 2) if filled.kind == "film" else 1
                asked = replace(filled, prompt="\n".join([FORECAST_PROMPT] * shots))
                work = asked.order(faces, self._engine.health().profile)
                return notes, forecast_line(self._engine.forecast(work))
            except MagicMirrorError:
                return notes, forecast_line(None)

        return advise

    def watcher(self, form: FormPart, consent: gr.Checkbox) -> Callable[[dict[Any, Any], gr.Request], Any]:
        """Return the handler of everything that a visitor does before "Generate"."""

        def watch(data: dict[Any, Any], request: gr.Request) -> Any:
            """Say what is still missing; a job that runs, and what "Generate" has answered, keep the status line."""
            session, filled, given = session_of(request), form.read(data), bool(data[consent])
            if self._visitors.running(session) is not None or self._visitors.still_asks(session, (filled, given)):
                return gr.skip()
            return markup.status_line(self._missing(filled, given, session) or words.READY)

        return watch

    def prompt_watcher(self, form: FormPart, consent: gr.Checkbox) -> Callable[[dict[Any, Any], gr.Request], Any]:
        """Return the handler of a prompt that has changed: what was said about restored settings stays."""
        watch = self.watcher(form, consent)

        def watch_prompt(data: dict[Any, Any], request: gr.Request) -> Any:
            """Say what is still missing, unless the prompt is the one that was just brought back."""
            brought_back = self._visitors.restored(session_of(request)) == form.read(data).prompt
            return gr.skip() if brought_back else watch(data, request)

        return watch_prompt

    def _missing(self, filled: Form, consent: bool, session: str) -> str:
        """Return what "Generate" would say first; nothing where it would start."""
        photos, shots = self._visitors.photos(session), [text for text in filled.shots if text]
        if not photos and not shots:
            return words.IDLE
        try:
            faces = chosen_faces(photos)
            if not shots:
                return words.NEED_PROMPT
            filled.order(faces, self._engine.health().profile)
            if filled.identity > 0:
                for text in shots:
                    self._guide.check(text)
        except MagicMirrorError as error:
            return str(error)
        return "" if consent else words.NEED_CONSENT

    def change_kind(self, kind: OrderKind) -> tuple[str, Any]:
        """Explain what would be made; takes are for videos only."""
        hint = markup.note(words.KIND_HINTS[kind]) if kind in words.KINDS else ""
        return hint, gr.update(visible=kind == "takes" and self._max_takes > 1)

    def change_randomise(self, randomise: bool) -> Any:
        """A seed that is drawn anew is not for writing into."""
        return gr.update(interactive=not randomise)

    def take_prompt(self, kind: str, prompt: str | None, event: gr.EventData) -> str:
        """Write an example into the prompt, in a film as one more shot."""
        index = event._data.get("prompt", -1) if isinstance(event._data, dict) else -1
        known = type(index) is int and 0 <= index < len(words.PROMPT_EXAMPLES)
        return _joined(kind, prompt, words.PROMPT_EXAMPLES[index]) if known else prompt or ""

    def compose(self, person: str, motion: str, style: str, kind: str, prompt: str | None) -> str:
        """Write the helper's sentence into the prompt, in a film as one more shot."""
        try:
            sentence = compose_prompt(person, motion, style)
        except MagicMirrorError as error:
            gr.Warning(escape(str(error)))
            return prompt or ""
        return _joined(kind, prompt, sentence)

    def use_shown(self, request: gr.Request) -> list[Any]:
        """Fill the form with the settings of what is looked at; returns the form's values and the status line."""
        return self._fill_shown(request, new_seed=False)

    def vary_shown(self, request: gr.Request) -> list[Any]:
        """Fill the form with the settings of what is looked at, and let a new seed be drawn."""
        return self._fill_shown(request, new_seed=True)

    def restore(self, path: str | None, request: gr.Request) -> list[Any]:
        """Fill the form from a video that was made before; returns the form's values, the status line and no file."""
        if not path:
            return [*[gr.skip()] * len(FORM_FIELDS), gr.skip(), None]
        try:
            settings = read_settings(path)
            if not are_settings(settings):
                return [*_skipped(words.RESTORE_FAILED.format(reason=words.NOT_OURS)), None]
        except MagicMirrorError as error:
            return [*_skipped(words.RESTORE_FAILED.format(reason=error)), None]
        finally:
            self._visitors.delete_upload(Path(path))
        form = form_of_settings(settings, self._profile)
        session = session_of(request)
        self._visitors.set_restored(session, form.prompt)
        photos = {face.photo_sha256 for photo in self._visitors.photos(session) for face in photo.faces}
        if not photos:
            text = words.RESTORED_NEEDS_FACE
        else:
            made_of = settings.get("references")
            same = isinstance(made_of, list) and any(each in made_of for each in photos)
            text = words.RESTORED_SAME_FACE if same else words.RESTORED_OTHER_FACE
        return [*values(form), markup.status_line(text), None]

    async def make_gif(self, request: gr.Request) -> str:
        """Write the video that is looked at as a GIF, and add it to the downloads."""
        entry, index = self._jobs.shown_entry(session_of(request))
        if entry is None or entry.result is None:
            gr.Warning(words.GONE)
            return ""
        take = result_markup.shown_take(entry.result, index)
        target = take.video_path.with_suffix(".gif")
        try:
            if not target.is_file():
                await asyncio.to_thread(_convert, take.video_path, take.settings, target)
        except MagicMirrorError as error:
            gr.Warning(escape(str(error)))
            return result_markup.downloads(entry.result, index)
        return result_markup.downloads(entry.result, index, target)

    def _fill_shown(self, request: gr.Request, new_seed: bool) -> list[Any]:
        form = self._jobs.shown_form(request, new_seed)
        if form is None:
            return _skipped(words.GONE)
        self._visitors.set_restored(session_of(request), form.prompt)
        return [*values(form), markup.status_line(words.RESTORED)]


def _joined(kind: str, prompt: str | None, sentence: str) -> str:
    """Return the prompt with a new sentence: below the others in a film, alone otherwise."""
    return f"{prompt.rstrip()}\n{sentence}" if kind == "film" and prompt and prompt.strip() else sentence


def _convert(source: Path, settings: dict[str, Any], target: Path) -> None:
    frames, fps = read_video(source)
    write_gif(GeneratedVideo(frames=frames, fps=fps, settings=settings), target)
    if not source.is_file():  # it was deleted meanwhile
        target.unlink(missing_ok=True)


def _skipped(reason: str) -> list[Any]:
    """Return nothing new for the form, and why."""
    return [*[gr.skip()] * len(FORM_FIELDS), markup.status_line(reason, bad=True)]
