"""Files that appear under their final name complete or not at all.

Everything is written to a hidden file in the same folder and moved over the final name in one step.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from magicmirror.errors import MagicMirrorError


@contextmanager
def complete_file(path: Path, error_type: type[MagicMirrorError]) -> Iterator[Path]:
    """Give a hidden name beside ``path``, and move it there once it is complete and on disk."""
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.partial{path.suffix}")
    try:
        yield partial
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise error_type(f'"{path}" cannot be written: {error.strerror or error}.') from error
    finally:
        partial.unlink(missing_ok=True)
