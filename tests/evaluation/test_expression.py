import cv2
import numpy as np
import pytest

from magicmirror.evaluation.expression import (
    aligned_heads,
    blink,
    dark_opening,
    flow_from_start,
    mouth_change,
    repeated_opening,
)
from magicmirror.evaluation.face_track import FaceTrack
from magicmirror.faces.alignment import EYE_DISTANCE, head_transform, transform_points

SIDE = 128


@pytest.fixture(scope="module")
def head(example_references):
    """Grey aligned head of an example, and the middle of its mouth in sides of the crop."""
    reference = example_references["woman_1"]
    points = transform_points(head_transform(reference.landmarks, "dlib5", SIDE), reference.landmarks)
    nose = (points[4] + 0.5) / SIDE
    mouth = np.array([0.5, 0.45]) + 1.55 * (nose - np.array([0.5, 0.45]))
    return cv2.cvtColor(reference.crop, cv2.COLOR_RGB2GRAY), mouth.astype(np.float32)


def pushed(head, points, moves, width=0.065):
    """Move the picture about points (x, y) by (dx, dy), all in sides of the crop, rigidly near each point."""
    y, x = np.indices(head.shape, dtype=np.float32)
    source_x, source_y = x.copy(), y.copy()
    for (at_x, at_y), (dx, dy) in zip(points, moves, strict=True):
        bell = np.exp(-((((x + 0.5) / SIDE - at_x) ** 2 + ((y + 0.5) / SIDE - at_y) ** 2) ** 2) / width**4)
        source_x -= (bell * dx * SIDE).astype(np.float32)
        source_y -= (bell * dy * SIDE).astype(np.float32)
    return cv2.remap(head, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def clip(head, extents, points, moves):
    return np.stack([pushed(head, points, np.multiply(moves, extent)) for extent in extents])


def test_identical_heads_have_no_expression(head):
    still = np.stack([head[0]] * 7)
    flow = flow_from_start(still)
    assert blink(flow) == pytest.approx(0, abs=1e-3)
    assert mouth_change(flow, head[1]) == (pytest.approx(0, abs=1e-3), pytest.approx(0, abs=1e-3))


def test_lids_that_come_down_and_go_up_again_are_a_blink(head):
    lids = [(0.365, 0.42), (0.635, 0.42)]
    down = [(0.0, 0.03), (0.0, 0.03)]
    there_and_back = blink(flow_from_start(clip(head[0], (0, 0, 0.5, 1, 1, 1, 0.5, 0, 0), lids, down)))
    assert there_and_back == pytest.approx(0.03 / EYE_DISTANCE, rel=0.4)
    staying = blink(flow_from_start(clip(head[0], (0, 0, 0.5, 1, 1, 1, 1, 1, 1), lids, down)))
    assert staying < 0.2 * there_and_back
    brows = blink(flow_from_start(clip(head[0], (0, 0, 0.5, 1, 1, 1, 0.5, 0, 0), lids, np.negative(down))))
    assert brows <= 0.005


def test_corners_that_part_and_rise_are_a_smile(head):
    grey, (x, y) = head
    corners = [(x - 0.105, y), (x + 0.105, y)]
    extents = (0, 0, 0.5, 1, 1, 1, 1)
    smile, opening = mouth_change(
        flow_from_start(clip(grey, extents, corners, [(-0.02, -0.02), (0.02, -0.02)])), head[1]
    )
    assert smile == pytest.approx(0.06 / EYE_DISTANCE, rel=0.4)
    assert abs(opening) < 0.03
    frown, _ = mouth_change(flow_from_start(clip(grey, extents, corners, [(0.02, 0.02), (-0.02, 0.02)])), head[1])
    assert frown < -0.1


def test_a_lip_that_leaves_the_other_is_an_open_mouth(head):
    grey, (x, y) = head
    extents = (0, 0, 0.5, 1, 1, 1, 1)
    moves = clip(grey, extents, [(x, y + 0.06)], [(0.0, 0.04)])
    smile, opening = mouth_change(flow_from_start(moves), head[1])
    assert opening > 0.06
    assert abs(smile) < 0.06
    assert mouth_change(flow_from_start(moves[::-1]), head[1])[1] < -0.03


def test_a_lip_that_goes_and_comes_back_twice_talks(head):
    grey, (x, y) = head

    def talk(*extents):
        return repeated_opening(flow_from_start(clip(grey, extents, [(x, y + 0.06)], [(0.0, 0.04)])), head[1])

    assert talk(0, 0.5, 1, 0.5, 0, 0.5, 1, 0.5, 0) > 0.06
    assert talk(0, 0, 0.5, 1, 1, 1, 1, 1, 1) < 0.01
    assert talk(0, 0, 0.5, 1, 1, 1, 0.5, 0, 0) < 0.01


def test_heads_of_a_moving_face_are_aligned(example_references):
    reference = example_references["man_1"]
    points = transform_points(head_transform(reference.landmarks, "dlib5", SIDE), reference.landmarks)
    shift = np.float32([[1, 0, 9], [0, 1, -4]])
    moved = cv2.warpAffine(reference.crop, shift, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101)
    frames = np.stack([reference.crop] * 3 + [moved] * 3)
    landmarks = np.stack([points] * 3 + [points + np.float32([9, -4])] * 3)
    # Landmarks are smoothed over three frames, so the jump itself is blurred; two frames on nothing is left of it.
    heads, mouth = aligned_heads(frames, FaceTrack(landmarks, np.zeros((6, 4), np.float32), "dlib5"))
    assert heads.shape == (6, SIDE, SIDE)
    inner = (slice(24, -24), slice(24, -24))
    assert np.abs(heads[0][inner].astype(int) - heads[5][inner]).mean() < 3
    assert mouth[0] == pytest.approx(0.5, abs=0.05) and 0.65 < mouth[1] < 0.85


def test_dark_opening_is_the_height_of_the_dark_inside_against_the_start():
    """A skin of 180 with a dark rectangle of 0, 4 and 8 rows at the mouth of a head of 128 px."""
    heads = np.full((3, 128, 128), 180, dtype=np.uint8)
    for frame, rows in enumerate((0, 4, 8)):
        heads[frame, 90 : 90 + rows, 50:78] = 30
    dark = dark_opening(heads, np.array([0.5, 0.7], dtype=np.float32))
    np.testing.assert_allclose(dark, np.array([0, 4, 8]) / 128 / 0.27, atol=1e-6)
    # A night over all of it opens no mouth.
    night = (np.full((2, 128, 128), 180) * np.array([1.0, 0.2])[:, None, None]).astype(np.uint8)
    np.testing.assert_allclose(dark_opening(night, np.array([0.5, 0.7], dtype=np.float32)), 0.0)
