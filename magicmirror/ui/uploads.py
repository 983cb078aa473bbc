"""Photos that came through the API: each is deleted a little after the last call that used it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from magicmirror.ui.visitors import Visitors

UPLOAD_GRACE_S = 60.0
"""How long an upload outlives its last call. Gradio names uploads by their content, so that two clients with the same
photo share one file: what one of them has just sent again must not be deleted because the other is done."""


def hand_over_paths(files: gr.File) -> gr.File:
    """Let a component give the paths of its uploads; Gradio's own way leaves an empty file behind for each.

    What is in the files is for the readers of ``media`` to judge, whatever their names end in.
    """
    several = files.file_count != "single"

    def preprocess(payload: Any) -> Any:
        if payload is None:
            return None
        uploads = payload.root if hasattr(payload, "root") else [payload]
        paths = [upload.path for upload in uploads]
        return paths if several else next(iter(paths), None)

    files.preprocess = preprocess
    return files


class Uploads:
    """Counts the calls that use a file. All of it runs in the event loop of the server, so that no lock is needed.

    Args:
        visitors: Know the folder of uploads, and the files of open pages, which stay.
    """

    def __init__(self, visitors: Visitors) -> None:
        self._visitors = visitors
        self._calls: Counter[str] = Counter()

    @contextmanager
    def used(self, photos: Any) -> Iterator[None]:
        """Keep the photos of a call while it looks for faces, and delete them soon afterwards.

        Args:
            photos: What came as the photos, which may be anything.
        """
        paths = [each for each in photos if isinstance(each, str)] if isinstance(photos, list) else []
        self._calls.update(paths)
        try:
            yield
        finally:
            self._calls.subtract(paths)
            for path in paths:
                asyncio.get_running_loop().call_later(UPLOAD_GRACE_S, self._remove, path)

    def _remove(self, path: str) -> None:
        """Delete a file that no call uses and that was not sent anew; the call that comes last does it."""
        if self._calls[path] > 0:
            return
        self._calls.pop(path, None)
        try:
            age_s = time.time() - Path(path).stat().st_mtime
        except FileNotFoundError:
            return
        if age_s < UPLOAD_GRACE_S:
            asyncio.get_running_loop().call_later(UPLOAD_GRACE_S - age_s, self._remove, path)
        else:
            self._visitors.delete_unused(Path(path))
