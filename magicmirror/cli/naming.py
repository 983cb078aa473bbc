"""Which of several files a message is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from magicmirror.errors import UserInputError


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the path before a message on a file that does not name it."""
    try:
        yield
    except UserInputError as error:
        if str(path) in error.message:
            raise
        raise type(error)(f"{path}: {error.message}", error.remedy) from error
