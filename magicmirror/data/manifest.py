"""Manifests: one JSON line for each portrait, with origin, licence, person and face.

A manifest names pictures by their path below a root folder, so that it holds on every machine. The split follows from
the file name alone: the SHA-1 of the name, read as a number and divisible by ten, means ``validation``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from magicmirror.data.caption_phrases import PERSON_WORDS
from magicmirror.errors import ConfigError, ImageError
from magicmirror.faces.analyzer import FaceAnalyzer
from magicmirror.media import load_image
from magicmirror.types import Float32Array

logger = logging.getLogger(__name__)

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
HELD_OUT_ONE_IN = 10
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_SEXES = {"male": "man", "female": "woman"}


@dataclass(frozen=True)
class Origin:
    """Where pictures come from and what allows their use."""

    source: str
    licence: str


@dataclass(frozen=True)
class PortraitRecord:
    """One portrait of a manifest.

    Args:
        path: Of the picture, relative to the root, with forward slashes.
        source: Who or what made it.
        licence: What allows its use.
        person_id: Equal for pictures of one person.
        group: Key of ``caption_phrases.PERSON_WORDS``: how captions name the person.
        stratum: Part of the collection that is sampled evenly, e.g. ``female_asian``.
        landmarks: Five (x, y) in px of the picture, ``dlib5`` order.
        box: Left, top, right, bottom of the face in px.
        split: ``train`` or ``validation``.

    Raises:
        ConfigError: When a value cannot be right.
    """

    path: str
    source: str
    licence: str
    person_id: str
    group: str
    stratum: str
    landmarks: tuple[tuple[float, float], ...]
    box: tuple[float, float, float, float]
    split: Split

    def __post_init__(self) -> None:
        """Check what JSON cannot."""
        for name in ("path", "source", "licence", "person_id", "stratum"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ConfigError(f"{name} must be a text that is not empty, got {getattr(self, name)!r}.")
        if Path(self.path).is_absolute() or ".." in Path(self.path).parts:
            raise ConfigError(f"path must lie below the root, got {self.path!r}.")
        if self.group not in PERSON_WORDS:
            raise ConfigError(f"group must be one of {', '.join(PERSON_WORDS)}, got {self.group!r}.")
        if self.split not in SPLITS:
            raise ConfigError(f"split must be one of {', '.join(SPLITS)}, got {self.split!r}.")
        if len(self.landmarks) != 5 or not all(_are_numbers(point, 2) for point in self.landmarks):
            raise ConfigError(f"landmarks must be five pairs of numbers, got {self.landmarks!r}.")
        if not _are_numbers(self.box, 4) or self.box[2] <= self.box[0] or self.box[3] <= self.box[1]:
            raise ConfigError(f"box must be left < right and top < bottom, got {self.box!r}.")

    @property
    def landmark_array(self) -> Float32Array:
        """(5, 2) float32."""
        return np.array(self.landmarks, dtype=np.float32)


@dataclass(frozen=True)
class ManifestReport:
    """What became of a folder of pictures.

    Args:
        kept: Records in the manifest.
        dropped: Reason -> number of pictures.
    """

    kept: int
    dropped: dict[str, int]


def split_of(file_name: str) -> Split:
    """Return the split of a picture, from its file name (without folders): one in ten is held out of training."""
    return "validation" if name_hash(file_name) % HELD_OUT_ONE_IN == 0 else "train"


def name_hash(file_name: str) -> int:
    """Return a number that depends on a file name alone; split and order of the test people follow from it."""
    return int(hashlib.sha1(file_name.encode(), usedforsecurity=False).hexdigest(), 16)


def read_manifest(path: Path, split: Split | None = None) -> tuple[PortraitRecord, ...]:
    """Read and check a manifest.

    Args:
        path: Of the JSON lines.
        split: Keep only this split.

    Returns:
        Records in the order of the file.

    Raises:
        ConfigError: When the file is missing, or with the number of the line that is wrong or names a picture again.
    """
    records: dict[str, PortraitRecord] = {}
    for number, line in _lines(path):
        record = parse_record(line, f"{path.name}, line {number}")
        if record.path in records:
            raise ConfigError(
                f"{path.name}, line {number}: {record.path!r} is named twice.", "Remove one of the lines."
            )
        records[record.path] = record
    return tuple(record for record in records.values() if split is None or record.split == split)


def parse_record(line: str, where: str) -> PortraitRecord:
    """Parse one line.

    Args:
        line: A JSON object with exactly the fields of ``PortraitRecord``.
        where: Name of the place, for messages.

    Returns:
        The record.

    Raises:
        ConfigError: Saying where and what is wrong.
    """
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: not JSON ({error.msg}).") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected an object, got {type(values).__name__}.")
    expected = {field.name for field in fields(PortraitRecord)}
    if values.keys() != expected:
        missing, unknown = sorted(expected - values.keys()), sorted(values.keys() - expected)
        raise ConfigError(f"{where}: missing fields {missing}, unknown fields {unknown}.")
    try:
        values["landmarks"] = tuple(tuple(point) for point in values["landmarks"])
        values["box"] = tuple(values["box"])
    except TypeError as error:
        raise ConfigError(f"{where}: landmarks and box must be lists of numbers.") from error
    try:
        return PortraitRecord(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", error.remedy) from error


def build_portrait_manifest(
    folder: Path, analyzer: FaceAnalyzer, out: Path, origins: Mapping[str, Origin] | None = None
) -> ManifestReport:
    """Analyse all pictures below a folder and write their manifest.

    Pictures without exactly one face are dropped and listed, with the reason, in ``<out>.dropped``. Every line is
    written as soon as it is known; the same call goes on where an earlier one ended.

    Args:
        folder: Root of the pictures.
        analyzer: Finds the faces; its landmarks must be ``dlib5``.
        out: The manifest to write or to continue.
        origins: First folder of a picture's path -> origin; the key ``""`` stands for all others.

    Returns:
        How many pictures were kept and dropped, those of earlier calls included.

    Raises:
        ConfigError: When the folder is missing, the landmarks are of another order, or a picture has no origin.
    """
    if not folder.is_dir():
        raise ConfigError(f'There is no folder "{folder}".')
    if analyzer.landmark_scheme != "dlib5":
        raise ConfigError(f"A portrait manifest needs dlib5 landmarks, the analyzer gives {analyzer.landmark_scheme}.")
    dropped_path = out.with_name(out.name + ".dropped")
    out.parent.mkdir(parents=True, exist_ok=True)
    for written in (out, dropped_path):
        _cut_incomplete_line(written)
    done = {record.path for record in read_manifest(out)} if out.exists() else set()
    done |= {json.loads(line)["path"] for _, line in _lines(dropped_path)} if dropped_path.exists() else set()
    todo = [path for path in picture_paths(folder) if path not in done]
    with out.open("a", encoding="utf-8") as kept, dropped_path.open("a", encoding="utf-8") as dropped:
        for number, path in enumerate(todo, start=1):
            outcome = _analyse(folder, path, analyzer, origins or {})
            if isinstance(outcome, PortraitRecord):
                kept.write(json.dumps(asdict(outcome)) + "\n")
                kept.flush()
            else:
                dropped.write(json.dumps({"path": path, "reason": outcome}) + "\n")
                dropped.flush()
            if number % 200 == 0:
                logger.info("%d of %d pictures analysed", number, len(todo))
    reasons: dict[str, int] = {}
    for _, line in _lines(dropped_path):
        reason = json.loads(line)["reason"]
        reasons[reason] = reasons.get(reason, 0) + 1
    report = ManifestReport(kept=len(read_manifest(out)), dropped=reasons)
    logger.info("%d portraits kept, dropped: %s", report.kept, report.dropped or "none")
    return report


def picture_paths(folder: Path) -> Sequence[str]:
    """Return the paths of all pictures below a folder, relative to it, sorted."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _analyse(folder: Path, path: str, analyzer: FaceAnalyzer, origins: Mapping[str, Origin]) -> PortraitRecord | str:
    """Return the record of a picture, or the reason to drop it."""
    first = path.split("/", maxsplit=1)[0]
    origin = origins.get(first, origins.get(""))
    if origin is None:
        raise ConfigError(f"No origin is known for {path!r}.", 'Name source and licence of its folder, or of "".')
    try:
        faces = analyzer.analyze(load_image(folder / path))
    except ImageError:
        return "unreadable"
    if len(faces) != 1:
        return "no face" if not faces else "several faces"
    face = faces[0]
    name = Path(path)
    words = name.stem.split("_")
    group = _SEXES.get(words[0], "person")
    return PortraitRecord(
        path=path,
        source=origin.source,
        licence=origin.licence,
        person_id=name.with_suffix("").as_posix(),
        group=group,
        stratum="_".join(words[:-1]) if group != "person" else first,
        landmarks=tuple((round(float(x), 3), round(float(y), 3)) for x, y in face.landmarks),
        box=(face.box.left, face.box.top, face.box.right, face.box.bottom),
        split=split_of(name.name),
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of all lines that are not blank."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f'There is no manifest "{path}".') from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line


def _cut_incomplete_line(path: Path) -> None:
    """Remove what a killed run left behind the last line end."""
    if path.exists():
        data = path.read_bytes()
        complete = data[: data.rfind(b"\n") + 1]
        if complete != data:
            path.write_bytes(complete)


def _are_numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == count
        and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    )
