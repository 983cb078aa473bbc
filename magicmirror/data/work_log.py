"""What an importer has finished: one JSON line for each piece, so that the same command goes on where it was killed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from magicmirror.errors import ConfigError


class WorkLog:
    """The finished pieces of a job.

    The first line holds the settings that the results depend on. Every other line holds one finished piece; it is
    flushed to disk before the next piece begins, and what a killed process left of a line is removed.

    Args:
        path: Of the log; it is continued when it is there.
        settings: What the results depend on, JSON-able.

    Raises:
        ConfigError: When the log was begun with other settings, or is no such log.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.results: dict[str, Any] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_incomplete_line(path)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        settings = json.loads(json.dumps(settings))
        if not lines:
            self._append({"settings": settings})
            return
        try:
            there, *pieces = [json.loads(line) for line in lines]
            begun_with = there["settings"]
            self.results = {piece["name"]: piece["result"] for piece in pieces}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f'"{path}" is not a log of finished work.', "Delete it to begin anew.") from error
        differing = sorted(
            key for key in settings.keys() | begun_with.keys() if settings.get(key) != begun_with.get(key)
        )
        if differing:
            raise ConfigError(
                f'"{path.name}" was begun with another {", ".join(differing)}.', "Choose another folder, or delete it."
            )

    def add(self, name: str, result: Any) -> None:
        """Note that a piece is finished; ``result`` must be JSON-able."""
        self._append({"name": name, "result": result})
        self.results[name] = result

    def _append(self, values: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
            file.flush()
            os.fsync(file.fileno())


def cut_incomplete_line(path: Path) -> None:
    """Remove what a killed run left behind the last line end of a file, if there is one."""
    if path.exists():
        data = path.read_bytes()
        complete = data[: data.rfind(b"\n") + 1]
        if complete != data:
            path.write_bytes(complete)
