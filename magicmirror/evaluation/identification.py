"""Rank identification: is the person of a video found by face among all test persons?

Each test person gives one portrait. A video is made from it, the faces of sampled frames are embedded and averaged,
and all portraits are ranked by their Euclidean distance to that average. Rank 1 means that the own portrait is the
nearest. Guessing reaches rank k or better in k of N cases.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from magicmirror.errors import ConfigError
from magicmirror.evaluation.contact_sheet import write_strip
from magicmirror.evaluation.portraits import Subject
from magicmirror.evaluation.results_log import ResultsLog
from magicmirror.faces.analyzer import FaceAnalyzer
from magicmirror.types import Float32Array, UInt8Array

GenerateFrames = Callable[[Subject, int], UInt8Array]
"""Takes a test person and a seed, returns (F, H, W, 3) uint8 RGB."""

LOG_FILE = "people.jsonl"
STRIP_FOLDER = "people"
DEFAULT_FRAMES_PER_VIDEO = 5


@dataclass(frozen=True)
class PersonResult:
    """How one test person was found.

    Args:
        name: Of the portrait.
        group: Of the portrait.
        seed: Of the video.
        frames: Frames looked at.
        frames_with_face: Frames of these in which a face was found.
        rank: Place of the own portrait, 1 is best; ``None`` when no frame has a face.
        own_distance: From the video to the own portrait; ``None`` when no frame has a face.
        other_distance: Mean distance from the video to the other portraits; ``None`` when no frame has a face.
    """

    name: str
    group: str
    seed: int
    frames: int
    frames_with_face: int
    rank: int | None
    own_distance: float | None
    other_distance: float | None


@dataclass(frozen=True)
class Summary:
    """Figures over several people. Shares lie in [0, 1]; a person without a found face counts as not identified.

    Args:
        people: How many.
        rank_1: Share with rank 1.
        rank_5: Share with rank 5 or better.
        mean_own_distance: Mean over people with a found face; ``None`` when there are none.
        mean_other_distance: The same, to the portraits of others.
        face_found: Share of frames with a face.
    """

    people: int
    rank_1: float
    rank_5: float
    mean_own_distance: float | None
    mean_other_distance: float | None
    face_found: float


@dataclass(frozen=True)
class IdentificationResult:
    """Everything that the report shows.

    Args:
        settings: JSON-able; what the figures depend on.
        people: In the order of the test.
        overall: Over all.
        groups: By group, in alphabetical order.
    """

    settings: dict[str, Any]
    people: tuple[PersonResult, ...]
    overall: Summary
    groups: dict[str, Summary]

    def chance(self, rank: int) -> float:
        """Share that guessing identifies at this rank or better."""
        return min(rank / len(self.people), 1.0)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a JSON file."""
        chance = {"rank_1": self.chance(1), "rank_5": self.chance(5)}
        return {**asdict(self), "chance": chance}


def run_identification(
    subjects: Sequence[Subject],
    generate: GenerateFrames,
    analyzer: FaceAnalyzer,
    output: Path,
    *,
    seed: int = 0,
    frames_per_video: int = DEFAULT_FRAMES_PER_VIDEO,
    settings: dict[str, Any] | None = None,
    on_person: Callable[[int, int, str], None] | None = None,
) -> IdentificationResult:
    """Make and score a video of each person; a rerun continues after the last finished one.

    Args:
        subjects: At least two people.
        generate: Makes a video of a person.
        analyzer: The one that analysed the subjects.
        output: Folder for the log and a strip of pictures of each person; made when missing.
        seed: Person number i, counted from 0, gets ``seed + i``.
        frames_per_video: How many evenly spaced frames are looked at.
        settings: Further facts on which the videos depend; a rerun must have the same.
        on_person: Told (finished, all, name) after each person.

    Returns:
        Ranks and figures.

    Raises:
        ConfigError: When an argument is out of range, or ``output`` holds results of other settings.
    """
    if len(subjects) < 2 or frames_per_video < 1:
        raise ConfigError(f"Needs 2 people and 1 frame or more, got {len(subjects)} and {frames_per_video}.")
    facts = {
        **(settings or {}),
        "people": len(subjects),
        "people_sha256": _fingerprint(subjects),
        "seed": seed,
        "frames_per_video": frames_per_video,
    }
    (output / STRIP_FOLDER).mkdir(parents=True, exist_ok=True)
    log = ResultsLog(output / LOG_FILE, facts)
    finished = {record["name"] for record in log.records}
    for index, subject in enumerate(subjects):
        if subject.name in finished:
            continue
        frames = generate(subject, seed + index)
        record = _measure(frames, analyzer, frames_per_video)
        write_strip(subject.reference.crop, frames, strip_path(output, subject.name))
        log.append({"name": subject.name, "seed": seed + index, **record})
        if on_person:
            on_person(len(log.records), len(subjects), subject.name)
    return _score(subjects, {record["name"]: record for record in log.records}, facts)


