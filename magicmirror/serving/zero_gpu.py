"""ZeroGPU Spaces: a GPU is lent for one call, in a forked process. Everywhere else nothing here does anything.

A forked process sees no event of its parent and shares no memory with it, so the call is made as a generator: what it
reports on the way comes out one by one, and the parent stops it by not asking for more.
"""

from __future__ import annotations

import importlib
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from magicmirror.errors import JobCancelled, ServingError

log = logging.getLogger(__name__)

SWITCH = "SPACES_ZERO_GPU"
"""Set by the host of such a Space."""

Emit = Callable[[Any], None]
Stream = Callable[..., Iterator[tuple[str, Any]]]


def is_zero_gpu(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this process runs on a ZeroGPU Space."""
    value = (os.environ if environ is None else environ).get(SWITCH, "")
    return value.lower() in ("1", "true", "yes")


def prepare(environ: Mapping[str, str] | None = None) -> None:
    """Import the host's package before anything touches CUDA; does nothing elsewhere."""
    if is_zero_gpu(environ):
        importlib.import_module("spaces")


def on_gpu(function: Stream, seconds: int, environ: Mapping[str, str] | None = None) -> Stream:
    """Decorate a generator function so that it runs with a lent GPU; elsewhere it is returned as it is.

    Args:
        function: Its arguments and what it yields must pickle.
        seconds: Longest time of one call; a short one is granted sooner.
        environ: Where to look for the switch; ``None`` means ``os.environ``.
    """
    if not is_zero_gpu(environ):
        return function
    spaces = importlib.import_module("spaces")
    decorated: Stream = spaces.GPU(duration=seconds)(function)
    return decorated


def as_stream(call: Callable[[Emit], Any]) -> Iterator[tuple[str, Any]]:
    """Turn a call that reports on the way into a generator.

    Args:
        call: ``call(emit) -> result``; it runs in a thread of its own and ends at the next ``emit`` once the generator
            is closed.

    Yields:
        ``("event", value)`` for every ``emit(value)``, and last ``("result", result)``.

    Raises:
        BaseException: What the call raised.
    """
    events: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=1)
    closed = threading.Event()

    def emit(value: Any) -> None:
        put(("event", value))
        if closed.is_set():
            raise JobCancelled("The job was stopped on request.")

    def put(item: tuple[str, Any]) -> None:
        while not closed.is_set():
            try:
                events.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def run() -> None:
        try:
            put(("result", call(emit)))
        except BaseException as error:  # handed to whoever reads the stream
            put(("error", error))

    thread = threading.Thread(target=run, name="gpu call", daemon=True)
    thread.start()
    try:
        kind = "event"
        while kind == "event":
            kind, value = events.get()
            if kind == "error":
                raise value
            yield kind, value
    finally:
        closed.set()
        thread.join()


def consume(stream: Iterator[tuple[str, Any]], on_event: Emit, should_stop: Callable[[], bool]) -> Any:
    """Read a stream to its result.

    Args:
        stream: Of ``as_stream``, maybe from another process.
        on_event: Gets every event.
        should_stop: Asked after every event.

    Raises:
        JobCancelled: Once ``should_stop`` said so.
    """
    try:
        for kind, value in stream:
            if kind == "result":
                return value
            on_event(value)
            if should_stop():
                raise JobCancelled("The job was stopped on request.")
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()
    raise ServingError("The GPU call ended without a result.", "Try again.")
