"""Manifests: one JSON line for each portrait, target of identity pairs or real clip; read, checked and written here.

A manifest names files by their path below a root folder, so that it holds on every machine. The split follows from
names alone: the SHA-1 of the name, read as a number and divisible by ten, means ``validation``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from magicmirror.data.records import (
    HELD_OUT_ONE_IN,
    FrameFace,
    IdentityPairRecord,
    Origin,
    PortraitRecord,
    RealClipRecord,
    Record,
    ReferencePicture,
    Split,
    name_hash,
    split_of,
)
from magicmirror.errors import ConfigError
from magicmirror.media import complete_file

__all__ = [
    "HELD_OUT_ONE_IN",
    "IdentityPairRecord",
    "Origin",
    "PICTURE_SUFFIXES",
    "PortraitRecord",
    "RealClipRecord",
    "Record",
    "Split",
    "VIDEO_SUFFIXES",
    "name_hash",
    "numbered_lines",
    "parse_record",
    "picture_paths",
    "read_clips",
    "read_manifest",
    "read_pairs",
    "record_line",
    "split_of",
    "video_paths",
    "write_manifest",
]

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif"})
_REMEDY = "Mend or remove this line."
_PARTS: dict[str, type] = {"references": ReferencePicture, "faces": FrameFace}

R = TypeVar("R", PortraitRecord, IdentityPairRecord, RealClipRecord)


def read_manifest(path: Path, split: Split | None = None) -> tuple[PortraitRecord, ...]:
    """Read and check a manifest of portraits.

    Args:
        path: Of the JSON lines.
        split: Keep only this split.

    Returns:
        Records in the order of the file.

    Raises:
        ConfigError: When the file is missing, or with the number of the line that is wrong or names a picture again.
    """
    return _read(path, PortraitRecord, split)


def read_pairs(path: Path, split: Split | None = None) -> tuple[IdentityPairRecord, ...]:
    """Read and check a manifest of identity pairs; as ``read_manifest``."""
    return _read(path, IdentityPairRecord, split)


def read_clips(path: Path, split: Split | None = None) -> tuple[RealClipRecord, ...]:
    """Read and check a manifest of real clips; as ``read_manifest``, and one video may have many clips."""
    return _read(path, RealClipRecord, split)


def parse_record(line: str, where: str, kind: type[R] = PortraitRecord) -> R:  # type: ignore[assignment]
    """Parse one line.

    Args:
        line: A JSON object with exactly the fields of the record.
        where: Name of the place, for messages.
        kind: Class of the record.

    Returns:
        The record.

    Raises:
        ConfigError: Saying where and what is wrong.
    """
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: not JSON ({error.msg}).", _REMEDY) from error
    except RecursionError as error:
        raise ConfigError(f"{where}: nested too deeply.", _REMEDY) from error
    try:
        record: R = _build(kind, values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", error.remedy or _REMEDY) from error
    return record


def record_line(record: Record) -> str:
    """Return the line of a record, with its line end."""
    return json.dumps(asdict(record)) + "\n"


def write_manifest(records: Iterable[Record], path: Path) -> None:
    """Write a manifest, complete or not at all.

    Raises:
        ConfigError: When it cannot be written.
    """
    with complete_file(path, ConfigError) as partial:
        partial.write_text("".join(record_line(record) for record in records), encoding="utf-8")


def picture_paths(folder: Path) -> Sequence[str]:
    """Return the paths of all pictures below a folder, relative to it, sorted."""
    return _paths(folder, PICTURE_SUFFIXES)


def video_paths(folder: Path) -> Sequence[str]:
    """Return the paths of all videos below a folder, relative to it, sorted."""
    return _paths(folder, VIDEO_SUFFIXES)


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of all lines of a text that are not blank.

    Raises:
        ConfigError: When the file is missing or not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f'There is no manifest "{path}".') from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def _read(path: Path, kind: type[R], split: Split | None) -> tuple[R, ...]:
    records: dict[tuple[str, int], R] = {}
    for number, line in numbered_lines(path):
        where = f"{path.name}, line {number}"
        record: R = parse_record(line, where, kind)
        start = record.start_frame if isinstance(record, RealClipRecord) else 0
        if (record.path, start) in records:
            raise ConfigError(f"{where}: {record.path!r} is named twice.", "Remove one of the lines.")
        records[record.path, start] = record
    return tuple(record for record in records.values() if split is None or record.split == split)


def _build(kind: type, values: Any) -> Any:
    """Make a record, or a part of one, from what JSON gave."""
    if not isinstance(values, dict):
        raise ConfigError(f"expected an object, got {type(values).__name__}.")
    expected = {field.name for field in fields(kind)}
    if values.keys() != expected:
        missing, unknown = sorted(expected - values.keys()), sorted(values.keys() - expected)
        raise ConfigError(f"missing fields {missing}, unknown fields {unknown}.")
    built = {name: _frozen(value) for name, value in values.items()}
    for name in built.keys() & _PARTS.keys():
        if not isinstance(values[name], list):
            raise ConfigError(f"{name} must be a list, got {values[name]!r}.")
        built[name] = tuple(_build(_PARTS[name], part) for part in values[name])
    return kind(**built)


def _frozen(value: Any) -> Any:
    """Lists as tuples, at every depth."""
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value


def _paths(folder: Path, suffixes: frozenset[str]) -> Sequence[str]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in found)
