"""What the endpoints of the API do: values as they came in are checked, everything else is the engine's."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from magicmirror.errors import ConfigError, FaceError, MagicMirrorError, PromptError
from magicmirror.faces.selection import choose_face, find_mismatches, photo_record
from magicmirror.number_checks import whole_number
from magicmirror.serving.engine import Engine
from magicmirror.serving.jobs import HistoryEntry, JobResult, JobStatus, Take
from magicmirror.serving.orders import (
    COMPARE_SCALES,
    MAX_SHOTS,
    Order,
    compare_order,
    film_order,
    image_order,
    retake_order,
    takes_order,
)
from magicmirror.serving.reasons import naming, public_reason
from magicmirror.serving.requests import Fields, build_request
from magicmirror.types import FaceBox, FaceReference, GenerationRequest
from magicmirror.ui import words
from magicmirror.ui.following import follow
from magicmirror.ui.photos import MAX_PHOTOS

log = logging.getLogger(__name__)

Answer = dict[str, Any]
Update = tuple[Answer, str | None, Answer | None, list[str] | None]
"""Status, file, settings, files of all parts; the last three only once the job is done."""
MIN_VISITOR_CHARS = 16
FACES_ARGUMENT = "faces (a list with one index for each photo),"
"""How the choice of a face is called in the remedy."""
MakeOrder = Callable[[GenerationRequest], Order]


class ApiCalls:
    """One method for each endpoint.

    Args:
        engine: Makes the videos.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def analyze(self, photos: Any) -> Answer:
        """Find the faces of every photo, largest first, and say how good each is as a reference.

        Args:
            photos: Uploaded pictures.

        Returns:
            ``photos``: for each what ``faces.selection.photo_record`` says (faces, the one that is taken without a
            choice, or why none is, which may be that it cannot be read); ``mismatches``: photos (from 0) whose chosen
            face differs from the others, with ``distance`` and ``limit``.
        """
        found, records = [], []
        for path in _paths(photos):
            faces, problem = self._faces_or_problem(path)
            record = photo_record(faces)
            found.append(faces)
            records.append({**record, "problem": problem or record["problem"]})
        usable = [photo for photo, record in enumerate(records) if record["chosen"] is not None]
        mismatches = find_mismatches([found[photo][records[photo]["chosen"]] for photo in usable])
        return {
            "photos": records,
            "mismatches": [
                {"photo": usable[each.index], "distance": round(each.distance, 3), "limit": each.limit}
                for each in mismatches
            ],
        }

    def make(self, photos: Any, faces: Any, fields: Fields, make_order: MakeOrder, session: str) -> str:
        """Check everything and queue the job; returns its id."""
        paths = _paths(photos)
        if faces is not None and not _are_indices(faces, len(paths)):
            several = f"each of the {len(paths)} photos" if len(paths) > 1 else "the photo"
            raise FaceError(f"faces must be a list with one index for {several}.")
        profile = self._engine.health().profile
        indices = [None] * len(paths) if faces is None else faces
        chosen = []
        for number, (path, index) in enumerate(zip(paths, indices, strict=True), start=1):
            with naming(words.PHOTO_NUMBER.format(number=number)) if len(paths) > 1 else nullcontext():
                chosen.append(choose_face(self._engine.analyze(path), index, FACES_ARGUMENT))
        return self._engine.submit(make_order(build_request(fields, chosen, profile)), session)

    def _faces_or_problem(self, path: Path) -> tuple[tuple[FaceReference, ...], str]:
        """Find the faces of a photo; why it cannot be read is told of it, and the other photos are not lost."""
        try:
            return self._engine.analyze(path), ""
        except MagicMirrorError as error:
            return (), public_reason(error)

    async def updates(self, job_id: str) -> AsyncIterator[Update]:
        """Follow a job to its end; a client that goes away does not stop it.

        Raises:
            gr.Error: With the reason, when the job failed.
        """
        async for status in follow(self._engine, job_id):
            if status.state == "failed":
                raise gr.Error(status.message, print_exception=False)
            result = self._engine.result(job_id) if status.state == "done" else None
            yield update(status, result)

    def retaker(self, session: str, job_id: Any, shot: Any) -> MakeOrder:
        """Return what turns a request into a retake of one shot of a film of the same visitor."""
        entry = self._engine.recover(session, _text("job_id", job_id))
        if entry.result is None:
            raise ConfigError(f'The job is "{entry.status.state}" and has no film.', entry.status.message)
        film, index = entry.result, whole_number("shot", shot)
        return lambda request: retake_order(film, index, request)

    def status(self, job_id: Any) -> Answer:
        """Return where a job stands."""
        return describe(self._engine.status(_text("job_id", job_id)))

    def cancel(self, job_id: Any) -> Answer:
        """Stop a job that waits or runs; returns its status."""
        return describe(self._engine.cancel(_text("job_id", job_id)))

    def recover(self, job_id: Any, session: str) -> Update:
        """Find a job of the visitor again, waiting, running or ended."""
        entry = self._engine.recover(session, _text("job_id", job_id))
        return update(entry.status, entry.result)

    def history(self, session: str) -> list[Answer]:
        """List the jobs of the visitor, the newest first."""
        return [_describe_entry(entry) for entry in self._engine.history(session)]

    def forget(self, job_id: Any, session: str) -> list[Answer]:
        """Remove one job of the visitor with its files, or without an id all of them; returns what is left."""
        self._engine.forget(session, _text("job_id", job_id) if job_id else None)
        return self.history(session)

    def forecast(self, kind: Any, count: Any, steps: Any, guidance: Any) -> Answer:
        """Say how long such a job would take on this machine."""
        fields = Fields("a person", steps=steps, guidance=guidance)
        request = build_request(fields, [_placeholder()], self._engine.health().profile)
        number = whole_number("count", 1 if count is None else count)
        makers: dict[Any, MakeOrder] = {
            "takes": orders_of(number),
            "compare": comparison_of(None),
            "film": film_of(["a person"] * number) if 0 < number <= MAX_SHOTS else film_of([]),
            "image": picture(),
        }
        if not isinstance(kind, str) or kind not in makers:
            raise ConfigError(f"kind must be one of {', '.join(makers)}.")
        return asdict(self._engine.forecast(makers[kind](request)))

    def health(self) -> Answer:
        """Return readiness, profile, device and the length of the queue."""
        return asdict(self._engine.health())


