"""From a folder of pictures to identity pairs (paper, A.1, sets A to C): one sub-folder a person.

A picture that lies in the folder itself is a person of its own. What becomes of a person:

* Pictures without exactly one face are dropped, and so is a picture that is almost the same as an earlier one of the
  person: a pair of the two would teach to copy.
* Where two or more are left, each is a target (set C), and its references are the others that the recogniser takes
  for the same person. One that it takes for nobody of the others is dropped: somebody else's picture, most likely.
* Where one is left, it is its own reference: with its caption if it has one (set A), else between black borders with
  the paper's fixed caption (set B).
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from magicmirror.data.embedding import AlignedEmbedder
from magicmirror.data.manifest import parse_record, picture_paths, write_manifest
from magicmirror.data.near_duplicates import is_near_duplicate, perceptual_hash
from magicmirror.data.portrait_import import ImportReport
from magicmirror.data.records import (
    Box,
    IdentityPairRecord,
    Origin,
    PaperSet,
    ReferencePicture,
    group_and_stratum,
    rounded_points,
    split_of,
)
from magicmirror.data.sidecar_captions import SidecarCaptions, with_trigger
from magicmirror.data.work_log import WorkLog
from magicmirror.errors import ConfigError, ImageError, PromptError
from magicmirror.faces.alignment import MIN_EYE_DISTANCE_PX, align_head, eye_distance_px
from magicmirror.faces.similarity import person_distance
from magicmirror.faces.tracking import FaceFinder
from magicmirror.media import load_image
from magicmirror.types import Float32Array, UInt8Array

logger = logging.getLogger(__name__)

SAME_PERSON_DISTANCE = 0.45
"""Default for dlib. Its published 0.6 takes 42 % of strangers of one sex and origin for the same person (1,280
portraits), 0.5 still 10 %, 0.45 3 %. The paper asks for a cosine above 0.65 of another recogniser, which is as much
stricter than that one's own limit."""
CROP_PX = 128


@dataclass(frozen=True)
class PairRules:
    """What makes a pair.

    Args:
        max_distance: Largest distance of two faces of one person (``faces.similarity.person_distance``).
        max_references: Most references of a target; those that come next in the order of the names.

    Raises:
        ConfigError: When a number cannot work.
    """

    max_distance: float = SAME_PERSON_DISTANCE
    max_references: int = 8

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        if not 0 < self.max_distance <= 2 or self.max_references < 1:
            raise ConfigError(
                f"max_distance {self.max_distance} or max_references {self.max_references} is out of range."
            )


@dataclass(frozen=True, eq=False)
class _Picture:
    """A picture with one face."""

    path: str
    landmarks: Float32Array
    box: Box
    crop: UInt8Array
    fingerprint: int


