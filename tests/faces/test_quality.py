"""The quality report: each way to spoil a photo fails its own check, good portraits pass, remedies are plain."""

from __future__ import annotations

import time
from typing import get_args

import cv2
import numpy as np
import pytest

from magicmirror.faces.alignment import align_head
from magicmirror.faces.head_pose import HeadPose, project_head
from magicmirror.faces.quality import (
    MIN_QUALITY,
    eye_brightness,
    face_quality,
    outside_share,
    quality_report,
    sharpness,
)
from magicmirror.media import load_image
from magicmirror.types import QualityCheck, QualityName

NAMES = ("woman_1", "woman_2", "woman_3", "man_1", "man_2", "man_3", "older_man_1", "older_woman_1")


@pytest.fixture(scope="module")
def photos(examples):
    """Name -> photo."""
    return {name: load_image(examples / f"{name}.jpg") for name in NAMES}


def report(photo, landmarks):
    checks = quality_report(photo, align_head(photo, landmarks, "dlib5"), landmarks, "dlib5")
    return {check.name: check for check in checks}


def failed(photo, landmarks):
    return {name for name, check in report(photo, landmarks).items() if not check.passed}


def resized(photo, landmarks, ratio):
    """The photo at another size, and where its landmarks are then."""
    small = cv2.resize(photo, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    ratios = np.float32([small.shape[1] / photo.shape[1], small.shape[0] / photo.shape[0]])
    return small, ((landmarks + 0.5) * ratios - 0.5).astype(np.float32)


def exposed(photo, stops):
    linear = (photo / 255.0) ** 2.2 * 2.0**stops
    return np.round(255 * np.clip(linear, 0, 1) ** (1 / 2.2)).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_good_portraits_pass_every_check(name, example_references) -> None:
    face = example_references[name]
    assert tuple(check.name for check in face.checks) == get_args(QualityName)
    assert [check.name for check in face.checks if not check.passed] == []
    assert all(check.remedy == "" for check in face.checks)
    assert face.quality == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_a_blurred_photo_fails_sharpness_only(name, photos, example_references) -> None:
    landmarks = example_references[name].landmarks
    blurred = cv2.GaussianBlur(photos[name], (0, 0), 3.0)
    assert failed(blurred, landmarks) == {"sharpness"}


def test_a_shaken_camera_is_noticed_in_either_direction(photos, example_references) -> None:
    for name in NAMES:
        for shape in ((1, 15), (15, 1)):
            smeared = cv2.blur(photos[name], shape[::-1])
            assert failed(smeared, example_references[name].landmarks) == {"sharpness"}, (name, shape)


def test_a_shrunk_photo_fails_size_and_an_enlarged_one_sharpness(photos, example_references) -> None:
    for name in NAMES:
        landmarks = example_references[name].landmarks
        small, points = resized(photos[name], landmarks, 0.2)
        found = report(small, points)
        assert not found["size"].passed
        assert found["size"].value == pytest.approx(0.2 * report(photos[name], landmarks)["size"].value, rel=0.02)
        large = cv2.resize(small, photos[name].shape[1::-1], interpolation=cv2.INTER_CUBIC)
        assert failed(large, landmarks) == {"sharpness"}


def test_sharpness_does_not_depend_on_contrast_noise_or_size(photos, example_references) -> None:
    rng = np.random.default_rng(0)
    for name in NAMES[:4]:
        landmarks = example_references[name].landmarks
        value = report(photos[name], landmarks)["sharpness"].value
        noisy = np.clip(photos[name] + rng.normal(0, 16, photos[name].shape), 0, 255).astype(np.uint8)
        assert report(noisy, landmarks)["sharpness"].value == pytest.approx(value, rel=0.1)
        assert report(exposed(photos[name], -3), landmarks)["sharpness"].value == pytest.approx(value, rel=0.05)
        twice = cv2.resize(photos[name], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        points = ((landmarks + 0.5) * 2 - 0.5).astype(np.float32)
        # Enlarging and reducing soften a little by themselves.
        assert report(twice, points)["sharpness"].value == pytest.approx(value, rel=0.25)


@pytest.mark.parametrize("name", NAMES)
def test_dark_and_faded_photos_fail_exposure_only(name, photos, example_references) -> None:
    landmarks = example_references[name].landmarks
    assert failed(exposed(photos[name], -2), landmarks) == set()
    dark = report(exposed(photos[name], -5.5), landmarks)
    assert [check.name for check in dark.values() if not check.passed] == ["exposure"]
    assert "dark" in dark["exposure"].remedy
    faded = report(np.round(180 + (photos[name] - 180.0) * 0.15).astype(np.uint8), landmarks)
    assert [check.name for check in faded.values() if not check.passed] == ["exposure"]
    assert "contrast" in faded["exposure"].remedy


def test_burnt_out_faces_fail_highlights(photos, example_references) -> None:
    for name in NAMES:
        found = report(exposed(photos[name], 4), example_references[name].landmarks)
        assert not found["highlights"].passed and found["highlights"].value > 0.4, name


@pytest.mark.parametrize("degrees", [20.0, -20.0])
def test_a_tilted_photo_has_its_roll_measured(degrees, photos, example_references, face_analyzer) -> None:
    photo, face = photos["woman_1"], example_references["woman_1"]
    height, width = photo.shape[:2]
    # OpenCV turns counter-clockwise for positive angles.
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1.0)
    turned = cv2.warpAffine(photo, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    (found,) = face_analyzer.analyze(turned)
    before, after = (next(c.value for c in f.checks if c.name == "roll") for f in (face, found))
    assert after - before == pytest.approx(degrees, abs=2.0)


def test_an_upside_down_head_fails_roll(photos, example_references) -> None:
    photo = np.ascontiguousarray(photos["man_1"][::-1, ::-1])
    size = np.float32(photo.shape[1::-1])
    assert failed(photo, (size - 1 - example_references["man_1"].landmarks).astype(np.float32)) == {"roll"}


def test_the_share_outside_the_photo_is_exact(photos, example_references) -> None:
    # Eyes 27 px apart make a square of 100 px, with the middle of the eyes at (50, 45) in it.
    eyes = np.float32([[110, 95], [117, 95], [90, 95], [83, 95], [100, 110]])
    assert outside_share(np.zeros((200, 200, 3), np.uint8), eyes, "dlib5") == pytest.approx(0.0, abs=1e-3)
    for left in (10, 30, 50):
        # Pixel edges: the square reaches from 50.5 to 150.5 across.
        cut = np.zeros((200, 200 - 50 - left, 3), np.uint8)
        moved = eyes - np.float32([50 + left, 0])
        assert outside_share(cut, moved, "dlib5") == pytest.approx((left - 0.5) / 100, abs=2e-3)


def test_a_head_that_is_cut_off_fails_border_only(photos, example_references) -> None:
    photo, face = photos["man_2"], example_references["man_2"]
    cut = round(float(face.landmarks[:4, 0].mean()) - 40)
    assert failed(np.ascontiguousarray(photo[:, cut:]), face.landmarks - np.float32([cut, 0])) == {"border"}


def test_dark_glasses_fail_eyes_and_clear_ones_do_not(photos, example_references) -> None:
    for name in NAMES:
        photo, face = photos[name], example_references[name]
        right, left = (face.landmarks[pair].mean(axis=0) for pair in ([0, 1], [2, 3]))
        radius = round(0.36 * float(np.hypot(*(right - left))))
        worn, clear = photo.copy(), photo.copy()
        for eye in (left, right):
            cv2.circle(worn, tuple(round(v) for v in eye.tolist()), radius, (30, 28, 26), -1, cv2.LINE_AA)
            cv2.circle(clear, tuple(round(v) for v in eye.tolist()), radius, (30, 28, 26), 2, cv2.LINE_AA)
        assert "eyes" in failed(worn, face.landmarks), name
        assert "eyes" not in failed(clear, face.landmarks), name


def test_eye_brightness_is_a_ratio(example_references) -> None:
    grey = cv2.cvtColor(example_references["man_2"].crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    assert eye_brightness(grey * 0.4) == pytest.approx(eye_brightness(grey), rel=1e-3)


def test_flat_pictures_give_finite_numbers() -> None:
    for level in (0, 128, 255):
        photo = np.full((200, 200, 3), level, np.uint8)
        landmarks = np.float32([[117, 95], [110, 95], [83, 95], [90, 95], [100, 113]])
        checks = quality_report(photo, align_head(photo, landmarks, "dlib5"), landmarks, "dlib5")
        assert all(np.isfinite(check.value) for check in checks)
        assert {"sharpness", "exposure"} <= {check.name for check in checks if not check.passed}
        assert face_quality(checks) == MIN_QUALITY
    assert sharpness(np.zeros((128, 128), np.float32)) == 0.0


def test_crops_of_any_size_give_one_report(photos, example_references) -> None:
    photo, landmarks = photos["woman_3"], example_references["woman_3"].landmarks
    reports = [
        quality_report(photo, align_head(photo, landmarks, "dlib5", s), landmarks, "dlib5") for s in (64, 128, 224)
    ]
    assert reports[0] == reports[1] == reports[2]


def test_weight_follows_from_the_worst_check() -> None:
    def check(name, value, limit, passed):
        return QualityCheck(name, value, limit, "", passed)

    good = check("yaw", 3.0, 25.0, True)
    assert face_quality([good]) == 1.0
    assert face_quality([]) == 1.0
    assert face_quality([good, check("size", 9.0, 18.0, False)]) == pytest.approx(0.5)
    assert face_quality([check("yaw", -50.0, 25.0, False), check("size", 9.0, 12.0, False)]) == pytest.approx(0.5)
    assert face_quality([check("sharpness", 0.0, 0.8, False)]) == MIN_QUALITY


@pytest.mark.parametrize(
    ("pose", "dlib", "arcface"),
    [
        (HeadPose(0, 0, 0), set(), set()),
        (HeadPose(24, 0, 0), set(), set()),
        (HeadPose(-33, 0, 0), {"yaw"}, {"yaw"}),
        (HeadPose(0, 25, 0), {"pitch"}, {"pitch"}),
        (HeadPose(0, -30, 0), set(), {"pitch"}),  # dlib's points cannot tell
        (HeadPose(0, 0, -60), {"roll"}, {"roll"}),
    ],
    ids=str,
)
def test_both_landmark_schemes_judge_the_pose(pose, dlib, arcface) -> None:
    photo = np.full((300, 300, 3), 128, np.uint8)
    for scheme, expected in (("dlib5", dlib), ("arcface5", arcface)):
        landmarks = project_head(scheme, pose, 50) + np.float32([150, 140])
        checks = quality_report(photo, align_head(photo, landmarks, scheme), landmarks, scheme)
        bad = {check.name for check in checks if not check.passed}
        assert bad & {"yaw", "pitch", "roll"} == expected, scheme


def test_every_remedy_says_what_is_wrong_and_what_to_do(photos, example_references) -> None:
    landmarks = example_references["man_3"].landmarks
    spoilt = cv2.GaussianBlur(exposed(photos["man_3"], -6), (0, 0), 4)
    for check in report(spoilt, landmarks).values():
        assert bool(check.remedy) != check.passed
        if check.remedy:
            assert check.remedy.count(".") == 2 and check.remedy.endswith(".")


def test_the_report_is_quick(photos, example_references) -> None:
    face, photo = example_references["woman_1"], photos["woman_1"]
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        quality_report(photo, face.crop, face.landmarks, "dlib5")
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.005
