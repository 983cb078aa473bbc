"""What happens when a visitor adds photos, chooses a face, comes or goes."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from magicmirror.errors import FaceError
from magicmirror.serving.engine import Engine
from magicmirror.ui import markup, words
from magicmirror.ui.face_markup import face_picker
from magicmirror.ui.photos import MAX_PHOTOS, AnalysedPhoto, analyse_photo, pick_face, shown_copy
from magicmirror.ui.visitors import Visitors

log = logging.getLogger(__name__)

OWNER_BYTES = 24


class PhotoHandlers:
    """Handlers of one app; what belongs to one visitor is in ``visitors`` under the visitor's session.

    Args:
        engine: Finds the faces.
        visitors: What is remembered of each page.
        examples: Example faces, in the order of their buttons.
    """

    def __init__(self, engine: Engine, visitors: Visitors, examples: Sequence[Path]) -> None:
        self._engine = engine
        self._visitors = visitors
        self._examples = examples

    def arrive(self, browser: object, request: gr.Request) -> tuple[dict[str, Any], bool, str]:
        """Recognise the browser, or give it a new secret.

        Returns:
            What the browser keeps, the consent given in it, and an alert when no videos can be made.
        """
        kept = browser_record(browser)
        self._visitors.set_owner(session_of(request), kept["owner"])
        health = self._engine.health()
        return (
            kept,
            kept["consent"],
            "" if health.ready else markup.alert(words.NOT_READY.format(reason=health.message)),
        )

    def consent(self, given: bool, browser: object, request: gr.Request) -> dict[str, Any]:
        """Remember in the browser that its visitor may use the photos."""
        kept = browser_record(browser, self._visitors.owner(session_of(request)))
        return {**kept, "consent": bool(given)}

    def leave(self, request: gr.Request) -> None:
        """Forget a visitor who closed the page. A job that runs goes on."""
        self._visitors.forget(session_of(request))

    def take_example(self, event: gr.EventData) -> list[str]:
        """Put an example face in the place of the photos."""
        index = event._data.get("example", -1) if isinstance(event._data, dict) else -1
        return [str(self._examples[index])] if 0 <= index < len(self._examples) else []

    async def analyse(
        self, pictures: list[tuple[str, str | None]] | None, request: gr.Request
    ) -> AsyncIterator[tuple[Any, Any, Any]]:
        """Search all photos for faces.

        Yields thumbnails, the photos where some need a copy to be seen, and the status line.

        Until the search is over no video can be asked for: it would show whoever was on the photos before. Of two
        searches the later one counts; the same photos are not searched again, as Gradio may tell of a change twice.
        """
        session, shown = session_of(request), [Path(path) for path, _ in pictures or []]
        if len(shown) > MAX_PHOTOS:
            gr.Warning(words.TOO_MANY_PHOTOS.format(count=MAX_PHOTOS))
        paths = [self._visitors.original(session, path) for path in shown]
        pending = tuple(AnalysedPhoto(searched=False, path=path) for path in paths[:MAX_PHOTOS])
        if pending and [photo.path for photo in self._visitors.photos(session)] == paths[:MAX_PHOTOS]:
            yield gr.skip(), gr.skip(), gr.skip()
            return
        self._visitors.set_photos(session, pending, paths)
        idle = self._visitors.running(session) is None
        yield gr.skip(), gr.skip(), markup.status_line(words.SEARCHING) if pending and idle else gr.skip()
        try:
            photos = await asyncio.to_thread(lambda: [analyse_photo(self._engine, path) for path in paths[:MAX_PHOTOS]])
        except Exception:
            if self._visitors.photos(session) is pending:
                self._visitors.set_photos(session, ())  # so that the same photos can be tried again
            raise
        if self._visitors.photos(session) is not pending:
            return
        self._visitors.set_photos(session, photos)
        copied = await asyncio.to_thread(lambda: [self._shown(session, path) for path in shown])
        yield face_picker(photos), gr.skip() if copied == shown else [str(path) for path in copied], gr.skip()

    def _shown(self, session: str, path: Path) -> Path:
        """Return what the gallery shows of a photo: itself, or a copy that is deleted with it."""
        copy = shown_copy(path, self._visitors.upload_folder)
        if copy is None:
            return path
        self._visitors.add_copy(session, copy, path)
        return copy

    def pick(self, event: gr.EventData, request: gr.Request) -> str:
        """Take the face whose thumbnail was clicked."""
        session = session_of(request)
        photos = self._visitors.photos(session)
        try:
            photos = pick_face(photos, int(event._data["photo"]), int(event._data["face"]))
        except (KeyError, TypeError, ValueError, FaceError) as error:
            log.info("No face picked: %r", error)
        else:
            self._visitors.set_photos(session, photos)
        return face_picker(photos)


def browser_record(browser: object, owner: str = "") -> dict[str, Any]:
    """Return what a browser keeps: ``owner``, the secret that its results belong to, and ``consent``.

    Args:
        browser: What came from the browser, which may be anything.
        owner: The secret to use where the browser has none; by default a new one.
    """
    kept = browser if isinstance(browser, dict) else {}
    known = kept.get("owner")
    valid = isinstance(known, str) and 20 <= len(known) <= 100
    return {
        "owner": known if valid else owner or secrets.token_urlsafe(OWNER_BYTES),
        "consent": kept.get("consent") is True,
    }


def session_of(request: gr.Request) -> str:
    """Return the key of one open page."""
    return str(request.session_hash)
