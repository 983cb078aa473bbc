"""The study behind the limits of ``magicmirror.faces.quality``: spoil good portraits and watch the embedding drift.

    python benchmarks/face_quality.py --portraits FOLDER [--rows FILE] [--docs docs/face_quality.md]

FOLDER has one portrait of a person in each picture. Names ``<sex>_<group>_<id>`` give the group of a portrait, else
its first folder does. Three measurements, each on the same people every time (order of the names' hashes):

1. drift: ``--people`` of each group, spoilt in all ways of ``face_degradations``, analysed and compared (some 20
   minutes on one idle core for 4, most of it dlib's recogniser; ``--rows`` keeps what is measured and goes on there),
2. pose: heads turned by known angles, without the recogniser (3 minutes),
3. pass rates of untouched portraits, and in other light, ``--untouched`` of each group (1 minute).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import face_degradations
import numpy as np
from face_quality_report import write_report

from magicmirror.data.manifest import name_hash, picture_paths
from magicmirror.faces.alignment import align_head, eye_distance_px
from magicmirror.faces.analyzer import create_face_analyzer
from magicmirror.faces.dlib_search import DlibFaceSearch, weights_path
from magicmirror.faces.head_pose import head_pose
from magicmirror.faces.quality import quality_report
from magicmirror.faces.similarity import euclidean_distance
from magicmirror.media import load_image
from magicmirror.types import FaceReference, Float32Array, LandmarkScheme, QualityCheck, UInt8Array

POSE_ANGLES = (-30.0, -20.0, -10.0, 10.0, 20.0, 30.0)
STOPS = (-5.0, -4.0, -3.0, -2.0, 0.0, 1.0, 1.5, 2.0)
FRONTAL_DEG = 8.0
"""A portrait serves as ground truth where its own head is turned by less than this: the turned shape is frontal."""
MOUTH_MODEL = "shape_predictor_68_face_landmarks.dat"


@dataclass(frozen=True)
class Row:
    """One analysed photo.

    Args:
        portrait: Its name.
        group: Of the portrait.
        family: Way of spoiling; empty for the untouched photo.
        step: How much.
        distance: Of the embedding from the untouched photo's; ``None`` where no face was found.
        values: Check -> measured value.
        failed: Checks that did not pass.
    """

    portrait: str
    group: str
    family: str
    step: float
    distance: float | None
    values: dict[str, float]
    failed: list[str]


def make_row(
    portrait: str, group: str, family: str, step: float, distance: float | None, checks: Sequence[QualityCheck]
) -> Row:
    """Put an analysed photo into plain numbers."""
    values = {check.name: round(float(check.value), 5) for check in checks}
    return Row(portrait, group, family, step, distance, values, [check.name for check in checks if not check.passed])


def choose_portraits(folder: Path, count: int) -> dict[str, list[str]]:
    """Return group -> the first ``count`` names in the order of their hashes; real portraits count twice.

    A real portrait is one whose name gives no group.
    """
    groups: dict[str, list[str]] = {}
    for path in picture_paths(folder):
        words = Path(path).stem.split("_")
        group = "_".join(words[:-1]) if words[0] in {"male", "female"} else path.split("/")[0]
        groups.setdefault(group, []).append(path)
    for group, paths in groups.items():
        paths.sort(key=lambda path: name_hash(Path(path).name))
        del paths[count if group.split("_")[0] in {"male", "female"} else 2 * count :]
    return groups


def drift_rows(folder: Path, people: int, kept: Path | None) -> list[Row]:
    """Spoil, analyse and compare; rows that ``kept`` already has are taken from there."""
    rows = [Row(**json.loads(line)) for line in kept.read_text().splitlines()] if kept and kept.exists() else []
    done = {row.portrait for row in rows}
    analyzer = create_face_analyzer("dlib")
    for group, paths in choose_portraits(folder, people).items():
        for path in paths:
            if path in done:
                continue
            photo = load_image(folder / path)
            faces = analyzer.analyze(photo, thorough=False)
            if len(faces) != 1:
                continue
            new = list(_spoilt_rows(path, group, photo, faces[0], analyzer))
            rows += new
            if kept:
                with kept.open("a") as file:
                    file.writelines(json.dumps(asdict(row)) + "\n" for row in new)
            print(f"{group} {path}", flush=True)
    return rows


def _spoilt_rows(path: str, group: str, photo: UInt8Array, face: FaceReference, analyzer: Any) -> Iterator[Row]:
    yield make_row(path, group, "", 0.0, 0.0, face.checks)
    for name, family in face_degradations.FAMILIES.items():
        for step in family.steps:
            found = analyzer.analyze(family.spoil(photo, face.landmarks, step), thorough=False)
            distance = euclidean_distance(found[0].embedding, face.embedding) if found else None
            yield make_row(path, group, name, step, distance, found[0].checks if found else ())


def untouched_rows(folder: Path, count: int) -> list[Row]:
    """Measure untouched portraits (step 0) and the same in other light (step: stops), without the recogniser."""
    search = DlibFaceSearch()
    rows = []
    for group, paths in choose_portraits(folder, count).items():
        for path in paths:
            photo = load_image(folder / path)
            for found in search.find(photo, thorough=False)[:1]:
                for stops in STOPS:
                    lit = face_degradations.expose(photo, found.landmarks, stops) if stops else photo
                    checks = quality_report(lit, align_head(lit, found.landmarks, "dlib5"), found.landmarks, "dlib5")
                    rows.append(make_row(path, group, "", stops, 0.0, checks))
    return rows


def pose_errors(folder: Path, people: int) -> list[dict[str, float | str]]:
    """Turn near-frontal heads by known angles and measure the change of the estimated angle, for both schemes.

    Landmarks of ``arcface5`` come from dlib's 68-point model, since ArcFace's detector is not part of this project's
    tests: centres of the eyes, tip of the nose, corners of the mouth.
    """
    import dlib

    search, mouth = DlibFaceSearch(), dlib.shape_predictor(str(weights_path(MOUTH_MODEL)))
    changes: dict[tuple[LandmarkScheme, str, float], list[float]] = {}
    for paths in choose_portraits(folder, people).values():
        for path in paths:
            photo = load_image(folder / path)
            found = search.find(photo, thorough=False)
            if len(found) != 1 or abs(head_pose(found[0].landmarks, "dlib5").yaw) > FRONTAL_DEG:
                continue
            rest = _both_schemes(face_degradations.turn(photo, found[0].landmarks, 0, 0), search, mouth)
            for axis, angle in [(axis, angle) for axis in ("yaw", "pitch") for angle in POSE_ANGLES]:
                angles = (angle, 0.0) if axis == "yaw" else (0.0, angle)
                turned = _both_schemes(face_degradations.turn(photo, found[0].landmarks, *angles), search, mouth)
                for scheme in rest.keys() & turned.keys():
                    change = getattr(head_pose(turned[scheme], scheme), axis)
                    change -= getattr(head_pose(rest[scheme], scheme), axis)
                    changes.setdefault((scheme, axis, angle), []).append(change)
    return [
        {
            "scheme": scheme,
            "axis": axis,
            "angle": angle,
            "count": len(values),
            "measured": float(np.median(values)),
            "median_error": float(np.median(np.abs(np.array(values) - angle))),
            "p90_error": float(np.percentile(np.abs(np.array(values) - angle), 90)),
        }
        for (scheme, axis, angle), values in sorted(changes.items())
    ]


def _both_schemes(photo: UInt8Array, search: DlibFaceSearch, mouth: Any) -> dict[LandmarkScheme, Float32Array]:
    """Find the landmarks of the one face in both orders; empty where none was found."""
    import dlib

    found = search.find(photo, thorough=False)
    if not found:
        return {}
    box = found[0].box
    rectangle = dlib.rectangle(round(box.left), round(box.top), round(box.right) - 1, round(box.bottom) - 1)
    points = np.array([[part.x, part.y] for part in mouth(photo, rectangle).parts()], dtype=np.float32)
    eyes = [points[36:42].mean(axis=0), points[42:48].mean(axis=0)]
    arcface = np.stack([*eyes, points[30], points[48], points[54]]).astype(np.float32)
    # A model that lost the face would spoil the figures of the geometry.
    agree = abs(eye_distance_px(arcface, "arcface5") / eye_distance_px(found[0].landmarks, "dlib5") - 1) < 0.2
    return {"dlib5": found[0].landmarks, **({"arcface5": arcface} if agree else {})}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits")
    parser.add_argument("--people", type=int, default=4, help="people of each group that are spoilt")
    parser.add_argument("--untouched", type=int, default=60, help="people of each group for the pass rates")
    parser.add_argument("--rows", type=Path, help="JSON lines of the drift, continued where they end")
    parser.add_argument("--docs", type=Path, default=Path("docs/face_quality.md"), help="page whose tables are renewed")
    options = parser.parse_args()
    drift = drift_rows(options.portraits, options.people, options.rows)
    untouched = untouched_rows(options.portraits, options.untouched)
    pose = pose_errors(options.portraits, 2 * options.people)
    write_report(options.docs, [asdict(row) for row in drift], [asdict(row) for row in untouched], pose)


if __name__ == "__main__":
    main()
