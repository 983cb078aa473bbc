"""The API, for ``gradio_client`` and plain HTTP: names, parameters and results are stable; see ``docs/api.md``.

Files come in through hidden file components, because those make Gradio accept uploads only, never a path of the
server. All other components hand their value over as it came, so that a wrong type gets our own words.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context

from magicmirror.serving.engine import Engine
from magicmirror.serving.requests import Fields
from magicmirror.ui.api_calls import (
    Answer,
    ApiCalls,
    MakeOrder,
    Update,
    comparison_of,
    film_of,
    in_thread,
    orders_of,
    picture,
    visitor_key,
)
from magicmirror.ui.uploads import Uploads, hand_over_paths
from magicmirror.ui.visitors import Visitors

log = logging.getLogger(__name__)

Updates = AsyncIterator[Update]
NO_ADDRESSES = "Files have to be uploaded; this server does not fetch addresses."
BAD_INPUTS = (
    "The inputs do not fit. Files have to be uploaded; number, order and types of the values are in docs/api.md."
)


class Api:
    """The endpoints as Gradio calls them; parameters carry the documented names.

    Args:
        engine: Makes the videos.
        visitors: Know what the open pages use.
    """

    def __init__(self, engine: Engine, visitors: Visitors) -> None:
        self._calls = ApiCalls(engine)
        self._uploads = Uploads(visitors)

    async def analyze(self, photos: Any) -> Answer:
        """Find the faces of every photo, and say how good each is as a reference."""
        with self._uploads.used(photos):
            answer: Answer = await in_thread(self._calls.analyze, photos)
        return answer

    async def generate(
        self,
        photos: Any,
        prompt: Any,
        negative_prompt: Any = "",
        seed: Any = None,
        steps: Any = None,
        guidance: Any = None,
        identity_scale: Any = 1.0,
        faces: Any = None,
        takes: Any = 1,
        visitor: Any = None,
        request: gr.Request | None = None,
    ) -> Updates:
        """Make a video of one person, or several takes of it."""
        fields = Fields(prompt, negative_prompt, seed, steps, guidance, identity_scale)
        async for each in self._run(photos, faces, fields, lambda _: orders_of(takes), visitor, request):
            yield each

    async def image(
        self,
        photos: Any,
        prompt: Any,
        negative_prompt: Any = "",
        seed: Any = None,
        steps: Any = None,
        guidance: Any = None,
        identity_scale: Any = 1.0,
        faces: Any = None,
        visitor: Any = None,
        request: gr.Request | None = None,
    ) -> Updates:
        """Make a single picture of one person."""
        fields = Fields(prompt, negative_prompt, seed, steps, guidance, identity_scale)
        async for each in self._run(photos, faces, fields, lambda _: picture(), visitor, request):
            yield each

    async def compare(
        self,
        photos: Any,
        prompt: Any,
        negative_prompt: Any = "",
        seed: Any = None,
        steps: Any = None,
        guidance: Any = None,
        scales: Any = None,
        faces: Any = None,
        visitor: Any = None,
        request: gr.Request | None = None,
    ) -> Updates:
        """Make one seed with several identity strengths."""
        fields = Fields(prompt, negative_prompt, seed, steps, guidance)
        async for each in self._run(photos, faces, fields, lambda _: comparison_of(scales), visitor, request):
            yield each

    async def film(
        self,
        photos: Any,
        prompts: Any,
        negative_prompt: Any = "",
        seed: Any = None,
        steps: Any = None,
        guidance: Any = None,
        identity_scale: Any = 1.0,
        faces: Any = None,
        visitor: Any = None,
        request: gr.Request | None = None,
    ) -> Updates:
        """Make one film of the same person, a shot for each prompt."""
        first = prompts[0] if isinstance(prompts, list) and prompts else ""
        fields = Fields(first, negative_prompt, seed, steps, guidance, identity_scale)
        async for each in self._run(photos, faces, fields, lambda _: film_of(prompts), visitor, request):
            yield each

    async def retake(
        self,
        job_id: Any,
        shot: Any,
        photos: Any,
        prompt: Any,
        negative_prompt: Any = "",
        seed: Any = None,
        steps: Any = None,
        guidance: Any = None,
        identity_scale: Any = 1.0,
        faces: Any = None,
        visitor: Any = None,
        request: gr.Request | None = None,
    ) -> Updates:
        """Make one shot of a film anew and join the film again."""
        fields = Fields(prompt, negative_prompt, seed, steps, guidance, identity_scale)

        def order(session: str) -> MakeOrder:
            return self._calls.retaker(session, job_id, shot)

        async for each in self._run(photos, faces, fields, order, visitor, request):
            yield each

    async def forecast(self, kind: Any = "takes", count: Any = 1, steps: Any = None, guidance: Any = None) -> Answer:
        """Say how long such a job would take."""
        answer: Answer = await in_thread(self._calls.forecast, kind, count, steps, guidance)
        return answer

    async def status(self, job_id: Any) -> Answer:
        """Return where a job stands."""
        answer: Answer = await in_thread(self._calls.status, job_id)
        return answer

    async def cancel(self, job_id: Any) -> Answer:
        """Stop a job that waits or runs."""
        answer: Answer = await in_thread(self._calls.cancel, job_id)
        return answer

    async def recover(self, job_id: Any, visitor: Any = None, request: gr.Request | None = None) -> Update:
        """Find a job again."""
        session = await in_thread(visitor_key, visitor, request)
        answer: Update = await in_thread(self._calls.recover, job_id, session)
        return answer

    async def history(self, visitor: Any = None, request: gr.Request | None = None) -> list[Answer]:
        """List the visitor's jobs, the newest first."""
        session = await in_thread(visitor_key, visitor, request)
        answer: list[Answer] = await in_thread(self._calls.history, session)
        return answer

    async def forget(self, job_id: Any = None, visitor: Any = None, request: gr.Request | None = None) -> list[Answer]:
        """Remove one job with its files, or all of the visitor's."""
        session = await in_thread(visitor_key, visitor, request)
        answer: list[Answer] = await in_thread(self._calls.forget, job_id, session)
        return answer

    async def health(self) -> Answer:
        """Return readiness, profile, device and the length of the queue."""
        answer: Answer = await in_thread(self._calls.health)
        return answer

    async def _run(
        self,
        photos: Any,
        faces: Any,
        fields: Fields,
        order: Callable[[str], MakeOrder],
        visitor: Any,
        request: gr.Request | None,
    ) -> Updates:
        """Queue a job and follow it; ``order`` says for a visitor what is to be made."""
        with self._uploads.used(photos):
            session = await in_thread(visitor_key, visitor, request)
            make_order = await in_thread(order, session)
            job_id = await in_thread(self._calls.make, photos, faces, fields, make_order, session)
        async for each in self._calls.updates(job_id):
            yield each


