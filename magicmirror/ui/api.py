"""The API: ``/analyze``, ``/generate``, ``/cancel`` and ``/health``, for ``gradio_client`` and plain HTTP.

Names, parameters and results are stable. Files come in through hidden file components, because those make Gradio
accept uploads only, never a path of the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from magicmirror.errors import FaceError, MagicMirrorError
from magicmirror.faces.selection import choose_face, find_mismatches, photo_record
from magicmirror.serving.engine import Engine
from magicmirror.serving.jobs import JobStatus
from magicmirror.serving.requests import Fields, build_request
from magicmirror.ui import words
from magicmirror.ui.following import follow
from magicmirror.ui.photos import MAX_PHOTOS

Answer = dict[str, Any]


class Api:
    """The four calls.

    Args:
        engine: Makes the videos.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def analyze(self, photos: list[str] | None) -> Answer:
        """Find the faces of every photo, largest first, and say how good each is as a reference.

        Args:
            photos: Uploaded pictures.

        Returns:
            ``photos``: for each what ``faces.selection.photo_record`` says (faces, the one that is taken without a
            choice, or why none is); ``mismatches``: photos (from 0) whose chosen face differs from the others, with
            ``distance`` and ``limit``.
        """
        try:
            found = [self._engine.analyze(path) for path in _paths(photos)]
        except MagicMirrorError as error:
            raise _refusal(error) from error
        records = [photo_record(faces) for faces in found]
        usable = [photo for photo, record in enumerate(records) if record["chosen"] is not None]
        mismatches = find_mismatches([found[photo][records[photo]["chosen"]] for photo in usable])
        return {
            "photos": records,
            "mismatches": [
                {"photo": usable[each.index], "distance": round(each.distance, 3), "limit": each.limit}
                for each in mismatches
            ],
        }

    async def generate(
        self,
        photos: list[str] | None,
        prompt: str,
        negative_prompt: str = "",
        seed: float | None = None,
        steps: float | None = None,
        guidance: float | None = None,
        identity_scale: float = 1.0,
        faces: list[int] | None = None,
        request: gr.Request | None = None,
    ) -> AsyncIterator[tuple[Answer, str | None, Answer | None]]:
        """Make a video of one person.

        Args:
            photos: Uploaded pictures of one person.
            prompt: What the person does; names the person with a word such as "man" or "woman".
            negative_prompt: What to keep out.
            seed: Left out, one is drawn; it is in the settings.
            steps: Left out, the profile's default.
            guidance: Left out, the profile's default.
            identity_scale: Strength of the identity, 0 to 2.
            faces: For every photo the index of the face that is meant; left out, the one that dominates.
            request: The session, filled in by Gradio.

        Yields:
            Status (with ``job_id`` for ``/cancel``), and once the job is done the mp4 and its settings.
        """
        session = str(request.session_hash) if request is not None else "api"
        fields = Fields(prompt or "", negative_prompt or "", seed, steps, guidance, identity_scale)
        try:
            job_id = await asyncio.to_thread(self._submit, photos, faces, fields, session)
            async for status in follow(self._engine, job_id):
                if status.state == "failed":
                    raise gr.Error(status.message, print_exception=False)
                if status.state == "done":
                    result = self._engine.result(job_id)
                    yield describe(status), str(result.video_path), result.settings
                else:
                    yield describe(status), None, None
        except MagicMirrorError as error:
            raise _refusal(error) from error

    def cancel(self, job_id: str) -> Answer:
        """Stop a job that waits or runs; returns its status."""
        try:
            return describe(self._engine.cancel(str(job_id)))
        except MagicMirrorError as error:
            raise _refusal(error) from error

    def health(self) -> Answer:
        """Return readiness, profile, device and the length of the queue."""
        return asdict(self._engine.health())

    def _submit(self, photos: list[str] | None, choices: list[int] | None, fields: Fields, session: str) -> str:
        paths = _paths(photos)
        if choices is not None and not _are_indices(choices, len(paths)):
            raise FaceError(f"faces must be a list with one index for each of the {len(paths)} photos.")
        found = [self._engine.analyze(path) for path in paths]
        indices = [None] * len(paths) if choices is None else choices
        chosen = [choose_face(faces, index) for faces, index in zip(found, indices, strict=True)]
        return self._engine.submit(build_request(fields, chosen, self._engine.health().profile), session)


def describe(status: JobStatus) -> Answer:
    """Return a status as JSON, without paths of the server."""
    answer = asdict(status)
    del answer["result_path"], answer["version"]
    return answer


def add_api(engine: Engine) -> None:
    """Add the endpoints to the app that is being built."""
    api = Api(engine)
    options: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden"}
    with gr.Column(visible=False):
        photos = gr.File(label="photos", file_count="multiple", file_types=["image"], type="filepath")
        prompt, negative = gr.Textbox(label="prompt"), gr.Textbox("", label="negative_prompt")
        seed, steps, guidance = (gr.Number(None, label=name) for name in ("seed", "steps", "guidance"))
        identity = gr.Number(1.0, label="identity_scale")
        faces, job_id = gr.JSON(label="faces"), gr.Textbox(label="job_id")
        answer, settings, video = gr.JSON(label="answer"), gr.JSON(label="settings"), gr.File(label="video")
        trigger = gr.Button("api")
    trigger.click(api.analyze, photos, answer, api_name="analyze", **options)
    trigger.click(
        api.generate,
        [photos, prompt, negative, seed, steps, guidance, identity, faces],
        [answer, video, settings],
        api_name="generate",
        **options,
    )
    trigger.click(api.cancel, job_id, answer, api_name="cancel", **options)
    trigger.click(api.health, None, answer, api_name="health", **options)


def _paths(photos: list[str] | None) -> list[Path]:
    if not photos:
        raise FaceError(words.NEED_PHOTO)
    if len(photos) > MAX_PHOTOS:
        raise FaceError(f"At most {MAX_PHOTOS} photos are accepted, got {len(photos)}.")
    return [Path(photo) for photo in photos]


def _are_indices(value: object, count: int) -> bool:
    """Whether a value from outside is a list of ``count`` whole numbers."""
    return isinstance(value, list) and len(value) == count and all(type(index) is int for index in value)


def _refusal(error: MagicMirrorError) -> gr.Error:
    """Return the error that a client sees: plain text, no traceback."""
    return gr.Error(str(error), print_exception=False)
