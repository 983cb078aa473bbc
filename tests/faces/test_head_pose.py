"""Pose from five points: exact on the generic head, close on heads turned by known angles, honest where it is blind."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from magicmirror.data.animation import render_clip
from magicmirror.data.motion import ClipSpec, MotionCue
from magicmirror.faces.alignment import eye_centres
from magicmirror.faces.dlib_search import DlibFaceSearch
from magicmirror.faces.head_pose import GENERIC_HEADS, HeadPose, head_pose, project_head
from magicmirror.media import load_image

SCHEMES = sorted(GENERIC_HEADS)


def angles(pose: HeadPose) -> tuple[float, float, float]:
    return pose.yaw, pose.pitch, pose.roll


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "pose",
    [
        HeadPose(0, 0, 0),
        HeadPose(25, 0, 0),
        HeadPose(-40, 0, 0),
        HeadPose(0, 30, 0),
        HeadPose(0, -12, 0),
        HeadPose(0, 0, 170),
        HeadPose(0, 0, -90),
        HeadPose(20, 10, -35),
        HeadPose(-30, -10, 60),
    ],
    ids=str,
)
def test_projected_heads_give_their_angles_back(scheme, pose) -> None:
    for size_px in (7.0, 300.0):
        points = project_head(scheme, pose, size_px) + np.float32([80, 50])
        assert angles(head_pose(points, scheme)) == pytest.approx(angles(pose), abs=0.1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_directions_are_the_viewers(scheme) -> None:
    rest = project_head(scheme, HeadPose(0, 0, 0), 100)
    nose = 4 if scheme == "dlib5" else 2
    assert project_head(scheme, HeadPose(20, 0, 0), 100)[nose, 0] > rest[nose, 0] + 10
    assert project_head(scheme, HeadPose(0, 20, 0), 100)[nose, 1] < rest[nose, 1] - 10
    left, right = eye_centres(project_head(scheme, HeadPose(0, 0, 20), 100), scheme)
    assert left[1] < right[1]  # the head's top moves to +x, so the eye on the right sinks


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mirrored_landmarks_mirror_yaw_and_roll(scheme) -> None:
    points = project_head(scheme, HeadPose(14, 6, 9), 60) + np.float32([90, 90])
    order = [2, 3, 0, 1, 4] if scheme == "dlib5" else [1, 0, 2, 4, 3]
    mirrored = (points * np.float32([-1, 1]) + np.float32([200, 0]))[order]
    assert angles(head_pose(mirrored, scheme)) == pytest.approx((-14, 6, -9), abs=0.1)


def test_arcface_points_show_a_head_that_looks_down() -> None:
    points = project_head("arcface5", HeadPose(0, -35, 0), 100)
    assert head_pose(points, "arcface5").pitch == pytest.approx(-35, abs=0.2)


def test_dlib_points_never_claim_to_see_far_down() -> None:
    # From about 24 degrees on the base of the nose comes back towards the eyes: two poses, one picture.
    for pitch in (-25.0, -35.0, -45.0):
        assert -20.0 <= head_pose(project_head("dlib5", HeadPose(0, pitch, 0), 100), "dlib5").pitch < 0.0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_points_that_are_no_head_still_give_finite_angles(scheme) -> None:
    rng = np.random.default_rng(3)
    for points in [np.zeros((5, 2), dtype=np.float32), *rng.uniform(0, 100, (50, 5, 2)).astype(np.float32)]:
        pose = head_pose(points, scheme)
        assert np.all(np.isfinite(angles(pose)))
        assert abs(pose.yaw) <= 60 and abs(pose.pitch) <= 60 and -180 <= pose.roll <= 180


@pytest.mark.parametrize(
    ("motion", "axis", "degrees", "tolerance"),
    [
        ("turn_left", "yaw", -22.0, 7.0),
        ("turn_right", "yaw", 22.0, 7.0),
        ("look_up", "pitch", 13.0, 6.0),
        ("tilt_right", "roll", 12.0, 2.0),
        ("tilt_left", "roll", -12.0, 2.0),
    ],
)
def test_animated_heads_are_measured(motion, axis, degrees, tolerance, examples, example_references) -> None:
    search = DlibFaceSearch()
    changes = []
    for name in ("woman_1", "man_1", "woman_3"):
        clip = ClipSpec((MotionCue(motion),))
        frames = render_clip(load_image(examples / f"{name}.jpg"), example_references[name].landmarks, clip, 2, 256)
        # The aligned crop is cut close; a margin lets the detector see the whole head.
        padded = [cv2.copyMakeBorder(frames[i], 40, 40, 40, 40, cv2.BORDER_REFLECT_101) for i in (0, -1)]
        rest, turned = (head_pose(search.find(frame, thorough=False)[0].landmarks, "dlib5") for frame in padded)
        changes.append(getattr(turned, axis) - getattr(rest, axis))
    assert np.median(changes) == pytest.approx(degrees, abs=tolerance)
    assert all(np.sign(change) == np.sign(degrees) for change in changes)
