"""What happens when a visitor does something on the page. Values in, new values of components out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from magicmirror.errors import FaceError, JobNotFound, MagicMirrorError
from magicmirror.serving.engine import Engine
from magicmirror.serving.jobs import JobStatus
from magicmirror.serving.requests import Fields, build_request
from magicmirror.ui import markup, words
from magicmirror.ui.photos import MAX_PHOTOS, AnalysedPhoto, analyse_photo, chosen_faces, pick_face
from magicmirror.ui.visitors import Visitors

log = logging.getLogger(__name__)

POLL_S = 0.25
"""How often a page looks at its job: often enough to look alive, rarely enough for a slow browser to keep up."""


class ResultView(NamedTuple):
    """New values of the components on the result side, in the order of ``Page.result_outputs``."""

    progress: Any
    video: Any
    summary: Any
    video_file: Any
    settings_file: Any
    seed: Any
    generate: Any
    stop: Any


class PageHandlers:
    """Handlers of one app; what belongs to one visitor is in ``visitors`` under the visitor's session.

    Args:
        engine: Makes the videos.
        visitors: What is remembered of each page.
        examples: Example faces, in the order of their buttons.
    """

    def __init__(self, engine: Engine, visitors: Visitors, examples: Sequence[Path]) -> None:
        self._engine = engine
        self._visitors = visitors
        self._examples = examples

    def greet(self) -> str:
        """Return an alert when no videos can be made, else nothing."""
        health = self._engine.health()
        return "" if health.ready else markup.alert(words.NOT_READY.format(reason=health.message))

    def take_example(self, event: gr.EventData) -> list[str]:
        """Put an example face in the place of the photos."""
        index = event._data.get("example", -1) if isinstance(event._data, dict) else -1
        return [str(self._examples[index])] if 0 <= index < len(self._examples) else []

    async def analyse(self, pictures: list[tuple[str, str | None]] | None, request: gr.Request) -> tuple[str, str]:
        """Search all photos for faces; returns the thumbnails and the status line."""
        paths = [Path(path) for path, _ in pictures or []]
        if len(paths) > MAX_PHOTOS:
            gr.Warning(words.TOO_MANY_PHOTOS.format(count=MAX_PHOTOS))
        photos = await asyncio.to_thread(lambda: [analyse_photo(self._engine, path) for path in paths[:MAX_PHOTOS]])
        self._visitors.set_photos(_session(request), photos, paths)
        return markup.face_picker(photos), _readiness(photos)

    def pick(self, event: gr.EventData, request: gr.Request) -> tuple[str, str]:
        """Take the face whose thumbnail was clicked."""
        session = _session(request)
        photos = self._visitors.photos(session)
        try:
            photos = pick_face(photos, int(event._data["photo"]), int(event._data["face"]))
        except (KeyError, TypeError, ValueError, FaceError) as error:
            log.info("No face picked: %r", error)
        else:
            self._visitors.set_photos(session, photos)
        return markup.face_picker(photos), _readiness(photos)

    async def generate(
        self,
        prompt: str | None,
        negative_prompt: str | None,
        randomise: bool,
        seed: float | None,
        steps: float,
        guidance: float,
        identity_scale: float,
        request: gr.Request,
    ) -> AsyncIterator[ResultView]:
        """Queue a job and follow it to its end."""
        session = _session(request)
        fields = Fields(
            prompt or "", negative_prompt or "", None if randomise else seed, steps, guidance, identity_scale
        )
        try:
            faces = chosen_faces(self._visitors.photos(session))
            job = build_request(fields, faces, self._engine.health().profile)
            job_id = await asyncio.to_thread(self._engine.submit, job, session)
        except MagicMirrorError as error:
            gr.Warning(escape(str(error)))
            yield _refused(str(error))
            return
        self._visitors.set_job(session, job_id)
        async for status in follow(self._engine, job_id):
            yield self._ended(status, job.seed) if status.ended else _running(status, job.seed)

    def stop(self, request: gr.Request) -> str:
        """Ask the visitor's job to stop."""
        job_id = self._visitors.job(_session(request))
        try:
            if job_id is not None and not self._engine.cancel(job_id).ended:
                return markup.status_line(words.STOPPING)
        except JobNotFound:
            log.info("Job %s is not known any more", job_id)
        return markup.status_line(words.CANCELLED)

    def leave(self, request: gr.Request) -> None:
        """Forget a visitor who closed the page. A job that runs goes on."""
        self._visitors.forget(_session(request))

    def _ended(self, status: JobStatus, seed: int) -> ResultView:
        """Show how a job ended."""
        if status.state == "failed":
            gr.Warning(escape(words.FAILED.format(reason=status.message)))
        if status.state != "done":
            return _running(status, seed)._replace(
                generate=gr.update(interactive=True), stop=gr.update(interactive=False)
            )
        result = self._engine.result(status.job_id)
        return ResultView(
            progress=markup.progress(status),
            video=str(result.video_path),
            summary=markup.summary(result),
            video_file=gr.update(value=str(result.video_path), visible=True),
            settings_file=gr.update(value=str(result.settings_path), visible=True),
            seed=seed,
            generate=gr.update(interactive=True),
            stop=gr.update(interactive=False),
        )


async def follow(engine: Engine, job_id: str) -> AsyncIterator[JobStatus]:
    """Yield every new status of a job until it has ended, without holding a thread in between.

    Raises:
        JobNotFound: When the job is unknown.
    """
    version = -1
    while True:
        status = engine.status(job_id)
        if status.version > version:
            version = status.version
            yield status
        if status.ended:
            return
        await asyncio.sleep(POLL_S)


def _running(status: JobStatus, seed: int) -> ResultView:
    """Return the view of a job on its way.

    It names every component each time: a browser that is behind applies only the latest of several views.
    """
    return ResultView(
        progress=markup.progress(status),
        video=None,
        summary="",
        video_file=gr.update(visible=False),
        settings_file=gr.update(visible=False),
        seed=seed,
        generate=gr.update(interactive=False),
        stop=gr.update(interactive=True),
    )


def _refused(reason: str) -> ResultView:
    """Return a view that says why nothing was started and leaves the rest as it is."""
    unchanged = [gr.skip()] * (len(ResultView._fields) - 1)
    return ResultView(markup.status_line(reason, bad=True), *unchanged)


def _readiness(photos: Sequence[AnalysedPhoto]) -> str:
    """Say what is still missing before Generate can be pressed."""
    if not photos:
        return markup.status_line(words.IDLE)
    try:
        chosen_faces(photos)
    except FaceError as error:
        return markup.status_line(str(error))
    return markup.status_line(words.READY)


def _session(request: gr.Request) -> str:
    """Return the key of the open page."""
    return str(request.session_hash)
