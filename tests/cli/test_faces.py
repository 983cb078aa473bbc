"""``faces``: what is printed and written for photos with one, two and no faces."""

from __future__ import annotations

import json

import numpy as np

from magicmirror.media import load_image, write_image
from tests.hard_pictures import hard_picture


def test_faces_of_a_group_as_json_with_crops(command, examples, tmp_path, example_references):
    done = command("faces", examples / "two_people.jpg", "--json", "--crops", tmp_path / "crops")
    assert done.returncode == 0 and done.stderr == ""
    record = json.loads(done.stdout)
    assert record["chosen"] is None and "comparable size" in record["problem"]
    rows = record["faces"]
    assert [row["index"] for row in rows] == [0, 1]
    areas = [(row["box_px"][2] - row["box_px"][0]) * (row["box_px"][3] - row["box_px"][1]) for row in rows]
    assert areas == sorted(areas, reverse=True)
    crops = [load_image(row["crop"]).astype(int) for row in rows]
    people = [example_references[name].crop.astype(int) for name in ("woman_2", "man_2")]
    apart = [[float(np.abs(crop - person).mean()) for person in people] for crop in crops]
    assert sorted(row.index(min(row)) for row in apart) == [0, 1]  # each crop is one of the two


def test_one_good_face_is_one_line(command, examples):
    done = command("faces", examples / "woman_1.jpg")
    assert done.returncode == 0 and done.stdout.startswith("face 0: ") and done.stdout.count("\n") == 1


def test_what_is_wrong_with_a_face_is_said_with_its_number(command, examples, tmp_path):
    tiny = write_image(hard_picture("tiny", examples), tmp_path / "tiny.png")
    first, *notes = command("faces", tiny).stdout.splitlines()
    assert first.startswith("face 0: ")
    (size,) = [note for note in notes if note.startswith("  size ")]
    value, limit = float(size.split()[1]), float(size.split("limit ")[1].split(")")[0])
    assert 2 < value < limit and size.endswith(".")


def test_several_faces_say_that_one_must_be_chosen(command, examples):
    lines = command("faces", examples / "two_people.jpg").stdout.splitlines()
    assert [line[:7] for line in lines if line.startswith("face")] == ["face 0:", "face 1:"]
    assert "comparable size" in lines[-1] and "Choose one" in lines[-1]


def test_no_face_no_picture_no_file(command, tmp_path):
    plain = write_image(np.full((128, 128, 3), 200, np.uint8), tmp_path / "plain.png")
    (tmp_path / "text.jpg").write_text("text")
    for name, reason in ((plain, "No face"), (tmp_path / "text.jpg", "not a picture"), (tmp_path / "none.jpg", "none")):
        done = command("faces", name)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.count("\n") == 1 and reason in done.stderr