def strip_path(output: Path, name: str) -> Path:
    """Return where the pictures of a person are kept."""
    return output / STRIP_FOLDER / f"{name}.png"


def rank_people(videos: Float32Array, references: Float32Array) -> tuple[Float32Array, np.ndarray]:
    """Rank all references for each video.

    Args:
        videos: (N, E) embeddings; row i shows person i.
        references: (N, E) embeddings of the portraits.

    Returns:
        (N, N) distances, video by reference, and (N,) ranks of the own reference. Another portrait at the very same
        distance counts as nearer, so that a model which ignores the reference gains nothing.
    """
    distances = np.linalg.norm(videos[:, None].astype(np.float64) - references[None], axis=-1)
    own = np.diagonal(distances)[:, None]
    return distances.astype(np.float32), (distances <= own).sum(axis=1)


def summarize(people: Sequence[PersonResult]) -> Summary:
    """Average the results of at least one person."""
    ranks = [person.rank for person in people if person.rank is not None]
    own = [person.own_distance for person in people if person.own_distance is not None]
    other = [person.other_distance for person in people if person.other_distance is not None]
    return Summary(
        people=len(people),
        rank_1=sum(rank <= 1 for rank in ranks) / len(people),
        rank_5=sum(rank <= 5 for rank in ranks) / len(people),
        mean_own_distance=float(np.mean(own)) if own else None,
        mean_other_distance=float(np.mean(other)) if other else None,
        face_found=sum(person.frames_with_face for person in people) / sum(person.frames for person in people),
    )


def _measure(frames: UInt8Array, analyzer: FaceAnalyzer, frames_per_video: int) -> dict[str, Any]:
    """Embed the largest face of evenly spaced frames, first and last included."""
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ConfigError(f"Frames must be (F, H, W, 3) uint8, got {frames.shape} {frames.dtype}.")
    indices = np.unique(np.linspace(0, len(frames) - 1, frames_per_video).round().astype(int))
    found = [embedding for embedding in analyzer.embed_frames(frames[indices]) if embedding is not None]
    mean = np.mean(found, axis=0) if found else None
    embedding = None if mean is None else [float(value) for value in mean]
    return {"frames": len(indices), "frames_with_face": len(found), "embedding": embedding}


def _score(
    subjects: Sequence[Subject], records: dict[str, dict[str, Any]], settings: dict[str, Any]
) -> IdentificationResult:
    """Turn the log into ranks and figures."""
    references = np.stack([subject.reference.embedding for subject in subjects])
    embeddings = [records[subject.name]["embedding"] for subject in subjects]
    nothing = np.zeros(references.shape[1])
    videos = np.array([nothing if embedding is None else embedding for embedding in embeddings], dtype=np.float32)
    distances, ranks = rank_people(videos, references)
    people, by_group = [], defaultdict(list)
    for index, subject in enumerate(subjects):
        record = records[subject.name]
        seen = record["embedding"] is not None
        own = float(distances[index, index])
        person = PersonResult(
            name=subject.name,
            group=subject.portrait.group,
            seed=record["seed"],
            frames=record["frames"],
            frames_with_face=record["frames_with_face"],
            rank=int(ranks[index]) if seen else None,
            own_distance=own if seen else None,
            other_distance=float((distances[index].sum() - own) / (len(subjects) - 1)) if seen else None,
        )
        people.append(person)
        by_group[person.group].append(person)
    groups = {group: summarize(by_group[group]) for group in sorted(by_group)}
    return IdentificationResult(settings, tuple(people), summarize(people), groups)


def _fingerprint(subjects: Sequence[Subject]) -> str:
    """Hash who is tested, in which order."""
    digest = hashlib.sha256()
    for subject in subjects:
        digest.update(f"{subject.name}\0{subject.reference.photo_sha256}\0".encode())
    return digest.hexdigest()