def orders_of(takes: Any = 1) -> MakeOrder:
    """Return what turns a request into an order of takes."""
    count = whole_number("takes", 1 if takes is None else takes)
    return lambda request: takes_order(request, count)


def comparison_of(scales: Any) -> MakeOrder:
    """Return what turns a request into a comparison."""
    chosen = COMPARE_SCALES if scales is None else scales
    if not isinstance(chosen, (list, tuple)) or not all(type(each) in (int, float) for each in chosen):
        raise ConfigError("scales must be a list of numbers from 0 to 2.")
    return lambda request: compare_order(request, chosen)


def film_of(prompts: Any) -> MakeOrder:
    """Return what turns a request into a film."""
    if not isinstance(prompts, list) or not all(isinstance(text, str) for text in prompts):
        raise PromptError("prompts must be a list of texts, one for each shot.")
    return lambda request: film_order(request, prompts)


def picture() -> MakeOrder:
    """Return what turns a request into a single picture."""
    return image_order


def visitor_key(visitor: Any, request: gr.Request | None) -> str:
    """Return whose jobs these are: the secret that the client chose, else its connection.

    Raises:
        ConfigError: When the secret is too short to be one.
    """
    if visitor:
        if not isinstance(visitor, str) or len(visitor) < MIN_VISITOR_CHARS:
            raise ConfigError(f"visitor must be a secret text of at least {MIN_VISITOR_CHARS} characters.")
        return "visitor " + visitor
    connection = getattr(request, "session_hash", None)
    return f"connection {connection or secrets.token_hex(16)}"


def refusal(error: BaseException) -> gr.Error:
    """Return the error that a client sees: plain text, no traceback, no path of the server."""
    if not isinstance(error, MagicMirrorError):
        log.error("A call of the API failed", exc_info=error)
    return gr.Error(public_reason(error), print_exception=False)


async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    """Run a call beside the event loop and turn its errors into refusals."""
    try:
        return await asyncio.to_thread(call, *arguments)
    except gr.Error:
        raise
    except Exception as error:  # the border: nothing else may reach the client
        raise refusal(error) from error


def describe(status: JobStatus) -> Answer:
    """Return a status as JSON, without paths of the server."""
    hidden = ("result_path", "version", "preview")
    return {name: value for name, value in vars(status).items() if name not in hidden}


def update(status: JobStatus, result: JobResult | None) -> Update:
    """Return what a client gets of a job."""
    if result is None:
        return describe(status), None, None, None
    answer = {**describe(status), "kind": result.kind, "takes": [_figures(take) for take in result.takes]}
    answer["ranking"] = list(result.ranking)
    files = [str(take.video_path) for take in result.takes]
    return answer, str(result.video_path), result.settings, files


def _placeholder() -> FaceReference:
    """Return a face for a request that is only timed."""
    return FaceReference(
        FaceBox(0, 0, 1, 1),
        np.zeros((5, 2), np.float32),
        "dlib5",
        np.zeros((1, 1, 3), np.uint8),
        np.zeros(1, np.float32),
        score=0.0,
    )


def _figures(take: Take) -> Answer:
    mean = take.mean_likeness
    return {
        "seed": take.settings.get("seed"),
        "identity_scale": take.settings.get("identity_scale"),
        "prompt": take.settings.get("prompt"),
        "likeness": None if mean is None else round(mean, 4),
        "level": take.level,
        "motion": None if take.motion is None else round(take.motion, 3),
    }


def _describe_entry(entry: HistoryEntry) -> Answer:
    return {**describe(entry.status), "kind": entry.kind, "prompt": entry.prompt, "created_s": entry.created_s}


def _paths(photos: Any) -> list[Path]:
    if not photos:
        raise FaceError(words.NEED_PHOTO)
    if not isinstance(photos, list) or not all(isinstance(photo, str) for photo in photos):
        raise FaceError("photos must be a list of uploaded pictures.")
    if len(photos) > MAX_PHOTOS:
        raise FaceError(f"At most {MAX_PHOTOS} photos are accepted, got {len(photos)}.")
    return [Path(photo) for photo in photos]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a text.")
    return value


def _are_indices(value: object, count: int) -> bool:
    """Whether a value from outside is a list of ``count`` whole numbers."""
    return isinstance(value, list) and len(value) == count and all(type(index) is int for index in value)
