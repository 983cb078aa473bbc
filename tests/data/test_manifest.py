"""Manifests: records are checked, errors name the line, building goes on where it stopped."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from magicmirror.data.manifest import Origin, parse_record, picture_paths, read_manifest, split_of
from magicmirror.data.portrait_import import build_portrait_manifest
from magicmirror.errors import ConfigError
from magicmirror.media import write_image

GOOD = {
    "path": "generated/female_asian_01.jpg",
    "source": "made by a machine",
    "licence": "CC0 1.0",
    "person_id": "female_asian_01",
    "group": "woman",
    "stratum": "female_asian",
    "landmarks": [[170, 121], [144, 123], [86, 122], [110, 123], [122, 168]],
    "box": [60.0, 70.0, 190.0, 200.0],
    "split": "train",
}
ORIGINS = {"": Origin("examples", "see LICENSE.md")}


def write_lines(path, *records):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return path


def test_round_trip_and_split_filter(tmp_path):
    other = GOOD | {"path": "b.jpg", "split": "validation"}
    path = write_lines(tmp_path / "m.jsonl", GOOD, "", other)
    first, second = read_manifest(path)
    assert json.loads(json.dumps(dataclasses.asdict(first))) == GOOD
    assert first.landmark_array.shape == (5, 2) and first.landmark_array[4, 1] == 168
    assert read_manifest(path, "validation") == (second,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "/etc/face.jpg"}, "below the root"),
        ({"path": "../face.jpg"}, "below the root"),
        ({"licence": ""}, "licence"),
        ({"group": "wizard"}, "wizard"),
        ({"split": "test"}, "test"),
        ({"landmarks": [[1, 2]] * 4}, "five pairs"),
        ({"landmarks": [[1, 2, 3]] * 5}, "five pairs"),
        ({"landmarks": [["a", 2]] * 5}, "five pairs"),
        ({"landmarks": 3}, "lists of numbers"),
        ({"box": [10, 10, 5, 20]}, "left < right"),
        ({"box": [0, 0, float("nan"), 20]}, "left < right"),
        ({"colour": "red"}, "unknown fields .'colour'."),
    ],
)
def test_wrong_values_are_refused_with_the_line(tmp_path, change, message):
    path = write_lines(tmp_path / "m.jsonl", GOOD | {"path": "first.jpg"}, GOOD | change)
    with pytest.raises(ConfigError, match=f"m.jsonl, line 2: .*{message}"):
        read_manifest(path)


def test_broken_lines_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="line 3: not JSON"):
        read_manifest(write_lines(tmp_path / "m.jsonl", GOOD, "", '{"path": '))
    with pytest.raises(ConfigError, match="line 1: expected an object, got list"):
        read_manifest(write_lines(tmp_path / "m.jsonl", "[1]"))
    with pytest.raises(ConfigError, match="named twice"):
        read_manifest(write_lines(tmp_path / "m.jsonl", GOOD, GOOD))
    with pytest.raises(ConfigError, match=r"missing fields .'split'."):
        parse_record(json.dumps({k: v for k, v in GOOD.items() if k != "split"}), "here")
    with pytest.raises(ConfigError, match="no manifest"):
        read_manifest(tmp_path / "absent.jsonl")


def test_split_is_a_tenth_and_fixed():
    # SHA-1 of these names, computed with another tool.
    assert split_of("A000014.jpg") == "validation"
    assert split_of("female_white_27f1d7ebde.jpg") == "validation"
    share = np.mean([split_of(f"{index}.jpg") == "validation" for index in range(5000)])
    assert 0.08 < share < 0.12


class Interrupted(Exception):
    """Stands for the end of a process."""


class StoppingAnalyzer:
    """A real analyzer that gives up after some pictures."""

    landmark_scheme = "dlib5"

    def __init__(self, analyzer, pictures):
        self.analyzer, self.pictures, self.calls = analyzer, pictures, 0

    def analyze(self, image):
        if self.calls == self.pictures:
            raise Interrupted
        self.calls += 1
        return self.analyzer.analyze(image)


@pytest.fixture
def folder(examples, tmp_path):
    """Three usable pictures, one with two people, one without anybody, one broken."""
    root = tmp_path / "faces"
    (root / "generated").mkdir(parents=True)
    shutil.copy(examples / "woman_1.jpg", root / "generated" / "female_white_1.jpg")
    shutil.copy(examples / "man_1.jpg", root / "generated" / "male_white_1.jpg")
    shutil.copy(examples / "older_man_1.jpg", root / "older.jpg")
    shutil.copy(examples / "two_people.jpg", root / "two.jpg")
    write_image(np.full((128, 128, 3), 90, dtype=np.uint8), root / "empty.jpg")
    (root / "broken.jpg").write_bytes(b"no picture")
    (root / "notes.txt").write_text("not a picture")
    return root


def test_build_drops_counts_and_goes_on_where_it_stopped(folder, face_analyzer, tmp_path):
    whole = tmp_path / "whole.jsonl"
    report = build_portrait_manifest(folder, face_analyzer, whole, ORIGINS)
    assert (report.kept, report.dropped) == (3, {"several faces": 1, "no face": 1, "unreadable": 1})
    records = {record.path: record for record in read_manifest(whole)}
    assert list(records) == ["generated/female_white_1.jpg", "generated/male_white_1.jpg", "older.jpg"]
    woman = records["generated/female_white_1.jpg"]
    assert (woman.group, woman.stratum, woman.source) == ("woman", "female_white", "examples")
    assert records["generated/male_white_1.jpg"].group == "man" and records["older.jpg"].group == "person"
    assert woman.landmarks[0][0] > woman.landmarks[2][0]

    parts = tmp_path / "parts.jsonl"
    with pytest.raises(Interrupted):
        build_portrait_manifest(folder, StoppingAnalyzer(face_analyzer, 2), parts, ORIGINS)
    with parts.open("a") as file:
        file.write('{"path": "half a li')
    resumed = StoppingAnalyzer(face_analyzer, 3)
    assert build_portrait_manifest(folder, resumed, parts, ORIGINS) == report
    assert resumed.calls == 3
    assert parts.read_bytes() == whole.read_bytes()


def test_build_refuses_what_it_cannot_do(folder, face_analyzer, tmp_path):
    with pytest.raises(ConfigError, match="No origin"):
        build_portrait_manifest(folder, face_analyzer, tmp_path / "m.jsonl", {"generated": ORIGINS[""]})
    with pytest.raises(ConfigError, match="no folder"):
        build_portrait_manifest(folder / "absent", face_analyzer, tmp_path / "m.jsonl", ORIGINS)
    assert "notes.txt" not in picture_paths(folder)
