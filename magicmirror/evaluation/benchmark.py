"""The benchmark runner: every case becomes a saved video, is measured once from its file, and is logged.

A folder holds one *row* of the report (``generated``, ``data``, ``reconstructed`` or ``clips``)::

    <output>/<row>/people.json      who is tested: embeddings of references, of altered references, of the group
    <output>/<row>/videos/          one mp4 a case
    <output>/<row>/captions.json    path of each video -> caption, as VBench reads them
    <output>/<row>/strips/          reference, first, middle and last frame
    <output>/<row>/videos.jsonl     settings, then one line a finished video

The log only grows (``results_log``); videos and pictures appear complete or not at all. A run that was killed at any
moment loses at most the video at work, and the same call goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from magicmirror.data.manifest import PICTURE_SUFFIXES
from magicmirror.errors import ConfigError
from magicmirror.evaluation.cases import Case
from magicmirror.evaluation.contact_sheet import write_strip
from magicmirror.evaluation.identity_pictures import ALTERATIONS, altered_references, group_embeddings
from magicmirror.evaluation.portraits import Subject
from magicmirror.evaluation.results_log import ResultsLog
from magicmirror.evaluation.sources import VideoSource
from magicmirror.evaluation.text_score import TextScore
from magicmirror.evaluation.video_measures import FACE_FRAMES, Identity, measure_video
from magicmirror.faces.analyzer import FaceAnalyzer
from magicmirror.media import complete_file, read_video, write_video
from magicmirror.types import Float32Array

LOG_FILE = "videos.jsonl"
PEOPLE_FILE = "people.json"
CAPTIONS_FILE = "captions.json"
VIDEO_FOLDER = "videos"
STRIP_FOLDER = "strips"
FORMAT = 2
"""Raised when a measure changes its meaning, so that old logs are not continued."""


@dataclass(frozen=True, eq=False)
class Person:
    """A test person as the report needs it.

    Args:
        name: Of the portrait.
        group: Of the portrait.
        reference: (E,) embedding.
        altered: Name of an alteration -> (E,) embedding of the altered reference.
        pictures: (G, E) embeddings of other pictures; ``None`` where there are none.
        pictures_from: ``photos``, ``rendered`` or ``none``.
    """

    name: str
    group: str
    reference: Float32Array
    altered: dict[str, Float32Array]
    pictures: Float32Array | None
    pictures_from: str


def run_row(
    cases: Sequence[Case],
    source: VideoSource,
    analyzer: FaceAnalyzer,
    output: Path,
    *,
    settings: dict[str, Any],
    group_folder: Path | None = None,
    face_frames: int = FACE_FRAMES,
    text_score: TextScore | None = None,
    on_video: Callable[[int, int, str], None] | None = None,
) -> None:
    """Make and measure every video of a row that is not there yet.

    Args:
        cases: At least one; names are unique.
        source: Makes the video of a case.
        analyzer: The one that analysed the subjects.
        output: Folder of the row; made when missing.
        settings: JSON-able; what the videos depend on. A rerun must have the same.
        group_folder: See ``identity_pictures.group_embeddings``.
        face_frames: In how many frames of a video faces are searched.
        text_score: See ``text_score.load_clip_score``.
        on_video: Told (finished, all, name) after each video.

    Raises:
        ConfigError: When there is no case, or the folder holds results of other settings.
    """
    if not cases:
        raise ConfigError("A benchmark needs at least one video to make.")
    subjects = tuple({case.subject.name: case.subject for case in cases}.values())
    facts = {**settings, "format": FORMAT, "face_frames": face_frames, "cases_sha256": _fingerprint(cases)}
    for folder in (output / VIDEO_FOLDER, output / STRIP_FOLDER):
        folder.mkdir(parents=True, exist_ok=True)
    log = ResultsLog(output / LOG_FILE, facts)
    people = _people(subjects, analyzer, output / PEOPLE_FILE, group_folder)
    _write_json(output / CAPTIONS_FILE, {f"{VIDEO_FOLDER}/{case.name}.mp4": case.clip.caption for case in cases})
    finished = {record["name"] for record in log.records}
    for case in cases:
        if case.name in finished:
            continue
        path = output / VIDEO_FOLDER / f"{case.name}.mp4"
        # A complete video without a line in the log was made by a run that was killed while it measured.
        if not path.is_file():
            write_video(source(case), path)
        identity = Identity(case.subject.reference, people[case.subject.name].pictures)
        measures = measure_video(path, identity, case.clip, analyzer, face_frames=face_frames, text_score=text_score)
        write_strip(case.subject.reference.crop, read_video(path)[0], strip_path(output, case.name))
        log.append({**_description(case), **measures})
        if on_video:
            on_video(len(log.records), len(cases), case.name)


def read_row(output: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Person]] | None:
    """Read what a run has left, finished or not.

    Args:
        output: Folder of the row.

    Returns:
        Settings, records and people by name; ``None`` when nothing was finished there.

    Raises:
        ConfigError: When a file is damaged.
    """
    if not (output / LOG_FILE).is_file() or not (output / PEOPLE_FILE).is_file():
        return None
    settings, records = ResultsLog.read(output / LOG_FILE)
    return (settings, records, _read_people(output / PEOPLE_FILE)) if records else None


def strip_path(output: Path, name: str) -> Path:
    """Return where the strip of a case is kept."""
    return output / STRIP_FOLDER / f"{name}.png"


def _description(case: Case) -> dict[str, Any]:
    return {
        "name": case.name,
        "person": case.subject.name,
        "group": case.subject.portrait.group,
        "prompt_name": case.prompt,
        "prompt": case.clip.caption,
        "motions": [cue.name for cue in case.clip.motions],
        "style": case.clip.style,
        "seed": case.seed,
    }


def _people(
    subjects: Sequence[Subject], analyzer: FaceAnalyzer, path: Path, group_folder: Path | None
) -> dict[str, Person]:
    """Embed all pictures of the people, or read them where an earlier run has."""
    if path.is_file():
        people = _read_people(path)
        if list(people) == [subject.name for subject in subjects]:
            return people
    people = {subject.name: _person(subject, analyzer, group_folder) for subject in subjects}
    records = [
        {
            "name": person.name,
            "group": person.group,
            "reference": person.reference.tolist(),
            "altered": {name: embedding.tolist() for name, embedding in person.altered.items()},
            "pictures": None if person.pictures is None else person.pictures.tolist(),
            "pictures_from": person.pictures_from,
        }
        for person in people.values()
    ]
    _write_json(path, records)
    return people


def _person(subject: Subject, analyzer: FaceAnalyzer, group_folder: Path | None) -> Person:
    altered = analyzer.embed_aligned(altered_references(subject))
    pictures, origin = None, "none"
    if subject.portrait.path.suffix.lower() in PICTURE_SUFFIXES:
        pictures, origin = group_embeddings(subject, analyzer, group_folder)
    return Person(
        subject.name,
        subject.portrait.group,
        subject.reference.embedding,
        dict(zip(ALTERATIONS, altered, strict=True)),
        pictures,
        origin,
    )


def _write_json(path: Path, content: Any) -> None:
    with complete_file(path, ConfigError) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")


def _read_people(path: Path) -> dict[str, Person]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        people = [
            Person(
                record["name"],
                record["group"],
                np.array(record["reference"], dtype=np.float32),
                {name: np.array(values, dtype=np.float32) for name, values in record["altered"].items()},
                None if record["pictures"] is None else np.array(record["pictures"], dtype=np.float32),
                record["pictures_from"],
            )
            for record in records
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f'"{path}" is damaged: {error}.', "Delete it; it is made anew.") from error
    return {person.name: person for person in people}


def _fingerprint(cases: Sequence[Case]) -> str:
    """Hash who is shown doing what, in which order."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(f"{case.name}\0{case.subject.reference.photo_sha256}\0{case.clip!r}\0".encode())
    return digest.hexdigest()
