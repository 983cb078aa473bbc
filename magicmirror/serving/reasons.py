"""Why something failed, in words that may leave the server: plain, and without its paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from magicmirror.errors import MagicMirrorError
from magicmirror.pipeline.out_of_memory import is_out_of_memory

OUT_OF_MEMORY_MESSAGE = "The machine ran out of memory. Other jobs go on; try again later or with fewer steps."
INTERNAL_MESSAGE = "Something went wrong inside the model. The server's log has the details under job {job_id}."
_QUOTED = re.compile(r"([\"'])(?:[A-Za-z]:[\\/]|/)(?:[^\"']*[\\/])?([^\"'\\/]*)\1")
_BARE = re.compile(r"(?<![\w/.:])(?:[A-Za-z]:\\|/)(?:[^\s\"'\\/]+[\\/])+([^\s\"'\\/]*)")


def public_reason(error: BaseException, job_id: str = "") -> str:
    """Say why a job or call failed.

    Args:
        error: Our own errors speak for themselves; of others only that there was one.
        job_id: For the reader of the log.
    """
    if isinstance(error, MagicMirrorError):
        return without_paths(str(error))
    if is_out_of_memory(error):
        return OUT_OF_MEMORY_MESSAGE
    return INTERNAL_MESSAGE.format(job_id=job_id)


def without_paths(text: str) -> str:
    """Shorten every absolute path to its last part."""
    return _BARE.sub(r"\1", _QUOTED.sub(r"\1\2\1", text))


@contextmanager
def naming(subject: object, kind: type[MagicMirrorError] = MagicMirrorError) -> Iterator[None]:
    """Put what a message is about before one that does not name it.

    Args:
        subject: As a file's path.
        kind: Of the errors that are about it.
    """
    try:
        yield
    except kind as error:
        if str(subject) in error.message:
            raise
        raise type(error)(f"{subject}: {error.message}", error.remedy) from error