def build_pair_manifest(
    folder: Path,
    finder: FaceFinder,
    embedder: AlignedEmbedder,
    out: Path,
    origin: Origin,
    rules: PairRules | None = None,
    on_person: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Find the identity pairs of a folder and write their manifest.

    Finished people are noted in ``<out>.log``; the same call goes on with the others, and the result does not depend
    on where an earlier call ended.

    Args:
        folder: Root of the pictures.
        finder: Finds faces; its landmarks must be ``dlib5``.
        embedder: Embeds aligned heads.
        out: The manifest to write.
        origin: Source and licence of what ``captions.jsonl`` gives no other for.
        rules: What makes a pair.
        on_person: Called with (people done, people) after each.

    Returns:
        How many targets were kept, and how many pictures were dropped, by reason.

    Raises:
        ConfigError: When the folder is missing, ``captions.jsonl`` is wrong, or the log was begun with other rules.
    """
    if not folder.is_dir():
        raise ConfigError(f'There is no folder "{folder}".')
    rules = rules or PairRules()
    captions = SidecarCaptions(folder, origin)
    log = WorkLog(out.with_name(out.name + ".log"), {"rules": asdict(rules), "origin": asdict(origin)})
    people: dict[str, list[str]] = {}
    for path in picture_paths(folder):
        people.setdefault(person_of(path), []).append(path)
    for number, (person, paths) in enumerate(people.items(), start=1):
        if person not in log.results:
            made, dropped = _pairs_of(person, paths, folder, finder, embedder, captions, rules)
            log.add(person, {"records": [asdict(record) for record in made], "dropped": dropped})
        if on_person is not None:
            on_person(number, len(people))
    found = [values for person in people for values in log.results[person]["records"]]
    records = [parse_record(json.dumps(values), log.path.name, IdentityPairRecord) for values in found]
    write_manifest(records, out)
    reasons = Counter(reason for person in people for reason in log.results[person]["dropped"].values())
    report = ImportReport(len(records), dict(sorted(reasons.items())))
    logger.info("%d targets of %d people kept, dropped: %s", report.kept, len(people), report.dropped or "none")
    return report


def person_of(path: str) -> str:
    """Return the person of a picture: its folder, or for a picture in the root its own name."""
    parent = Path(path).parent.as_posix()
    return parent if parent != "." else Path(path).stem


def self_reference_caption(group: str) -> str:
    """Return the fixed caption of a picture between black borders (set B), in the words of A.1."""
    return with_trigger(f"A squared ID photo of {_article(group)} {group}, with pure black on two sides.")


def _pairs_of(
    person: str,
    paths: Sequence[str],
    folder: Path,
    finder: FaceFinder,
    embedder: AlignedEmbedder,
    captions: SidecarCaptions,
    rules: PairRules,
) -> tuple[list[IdentityPairRecord], dict[str, str]]:
    """Return the records of a person, and path -> reason of the pictures that were dropped."""
    pictures: list[_Picture] = []
    dropped: dict[str, str] = {}
    for path in paths:
        outcome = _analyse(folder, path, finder)
        if isinstance(outcome, str):
            dropped[path] = outcome
        elif any(is_near_duplicate(outcome.fingerprint, other.fingerprint) for other in pictures):
            dropped[path] = "near-duplicate"
        else:
            pictures.append(outcome)
    if not pictures:
        return [], dropped
    embeddings = embedder.embed_aligned(np.stack([picture.crop for picture in pictures]))
    records = []
    for number, picture in enumerate(pictures):
        references = _references(number, pictures, embeddings, rules)
        if not references and len(pictures) > 1:
            dropped[picture.path] = "not the same person"
            continue
        try:
            records.append(_record(person, picture, references, captions))
        except PromptError:
            dropped[picture.path] = "caption names no person"
    return records, dropped


def _analyse(folder: Path, path: str, finder: FaceFinder) -> _Picture | str:
    """Return the picture, or the reason to drop it."""
    try:
        image = load_image(folder / path)
    except ImageError as error:
        logger.warning("%s is skipped: %s", path, error)
        return "unreadable"
    faces = finder.find(image, thorough=True)
    if len(faces) != 1:
        return "no face" if not faces else "several faces"
    landmarks, box = faces[0].landmarks, faces[0].box
    if eye_distance_px(landmarks, "dlib5") < MIN_EYE_DISTANCE_PX:
        return "face too small"
    crop = align_head(image, landmarks, "dlib5", CROP_PX)
    return _Picture(path, landmarks, (box.left, box.top, box.right, box.bottom), crop, perceptual_hash(crop))


def _references(
    target: int, pictures: Sequence[_Picture], embeddings: Float32Array, rules: PairRules
) -> tuple[ReferencePicture, ...]:
    """Return the other pictures of the person of a target, beginning with those that follow it."""
    found = []
    for step in range(1, len(pictures)):
        other = (target + step) % len(pictures)
        distance = person_distance(embeddings[target], embeddings[other])
        if distance <= rules.max_distance:
            picture = pictures[other]
            found.append(ReferencePicture(picture.path, rounded_points(picture.landmarks), round(distance, 4)))
    return tuple(found[: rules.max_references])


def _record(
    person: str, picture: _Picture, references: tuple[ReferencePicture, ...], captions: SidecarCaptions
) -> IdentityPairRecord:
    """Describe a target.

    Raises:
        PromptError: When its caption names no person.
    """
    path = Path(picture.path)
    of_its_own = path.parent.as_posix() == "."
    group, stratum = group_and_stratum(Path(person).name, path.parts[0] if len(path.parts) > 2 else "people")
    origin = captions.origin_of(picture.path)
    caption = captions.caption(picture.path)
    paper_set: PaperSet = "C" if references else "B" if caption is None else "A"
    if caption is None:
        photo = with_trigger(f"A photo of {_article(group)} {group}.")
        caption = photo if references else self_reference_caption(group)
    return IdentityPairRecord(
        path=picture.path,
        source=origin.source,
        licence=origin.licence,
        person_id=person,
        group=group,
        stratum=stratum,
        landmarks=rounded_points(picture.landmarks),
        box=picture.box,
        split=split_of(path.name if of_its_own else Path(person).name),
        paper_set=paper_set,
        caption=caption,
        references=references,
    )


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
