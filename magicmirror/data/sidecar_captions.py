"""Captions that lie beside pictures and videos: ``name.txt`` next to ``name.mp4``, or one ``captions.jsonl``.

A line of ``captions.jsonl``, in the root of the collection::

    {"path": "park/walk.mp4", "caption": "A woman walks in a park.", "source": "Jo Lee", "licence": "CC0 1.0"}

``source`` and ``licence`` may be left out; those of the whole collection hold then.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from magicmirror.data.manifest import numbered_lines
from magicmirror.data.records import Origin
from magicmirror.errors import ConfigError, PromptError
from magicmirror.pipeline.person_word import TRIGGER, find_person_word

CAPTIONS_FILE = "captions.jsonl"
_FIELDS = ("path", "caption", "source", "licence")


class SidecarCaptions:
    """The captions of a collection.

    Args:
        folder: Root of the collection.
        origin: Source and licence of what names none.

    Raises:
        ConfigError: With the number of the line of ``captions.jsonl`` that is wrong.
    """

    def __init__(self, folder: Path, origin: Origin) -> None:
        self.folder = folder
        self.origin = origin
        self._entries: dict[str, dict[str, str]] = {}
        if (folder / CAPTIONS_FILE).exists():
            for number, line in numbered_lines(folder / CAPTIONS_FILE):
                entry = _entry(line, f"{CAPTIONS_FILE}, line {number}")
                self._entries[entry["path"]] = entry

    def caption(self, path: str) -> str | None:
        """Return the caption of a file, with the trigger after the person word; ``None`` where there is none.

        Args:
            path: Of the picture or video, relative to the root.

        Raises:
            PromptError: When the caption names no person, or is no text.
        """
        text = self._entries.get(path, {}).get("caption")
        sidecar = (self.folder / path).with_suffix(".txt")
        if text is None and sidecar.is_file():
            try:
                text = sidecar.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise PromptError(f"{sidecar.name} is not UTF-8 text.", "Save it as UTF-8.") from error
        return with_trigger(text) if text is not None and text.strip() else None

    def origin_of(self, path: str) -> Origin:
        """Return source and licence of a file."""
        entry = self._entries.get(path, {})
        return Origin(entry.get("source", self.origin.source), entry.get("licence", self.origin.licence))


def with_trigger(caption: str) -> str:
    """Return a caption in one line, with the trigger ``img`` after the word that means the person.

    Raises:
        PromptError: When no word means a person.
    """
    person = find_person_word(" ".join(caption.split()))
    return f"{person.prompt[: person.end]} {TRIGGER}{person.prompt[person.end :]}"


def _entry(line: str, where: str) -> dict[str, str]:
    remedy = f'Write {{"path": ..., "caption": ...}}, with {" and ".join(_FIELDS[2:])} where they differ.'
    try:
        values: Any = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON.", remedy) from error
    if not isinstance(values, dict) or not {"path", "caption"} <= values.keys() <= set(_FIELDS):
        raise ConfigError(f"{where}: expected an object with path and caption, got {line.strip()[:100]!r}.", remedy)
    if not all(isinstance(value, str) and value for value in values.values()):
        raise ConfigError(f"{where}: all values must be texts that are not empty.", remedy)
    return values
