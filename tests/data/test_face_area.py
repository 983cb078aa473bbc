"""Where the face area lies: against an ellipse drawn by OpenCV, on real faces, and in shards."""

import json

import cv2
import numpy as np
import pytest
import torch

from magicmirror.data.dataset import LatentDataset
from magicmirror.data.face_area import (
    eyes_between,
    eyes_in_window,
    latent_face_areas,
    template_area,
)
from magicmirror.data.framing import frame_window, head_window
from magicmirror.data.shard_files import shard_path
from magicmirror.errors import ConfigError
from tests.tiny_training import write_shards

# As ``dlib5``: corners of the eye on the right, of the eye on the left, nose.
UPRIGHT = np.array([[90, 60], [80, 60], [40, 60], [50, 60], [65, 80]], dtype=np.float32)


def drawn(centre, radii, degrees, height, width):
    """The same ellipse by OpenCV, at eight times the size to come near to cells' centres."""
    canvas = np.zeros((height * 8, width * 8), np.uint8)
    scaled = tuple(round(value * height * 8) for value in (*centre, *radii))
    cv2.ellipse(canvas, scaled[:2], scaled[2:], degrees, 0, 360, 1, -1)
    return torch.from_numpy(canvas[4::8, 4::8]).float()


@pytest.mark.parametrize(("degrees", "size"), [(0, 0.2), (25, 0.2), (-40, 0.1), (90, 0.3)])
def test_it_is_an_ellipse_that_turns_and_grows_with_the_eyes(degrees, size):
    """``size`` is that of the head's window, ``middle`` between the eyes, 0.09 windows above that of the ellipse."""
    height, width, middle = 240, 360, np.array([0.8, 0.45])
    along = size * 0.27 / 2 * np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    down = size * 0.09 * np.array([-np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])
    eyes = np.array([[*(middle - along), *(middle + along)]], np.float32)
    area = latent_face_areas(eyes, 1, height, width)[0]
    expected = drawn(middle + down, (0.34 * size, 0.36 * size), degrees, height, width)
    assert expected.sum() > 200
    assert (area != expected).sum() <= 0.05 * expected.sum()


def test_a_head_in_its_window_has_the_template_area():
    eyes = eyes_in_window(UPRIGHT, head_window(UPRIGHT))
    assert eyes == pytest.approx((0.365, 0.45, 0.635, 0.45), abs=1e-4)
    area = latent_face_areas(np.array([eyes]), 1, 16, 16)
    assert torch.equal(area, template_area(1, 16, 16))
    # A wide frame shows the window in its middle.
    inside = UPRIGHT + 200
    wide = frame_window(head_window(inside), (400, 600), (32, 48), "head")
    moved = eyes_in_window(inside, wide)
    assert torch.equal(latent_face_areas(np.array([moved]), 1, 16, 24), template_area(1, 16, 24))
    assert torch.equal(template_area(1, 16, 24)[0, :, 4:20], template_area(1, 16, 16)[0])


def test_a_real_face_anywhere_in_the_picture_is_covered(portraits):
    """The whole photo of a person in a wide frame: eyes and nose are in, corners and the other half are not."""
    for picture, landmarks in portraits.values():
        height, width = picture.shape[:2]
        wide = (landmarks + np.array([width, 0])).astype(np.float32), (0.0, 0.0, 2.0 * width, float(height))
        area = latent_face_areas(np.array([eyes_in_window(*wide)]), 1, 60, round(120 * width / height))[0]
        cells = np.floor((wide[0] + 0.5) * 60 / height).astype(int)
        assert all(area[y, x] == 1 for x, y in cells)
        assert area[:, : area.shape[1] // 2 - 8].sum() == 0 and area[0, -1] == 0
        assert 0.01 < area.mean() < 0.4


def test_a_latent_frame_sees_all_of_its_pixel_frames():
    path = np.linspace(0.2, 0.8, 9)
    eyes = np.stack([path - 0.03, np.full(9, 0.5), path + 0.03, np.full(9, 0.5)], axis=1)
    areas = latent_face_areas(eyes, 3, 24, 24)
    each = [latent_face_areas(eyes[n : n + 1], 1, 24, 24)[0] for n in range(9)]
    assert torch.equal(areas[0], each[0])
    assert torch.equal(areas[1], torch.stack(each[1:5]).amax(0))
    assert torch.equal(areas[2], torch.stack(each[5:]).amax(0))
    assert areas[1].sum() > 1.5 * each[2].sum()


def test_eyes_move_on_straight_lines_between_the_frames_in_which_they_were_found():
    known = [(10, (0.1, 0.2, 0.3, 0.2)), (20, (0.3, 0.2, 0.5, 0.4))]
    found = eyes_between(known, [5, 10, 15, 20, 30])
    assert found[0] == found[1] == known[0][1] and found[3] == found[4] == known[1][1]
    assert found[2] == pytest.approx((0.2, 0.2, 0.4, 0.3))
    assert eyes_between(known[:1], [1, 2]) == [known[0][1]] * 2


def rewritten(folder, change):
    """A shard whose every line was changed."""
    path = shard_path(folder, 0).with_suffix(".jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(change(line)) + "\n" for line in lines))
    return folder


def test_a_data_set_gives_the_area_of_its_lines_and_otherwise_the_template(tmp_path):
    eyes = [0.1, 0.2, 0.2, 0.2]
    told = rewritten(
        write_shards(tmp_path / "told"),
        lambda line: line | {"eyes": [eyes] * (9 if line["kind"] == "clip" else 1)},
    )
    clips = LatentDataset([told, write_shards(tmp_path / "untold")], "clip")
    first, last = clips[0], clips[len(clips) - 1]
    assert torch.equal(first["face_area"], latent_face_areas(np.array([eyes] * 9), 3, 4, 4))
    assert torch.equal(last["face_area"], template_area(3, 4, 4))
    assert not torch.equal(first["face_area"], last["face_area"])


@pytest.mark.parametrize(
    ("eyes", "reason"),
    [
        ([[0.1, 0.2, 0.3]], "damaged"),
        ([[0.1, 0.2, 0.1, 0.2]], "damaged"),
        ([[0.1, 0.2, "x", 0.2]], "damaged"),
        ([[0.1, 0.2, float("nan"), 0.2]], "damaged"),
        ([0.1, 0.2, 0.3, 0.2], "damaged"),
        ([[0.1, 0.2, 0.3, 0.2]] * 8, "other frames than it has"),
        ([[0.1, 0.2, 0.3, 0.2]], "other frames than it has"),
    ],
)
def test_eyes_that_cannot_be_right_are_refused(tmp_path, eyes, reason):
    folder = rewritten(write_shards(tmp_path / "shards"), lambda line: line | {"eyes": eyes})
    with pytest.raises(ConfigError, match=reason):
        LatentDataset([folder], "clip")