def add_api(engine: Engine, visitors: Visitors) -> None:
    """Add the endpoints to the app that is being built."""
    api = Api(engine, visitors)
    with gr.Column(visible=False):
        photos = hand_over_paths(gr.File(label="photos", file_count="multiple", file_types=["image"]))
        prompt, negative = gr.Textbox(label="prompt"), gr.Textbox("", label="negative_prompt")
        seed, steps, guidance = (gr.Number(None, label=name) for name in ("seed", "steps", "guidance"))
        identity, takes, shot = (
            gr.Number(value, label=name) for name, value in (("identity_scale", 1.0), ("takes", 1), ("shot", 0))
        )
        faces, prompts, scales = (gr.JSON(label=name) for name in ("faces", "prompts", "scales"))
        job_id, visitor = gr.Textbox(label="job_id"), gr.Textbox(None, label="visitor")
        answer, settings = gr.JSON(label="answer"), gr.JSON(label="settings")
        file, files = gr.File(label="file"), gr.File(label="files", file_count="multiple")
        kind, count = gr.Textbox("takes", label="kind"), gr.Number(1, label="count")
        trigger = gr.Button("api")
    for component in (prompt, negative, seed, steps, guidance, identity, takes, shot, job_id, visitor, kind, count):
        component.preprocess = _as_it_came
    for component in (file, files):
        component.async_move_resource_to_block_cache = _where_it_lies

    def add(name: str, inputs: list[Any], outputs: list[Any]) -> None:
        call, options = getattr(api, name), {"concurrency_limit": None, "show_progress": "hidden"}
        trigger.click(call, inputs, outputs, api_name=name, **options)

    numbers, result = [negative, seed, steps, guidance], [answer, file, settings, files]
    add("analyze", [photos], [answer])
    add("generate", [photos, prompt, *numbers, identity, faces, takes, visitor], result)
    add("image", [photos, prompt, *numbers, identity, faces, visitor], result)
    add("compare", [photos, prompt, *numbers, scales, faces, visitor], result)
    add("film", [photos, prompts, *numbers, identity, faces, visitor], result)
    add("retake", [job_id, shot, photos, prompt, *numbers, identity, faces, visitor], result)
    add("forecast", [kind, count, steps, guidance], [answer])
    add("status", [job_id], [answer])
    add("cancel", [job_id], [answer])
    add("recover", [job_id, visitor], result)
    add("history", [visitor], [answer])
    add("forget", [job_id, visitor], [answer])
    add("health", [], [answer])

    guard_inputs(Context.root_block)


def guard_inputs(app: gr.Blocks | None) -> None:
    """Refuse, in plain words, inputs that Gradio itself stumbles over, and addresses that it would fetch.

    Its own messages are hidden from clients, as some name paths of the server.
    """
    if app is None:
        return
    inner = app.preprocess_data

    async def preprocess(block_fn: Any, inputs: list[Any], *more: Any, **named: Any) -> Any:
        if any(_names_address(value) for value in inputs):
            raise gr.Error(NO_ADDRESSES, print_exception=False)
        try:
            return await inner(block_fn, inputs, *more, **named)
        except gr.Error as error:  # a value out of range, a file of another type: nobody needs a traceback of that
            log.info("Inputs refused: %s", error.message)
            error.print_exception = False
            raise
        except Exception as error:  # the border: pydantic's, the file system's, Gradio's
            log.info("Inputs refused: %r", error)
            raise gr.Error(BAD_INPUTS, print_exception=False) from error

    app.preprocess_data = preprocess


def _names_address(value: Any) -> bool:
    """Whether a value holds a file that is an address of the network rather than an upload."""
    if isinstance(value, dict):
        path = value.get("path")
        return (isinstance(path, str) and "://" in path) or any(_names_address(each) for each in value.values())
    return isinstance(value, list) and any(_names_address(each) for each in value)


async def _where_it_lies(path: str | Path | None) -> str | None:
    """Hand a result out from the output folder, which Gradio may serve.

    Of its own accord it hands out a copy, which nobody who deletes the result knows of.
    """
    return None if path is None else str(path)


def _as_it_came(value: Any) -> Any:
    """Hand a value over unchanged."""
    return value
