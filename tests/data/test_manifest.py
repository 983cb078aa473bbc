"""Manifests: records are checked, errors name the line, building goes on where it stopped."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from magicmirror.data.manifest import (
    Origin,
    parse_record,
    picture_paths,
    read_clips,
    read_manifest,
    read_pairs,
    record_line,
    split_of,
    write_manifest,
)
from magicmirror.data.portrait_import import build_portrait_manifest
from magicmirror.data.work_log import WorkLog
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


REFERENCE = {"path": "generated/other.jpg", "landmarks": GOOD["landmarks"], "distance": 0.31}
PAIR = GOOD | {"paper_set": "C", "caption": "A photo of a woman img.", "references": [REFERENCE]}
CLIP = {name: GOOD[name] for name in ("source", "licence", "person_id", "group", "stratum", "box", "split")} | {
    "path": "park/walk.mp4",
    "start_frame": 30,
    "end_frame": 90,
    "fps": 29.97,
    "caption": "A woman img walks.",
    "motion": 0.21,
    "fingerprints": ["00ff", "1", "2"],
    "faces": [{"frame": 30, "landmarks": GOOD["landmarks"]}, {"frame": 89, "landmarks": GOOD["landmarks"]}],
}


@pytest.mark.parametrize(("read", "line"), [(read_pairs, PAIR), (read_clips, CLIP)])
def test_pairs_and_clips_make_the_round_trip(tmp_path, read, line):
    (record,) = read(write_lines(tmp_path / "m.jsonl", line))
    assert json.loads(record_line(record)) == line
    write_manifest([record], tmp_path / "again.jsonl")
    assert read(tmp_path / "again.jsonl", "train") == (record,)
    assert read(tmp_path / "again.jsonl", "validation") == ()
    with pytest.raises(ConfigError, match=r"line 2: .*named twice"):
        read(write_lines(tmp_path / "m.jsonl", line, line))


def test_one_video_may_have_many_clips(tmp_path):
    later = CLIP | {"start_frame": 29}
    assert len(read_clips(write_lines(tmp_path / "m.jsonl", CLIP, later))) == 2


@pytest.mark.parametrize(
    ("read", "line", "change", "message"),
    [
        (read_pairs, PAIR, {"licence": ""}, "licence"),
        (read_pairs, PAIR, {"paper_set": "D"}, "A, B, C"),
        (read_pairs, PAIR, {"paper_set": "A"}, "A with 1 references.*A and B have none"),
        (read_pairs, PAIR, {"references": []}, "C with 0 references"),
        (read_pairs, PAIR, {"references": 3}, "must be a list"),
        (read_pairs, PAIR, {"references": [REFERENCE | {"path": GOOD["path"]}]}, "reference of itself"),
        (read_pairs, PAIR, {"references": [REFERENCE | {"distance": -1}]}, "distance"),
        (read_pairs, PAIR, {"references": [{"path": "a.jpg"}]}, "missing fields"),
        (read_pairs, PAIR, {"caption": "A photo of a woman."}, '"img" after the person word'),
        (read_pairs, PAIR, {"caption": "The img of a tree."}, "names no person"),
        (read_clips, CLIP, {"end_frame": 30}, "below end_frame"),
        (read_clips, CLIP, {"fps": 0}, "fps"),
        (read_clips, CLIP, {"faces": CLIP["faces"][:1]}, "two or more frames"),
        (read_clips, CLIP, {"faces": CLIP["faces"][::-1]}, "in order"),
        (read_clips, CLIP, {"end_frame": 60}, r"lie in frames \[30, 60\)"),
        (read_clips, CLIP, {"fingerprints": ["x"]}, "hexadecimal"),
        (read_clips, CLIP, {"path": "/walk.mp4"}, "below the root"),
    ],
)
def test_wrong_pairs_and_clips_are_refused_with_line_and_remedy(tmp_path, read, line, change, message):
    path = write_lines(tmp_path / "m.jsonl", line | {"path": "first"}, line | change)
    with pytest.raises(ConfigError, match=f"m.jsonl, line 2: .*{message}") as refused:
        read(path)
    assert refused.value.remedy


def test_log_of_work_survives_half_a_line_and_refuses_other_settings(tmp_path):
    path = tmp_path / "log"
    WorkLog(path, {"size": (1, 2)}).add("a", {"kept": 1})
    with path.open("a") as file:
        file.write('{"name": "b", "res')
    log = WorkLog(path, {"size": (1, 2)})
    assert log.results == {"a": {"kept": 1}}
    log.add("b", {"kept": 2})
    assert list(WorkLog(path, {"size": (1, 2)}).results) == ["a", "b"]
    with pytest.raises(ConfigError, match="begun with another size"):
        WorkLog(path, {"size": (1, 3)})
    path.write_text("not a log\n")
    with pytest.raises(ConfigError, match="is not a log of finished work"):
        WorkLog(path, {})
