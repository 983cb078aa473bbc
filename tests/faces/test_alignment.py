"""The head template and the warp to it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from magicmirror.errors import ConfigError
from magicmirror.faces.alignment import (
    align_head,
    eye_centres,
    eye_distance_px,
    head_transform,
    template_eyes_px,
    transform_points,
)


def landmarks_with_eyes(left, right) -> np.ndarray:
    """dlib5 landmarks with the given eye centres; corners lie 5 px beside them, the nose anywhere."""
    (lx, ly), (rx, ry) = left, right
    return np.array([[rx + 5, ry], [rx - 5, ry], [lx - 5, ly], [lx + 5, ly], [lx, ly + 30]], dtype=np.float32)


def test_eye_centres_are_the_means_of_the_corners() -> None:
    landmarks = landmarks_with_eyes((40, 50), (90, 60))
    left, right = eye_centres(landmarks, "dlib5")
    assert left.tolist() == [40, 50]
    assert right.tolist() == [90, 60]
    assert eye_distance_px(landmarks, "dlib5") == pytest.approx(np.hypot(50, 10))


def test_arcface_eyes_are_the_first_two_points() -> None:
    points = np.array([[10, 20], [30, 22], [20, 30], [12, 40], [28, 40]], dtype=np.float32)
    left, right = eye_centres(points, "arcface5")
    assert left.tolist() == [10, 20]
    assert right.tolist() == [30, 22]


@pytest.mark.parametrize("side", [64, 128, 480])
def test_template_is_the_documented_one(side: int) -> None:
    left, right = template_eyes_px(side)
    # Index i is the centre of pixel i, so half a px lies between an index and its position on the side.
    assert (right[0] - left[0]) / side == pytest.approx(0.27)
    assert left[1] == right[1]
    assert (left[1] + 0.5) / side == pytest.approx(0.45)
    assert ((left[0] + right[0]) / 2 + 0.5) / side == pytest.approx(0.5)


def test_transform_is_a_similarity_that_puts_the_eyes_on_the_template() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        landmarks = rng.uniform(0, 500, (5, 2)).astype(np.float32)
        matrix = head_transform(landmarks, "dlib5", 128)
        moved = transform_points(matrix, np.stack(eye_centres(landmarks, "dlib5")))
        np.testing.assert_allclose(moved, np.stack(template_eyes_px(128)), atol=2e-2)
        linear = matrix[:, :2].astype(np.float64)
        scale = np.sqrt(np.linalg.det(linear))
        np.testing.assert_allclose(linear @ linear.T, np.eye(2) * scale**2, rtol=1e-4, atol=1e-6)


def test_coinciding_eyes_are_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to align"):
        head_transform(landmarks_with_eyes((50, 50), (50, 50)), "dlib5", 128)


@pytest.mark.parametrize(("size", "left", "right"), [(2400, (900, 1100), (1500, 1220)), (90, (30, 40), (52, 37))])
def test_painted_eyes_arrive_on_the_template(size: int, left, right) -> None:
    """Also through the area reduction that large photos take first."""
    photo = np.zeros((size, size + 7, 3), dtype=np.uint8)
    radius = max(2, round(np.hypot(right[0] - left[0], right[1] - left[1]) / 8))
    for channel, centre in enumerate((left, right)):
        layer = np.zeros(photo.shape[:2], dtype=np.uint8)
        photo[:, :, channel] = cv2.circle(layer, centre, radius, 255, -1)
    crop = align_head(photo, landmarks_with_eyes(left, right), "dlib5", 128).astype(np.float64)
    assert crop.shape == (128, 128, 3)
    rows, columns = np.mgrid[:128, :128]
    for channel, expected in enumerate(template_eyes_px(128)):
        weight = crop[:, :, channel]
        centroid = (np.sum(columns * weight) / weight.sum(), np.sum(rows * weight) / weight.sum())
        np.testing.assert_allclose(centroid, expected, atol=0.25)


def test_a_mirrored_photo_gives_the_mirrored_crop() -> None:
    photo = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (300, 280, 3), dtype=np.uint8), (0, 0), 4)
    crop = align_head(photo, landmarks_with_eyes((100, 140), (170, 150)), "dlib5", 128)
    mirrored_points = landmarks_with_eyes((279 - 170, 150), (279 - 100, 140))
    mirrored = align_head(np.ascontiguousarray(photo[:, ::-1]), mirrored_points, "dlib5", 128)
    assert np.abs(mirrored[:, ::-1].astype(int) - crop).max() <= 2


def test_outside_the_photo_is_mirrored_without_the_edge_pixel() -> None:
    photo = np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    left, right = template_eyes_px(100)
    # Eyes where a pure shift by (20, 30) px takes them to the template.
    points = landmarks_with_eyes(left - np.float32([20, 30]), right - np.float32([20, 30]))
    expected = np.pad(photo, ((30, 30), (20, 30), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(align_head(photo, points, "dlib5", 100), expected)


def test_example_faces_have_their_eyes_on_the_template(examples, face_analyzer, example_references) -> None:
    for reference in example_references.values():
        (again,) = face_analyzer.analyze(reference.crop)
        found = np.stack(eye_centres(again.landmarks, "dlib5"))
        np.testing.assert_allclose(found, np.stack(template_eyes_px(128)), atol=2.5)
