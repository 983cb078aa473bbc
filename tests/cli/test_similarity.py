"""``similarity``: a person against pictures and videos."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from magicmirror.cli.similarity import _is_video
from magicmirror.media import load_image, write_image, write_video
from magicmirror.types import GeneratedVideo


@pytest.fixture
def fading(examples, tmp_path):
    """Six frames: twice woman_1, twice nobody, twice woman_2."""
    one, two = (cv2.resize(load_image(examples / f"{name}.jpg"), (192, 192)) for name in ("woman_1", "woman_2"))
    frames = np.stack([one, one, np.zeros_like(one), np.zeros_like(one), two, two])
    return write_video(GeneratedVideo(frames, 8, {}), tmp_path / "fading.mp4")


def test_every_frame_of_a_video_is_compared(command, examples, fading):
    record = json.loads(command("similarity", examples / "woman_1.jpg", fading, "--json").stdout)
    assert (record["frames"], record["frames_with_a_face"]) == (6, 4)
    first, last = record["likeness"][0], record["likeness"][-1]
    assert first > 0.97 and last < 0.93 and record["likeness"][2:4] == [None, None]
    assert record["distance"][0] < record["same_person_limit"] == 0.6 < record["distance"][-1]
    assert record["mean_likeness"] == pytest.approx(np.mean([x for x in record["likeness"] if x is not None]))
    assert record["mean_distance"] == pytest.approx(np.mean([x for x in record["distance"] if x is not None]))
    assert 0.8 * (first - last) < record["decay"] < 1.5 * (first - last)


def test_the_summary_can_be_read(command, examples, fading):
    lines = command("similarity", examples / "woman_1.jpg", fading, "--every", "2").stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["frame 0", "frame 1", "frame 2"] and len(lines) == 4
    assert lines[1] == "frame 1: no face"
    assert "face in 2 of 3 frames" in lines[3] and "decay" in lines[3]


def test_a_picture_is_one_frame(command, examples):
    same = json.loads(command("similarity", examples / "man_1.jpg", examples / "man_1.jpg", "--json").stdout)
    assert same["likeness"] == [pytest.approx(1.0)] and same["distance"] == [pytest.approx(0.0, abs=1e-6)]
    assert same["level"] == "close" and same["decay"] is None
    other = command("similarity", examples / "man_1.jpg", examples / "woman_2.jpg")
    assert other.stdout.count("\n") == 1 and "hardly any resemblance" in other.stdout


def test_a_choice_between_faces_is_needed_and_taken(command, examples):
    photo, target = examples / "two_people.jpg", examples / "woman_2.jpg"
    undecided = command("similarity", photo, target)
    assert undecided.returncode == 2 and f"{photo}: The photo shows" in undecided.stderr
    assert "--face-index 0 to 1" in undecided.stderr
    likeness = [
        json.loads(command("similarity", photo, target, "--face-index", index, "--json").stdout)["mean_likeness"]
        for index in (0, 1)
    ]
    assert max(likeness) > 0.97 > 0.93 > min(likeness)


def test_the_content_decides_what_is_a_video_and_a_message_says_which_file(command, examples, fading, tmp_path):
    bare, photo = fading.rename(tmp_path / "fading"), tmp_path / "photo.mp4"
    photo.write_bytes((examples / "woman_1.jpg").read_bytes())
    assert json.loads(command("similarity", examples / "woman_1.jpg", bare, "--json").stdout)["frames"] == 6
    assert json.loads(command("similarity", examples / "woman_1.jpg", photo, "--json").stdout)["frames"] == 1
    empty = tmp_path / "empty.jpg"
    empty.write_bytes(b"")
    for arguments in ((empty, photo), (photo, empty)):
        assert f"{empty}: The picture file is empty" in command("similarity", *arguments).stderr


def test_pictures_that_begin_like_an_mp4_are_pictures(tmp_path):
    for brand, expected in ((b"avif", False), (b"heic", False), (b"isom", True)):
        path = tmp_path / brand.decode()
        path.write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0" + brand + b"mif1")
        assert _is_video(path) == expected


def test_what_cannot_be_compared_is_one_line(command, examples, tmp_path):
    plain = write_image(np.full((128, 128, 3), 200, np.uint8), tmp_path / "plain.png")
    (tmp_path / "text.mp4").write_text("text")
    for target, reason in ((plain, "no face"), (tmp_path / "text.mp4", "video"), (tmp_path / "none.mp4", "none.mp4")):
        done = command("similarity", examples / "man_1.jpg", target)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.count("\n") == 1 and reason in done.stderr
