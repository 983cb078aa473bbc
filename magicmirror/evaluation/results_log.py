"""A log of finished work, one JSON object a line, that survives a killed process.

The first line holds the settings of the run. A line counts once it is complete; a rerun cuts off a torn last line
and goes on after the others. A rerun with other settings is refused, because its results could not be compared.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from magicmirror.errors import ConfigError


class ResultsLog:
    """Append-only log of records.

    Args:
        path: The file; made when it does not exist.
        settings: JSON-able; all that the results depend on.

    Raises:
        ConfigError: When the file was written with other settings, or is no such log.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path = path
        self.records: list[dict[str, Any]] = []
        lines = self._complete_lines()
        if not lines:
            self._write({"settings": settings})
            return
        header, *self.records = [self._parse(path, line) for line in lines]
        self._check_settings(header.get("settings"), json.loads(json.dumps(settings)))

    @staticmethod
    def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Read the settings and the complete records of a log, and leave the file as it is.

        Raises:
            ConfigError: When the file is missing or no such log.
        """
        if not path.is_file():
            raise ConfigError(f'There are no results in "{path}".', "Run the evaluation first.")
        data = path.read_bytes()
        lines = [ResultsLog._parse(path, line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
        if not lines or not isinstance(lines[0].get("settings"), dict):
            raise ConfigError(f'"{path}" is not a log of results.', "Choose another folder.")
        return lines[0]["settings"], lines[1:]

    def append(self, record: dict[str, Any]) -> None:
        """Add a record; it is on disk when this returns."""
        self._write(record)
        self.records.append(record)

    def _write(self, record: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _complete_lines(self) -> list[bytes]:
        """Return the lines that end in a line break; cut off what follows the last."""
        if not self._path.exists():
            return []
        data = self._path.read_bytes()
        complete = data[: data.rfind(b"\n") + 1]
        if len(complete) < len(data):
            with self._path.open("rb+") as file:
                file.truncate(len(complete))
        return complete.splitlines()

    @staticmethod
    def _parse(path: Path, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ConfigError(f'"{path}" is damaged: {error}.', "Delete it to start again.") from error
        if not isinstance(record, dict):
            raise ConfigError(f'"{path}" is not a log of results.', "Choose another folder.")
        return record

    def _check_settings(self, found: Any, wanted: dict[str, Any]) -> None:
        if not isinstance(found, dict):
            raise ConfigError(f'"{self._path}" is not a log of results.', "Choose another folder.")
        differing = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
        if differing:
            changes = "; ".join(f"{key}: {found.get(key)!r}, now {wanted.get(key)!r}" for key in differing)
            raise ConfigError(
                f'"{self._path}" has results of other settings ({changes}).',
                "Choose another folder, or delete it to start again.",
            )
