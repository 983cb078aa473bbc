"""What happens when a visitor asks for something, watches it, stops it, and looks at what was made."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from magicmirror.errors import JobNotFound, MagicMirrorError
from magicmirror.pipeline.profiles import Profile
from magicmirror.serving.engine import Engine
from magicmirror.serving.jobs import HistoryEntry, OrderKind
from magicmirror.serving.orders import Order, Work, retake_order
from magicmirror.ui import markup, result_markup, words
from magicmirror.ui.following import follow
from magicmirror.ui.form import Form, FormPart, form_of_result, form_of_settings
from magicmirror.ui.history_markup import history
from magicmirror.ui.photo_handlers import session_of
from magicmirror.ui.photos import chosen_faces
from magicmirror.ui.views import ResultView, empty_view, refused, running_view, unchanged
from magicmirror.ui.visitors import Visitors

log = logging.getLogger(__name__)

RECENT_S = 3600.0
"""A failure older than this is not told again when the page is opened."""


class JobHandlers:
    """Handlers of one app; what belongs to one visitor is in ``visitors`` under the visitor's session.

    Args:
        engine: Makes the videos.
        visitors: What is remembered of each page.
        profile: For defaults.
        keep_hours: How long results are kept, to be said; 0 for ever.
    """

    def __init__(self, engine: Engine, visitors: Visitors, profile: Profile, keep_hours: float) -> None:
        self._engine = engine
        self._visitors = visitors
        self._profile = profile
        self._keep_hours = keep_hours

    def generator(
        self, form: FormPart, consent: gr.Checkbox
    ) -> Callable[[dict[Any, Any], gr.Request], AsyncIterator[ResultView]]:
        """Return the handler of "Generate", which gets the values of all components by component."""

        async def generate(data: dict[Any, Any], request: gr.Request) -> AsyncIterator[ResultView]:
            """Queue what the form asks for and follow it to its end."""
            session, filled = session_of(request), form.read(data)
            self._visitors.set_asked(session, (filled, bool(data[consent])))
            try:
                faces = chosen_faces(self._visitors.photos(session))
                order = filled.order(faces, self._engine.health().profile)
            except MagicMirrorError as error:
                yield refused(str(error))
                return
            if not data[consent]:
                yield refused(words.NEED_CONSENT)
                return
            async for view in self._run(order, session):
                yield view

        return generate

    def part_picker(
        self, form: FormPart, consent: gr.Checkbox
    ) -> Callable[[dict[Any, Any], gr.EventData, gr.Request], AsyncIterator[ResultView]]:
        """Return the handler of the strip of takes: look at one, or take a shot again."""

        async def pick(data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> AsyncIterator[ResultView]:
            """Show a take, or queue a film with one shot made anew."""
            session = session_of(request)
            chosen = event._data if isinstance(event._data, dict) else {}
            entry = self._shown(session)
            if entry is None or entry.result is None:
                yield refused(words.GONE)
            elif type(chosen.get("retake")) is int:
                async for view in self._retake(form.read(data), entry, chosen["retake"], session, data[consent]):
                    yield view
            else:
                take = chosen.get("take")
                self._visitors.set_job(session, entry.status.job_id, take if type(take) is int else None)
                yield self._view(entry, session)

        return pick

    async def resume(self, request: gr.Request) -> AsyncIterator[ResultView]:
        """Find again, after a reload, the job that still runs, or the newest one that ended."""
        session = session_of(request)
        entries = await asyncio.to_thread(self._engine.history, self._visitors.owner(session))
        running = next((entry for entry in entries if not entry.status.ended), None)
        if running is not None:
            gr.Info(words.FOUND_AGAIN)
            listed = self._history(session)
            async for view in self._follow(running.status.job_id, running.kind, session, gr.skip(), listed):
                yield view
            return
        newest = entries[0] if entries else None
        if newest is None or (newest.result is None and time.time() - newest.created_s > RECENT_S):
            yield empty_view(markup.status_line(words.IDLE), self._history(session))
            return
        self._visitors.set_job(session, newest.status.job_id)
        yield self._view(newest, session)

    def open_or_remove(self, event: gr.EventData, request: gr.Request) -> ResultView:
        """Show an earlier result, or delete it."""
        session = session_of(request)
        chosen = event._data if isinstance(event._data, dict) else {}
        owner = self._visitors.owner(session)
        if self._visitors.running(session) is not None:
            return refused(words.BUSY)
        try:
            if "remove" in chosen:
                self._engine.forget(owner, str(chosen["remove"]))
                if chosen["remove"] == self._visitors.job(session):
                    self._visitors.set_job(session, None)
                    return empty_view(markup.status_line(words.IDLE), self._history(session))
                return unchanged()._replace(history=self._history(session))
            entry = self._engine.recover(owner, str(chosen.get("open", "")))
        except MagicMirrorError as error:
            return refused(str(error))._replace(history=self._history(session))
        if entry.result is None:
            return refused(words.GONE)._replace(history=self._history(session))
        self._visitors.set_job(session, entry.status.job_id)
        return self._view(entry, session)

    def stop(self, request: gr.Request) -> str:
        """Ask the visitor's job to stop."""
        job_id = self._visitors.running(session_of(request))
        try:
            if job_id is not None and not self._engine.cancel(job_id).ended:
                return markup.status_line(words.STOPPING)
        except JobNotFound:
            log.info("Job %s is not known any more", job_id)
        return markup.status_line(words.CANCELLED)

    def shown_form(self, request: gr.Request, new_seed: bool) -> Form | None:
        """Return the form that would make again what the visitor looks at; ``None`` when that is gone."""
        session = session_of(request)
        entry = self._shown(session)
        if entry is None or entry.result is None:
            return None
        form = form_of_result(entry.result, self._visitors.take(session), self._profile)
        return replace(form, randomise=new_seed)

    def shown_entry(self, session: str) -> tuple[HistoryEntry | None, int | None]:
        """Return the job and the take of it that a visitor looks at."""
        return self._shown(session), self._visitors.take(session)

    async def _retake(
        self, filled: Form, entry: HistoryEntry, shot: int, session: str, consent: bool
    ) -> AsyncIterator[ResultView]:
        """Make one shot of a film anew, with the line of the prompt box where that still has one for each shot."""
        assert entry.result is not None
        try:
            if not consent or not 0 <= shot < len(entry.result.takes):
                yield refused(words.GONE if consent else words.NEED_CONSENT)
                return
            form = form_of_settings(entry.result.takes[shot].settings, self._profile)
            if filled.kind == "film" and len(filled.shots) == len(entry.result.takes):
                form = replace(form, prompt=filled.shots[shot])
            faces = chosen_faces(self._visitors.photos(session))
            request = replace(form, kind="takes", randomise=True).request(faces, self._engine.health().profile)
            order = retake_order(entry.result, shot, request)
        except MagicMirrorError as error:
            yield refused(str(error))
            return
        async for view in self._run(order, session):
            yield view

    async def _run(self, work: Work, session: str) -> AsyncIterator[ResultView]:
        """Queue work and follow it."""
        try:
            job_id = await asyncio.to_thread(self._engine.submit, work, self._visitors.owner(session))
        except MagicMirrorError as error:
            yield refused(str(error))
            return
        order = work if isinstance(work, Order) else None
        requests = order.requests if order else ()
        async for view in self._follow(job_id, order.kind if order else "takes", session, requests[0].seed):
            yield view

    async def _follow(
        self, job_id: str, kind: OrderKind, session: str, seed: Any, listed: Any = None
    ) -> AsyncIterator[ResultView]:
        """Yield a view for every change of a job; the last one shows how it ended.

        Args:
            job_id: The job.
            kind: Of its order.
            session: Of the page.
            seed: To be shown.
            listed: The earlier results, where the page does not list them yet.
        """
        self._visitors.set_running(session, job_id)
        try:
            async for status in follow(self._engine, job_id):
                if not status.ended:
                    view = running_view(status, kind, seed)
                    yield view if listed is None else view._replace(history=listed)
            self._visitors.set_running(session, None)
            self._visitors.set_job(session, job_id)
            entry = await asyncio.to_thread(self._engine.recover, self._visitors.owner(session), job_id)
            if entry.status.state == "failed":
                gr.Warning(escape(words.FAILED.format(reason=entry.status.message)))
            yield self._view(entry, session)
        except JobNotFound:
            yield empty_view(markup.status_line(words.LOST, bad=True), self._history(session))
        finally:
            self._visitors.set_running(session, None)

    def _shown(self, session: str) -> HistoryEntry | None:
        """Find the job that a visitor looks at; only among those of the visitor's own browser."""
        job_id = self._visitors.job(session)
        try:
            return None if job_id is None else self._engine.recover(self._visitors.owner(session), job_id)
        except MagicMirrorError:
            return None

    def _history(self, session: str) -> str:
        return history(self._engine.history(self._visitors.owner(session)), self._keep_hours)

    def _view(self, entry: HistoryEntry, session: str) -> ResultView:
        """Return the view of a job that has ended."""
        result, take = entry.result, self._visitors.take(session)
        status = markup.progress(entry.status, entry.kind)
        if result is None:
            return empty_view(status, self._history(session))
        if take is None and result.kind == "compare":
            take = len(result.takes) // 2
        if take is None and result.kind == "takes" and result.ranking:
            take = result.ranking[0]
        self._visitors.set_job(session, entry.status.job_id, take)
        shown = result_markup.shown_take(result, take)
        return ResultView(
            status=status,
            stage=result_markup.stage(result, take),
            parts=result_markup.parts_strip(result, take),
            summary=result_markup.summary(result, take),
            downloads=result_markup.downloads(result, take),
            actions=gr.update(visible=True),
            gif=gr.update(visible=shown.video_path.suffix == ".mp4"),
            seed=shown.settings.get("seed", 0),
            generate=gr.update(interactive=True),
            stop=gr.update(interactive=False),
            history=self._history(session),
        )
