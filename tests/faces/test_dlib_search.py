"""The search for faces: small, turned, sideways-looking, crowded pictures, and pictures of nobody."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from magicmirror.faces.dlib_search import DlibFaceSearch, detection_scales
from magicmirror.faces.selection import choose_face
from magicmirror.media import load_image
from magicmirror.types import FaceBox


@pytest.fixture(scope="module")
def search() -> DlibFaceSearch:
    """One search for all tests of the file."""
    return DlibFaceSearch()


def on_grey(photo: np.ndarray, side: int, canvas: int) -> np.ndarray:
    """The photo at ``side`` px in the middle of a grey square."""
    picture = np.full((canvas, canvas, 3), 128, np.uint8)
    start = (canvas - side) // 2
    picture[start : start + side, start : start + side] = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
    return picture


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_photo_gives_the_same_face(quarters, examples, face_analyzer, example_references) -> None:
    photo = load_image(examples / "woman_2.jpg")
    upright = example_references["woman_2"]
    turned = np.rot90(photo, quarters)
    (found,) = face_analyzer.analyze(turned)
    # np.rot90 moves the pixel at (x, y) here:
    side = photo.shape[0] - 1
    x, y = upright.landmarks.T
    expected = {1: (y, side - x), 2: (side - x, side - y), 3: (side - y, x)}[quarters]
    np.testing.assert_allclose(found.landmarks, np.stack(expected, axis=1), atol=2.0)
    assert np.linalg.norm(found.embedding - upright.embedding) < 0.2
    assert np.abs(found.crop.astype(int) - upright.crop).mean() < 8.0  # the crop is upright
    assert found.box.left < found.landmarks[:, 0].min() < found.landmarks[:, 0].max() < found.box.right
    assert found.box.top < found.landmarks[:, 1].min() < found.landmarks[:, 1].max() < found.box.bottom


def test_frames_are_not_searched_turned(examples, face_analyzer) -> None:
    on_its_side = np.rot90(load_image(examples / "woman_2.jpg"))
    assert face_analyzer.analyze(on_its_side, thorough=False) == ()


def test_a_tiny_face_is_found_in_the_thorough_search_only(examples, search) -> None:
    picture = on_grey(load_image(examples / "man_1.jpg"), 36, 512)  # the face is about 22 px
    assert search.find(picture, thorough=False) == []
    (found,) = search.find(picture)
    assert 16 < found.box.width < 28
    assert abs(found.landmarks.mean() - 256) < 16


def test_a_smaller_neighbour_is_not_missed(examples, search) -> None:
    """The large face is found at once; the other, half its area and below the detector's 80 px, must be too."""
    first, second = (load_image(examples / f"{name}.jpg") for name in ("man_1", "woman_1"))
    picture = np.full((256, 400, 3), 128, np.uint8)
    picture[50:170, 20:140] = cv2.resize(first, (120, 120), interpolation=cv2.INTER_AREA)
    picture[70:154, 230:314] = cv2.resize(second, (84, 84), interpolation=cv2.INTER_AREA)
    assert len(search.find(picture, thorough=False)) == 1
    found = sorted(search.find(picture), key=lambda face: face.box.left)
    assert len(found) == 2
    assert 20 < found[0].landmarks[:, 0].mean() < 140 < 230 < found[1].landmarks[:, 0].mean() < 314


def test_a_profile_is_found_by_the_slow_detector(search) -> None:
    from skimage.data import camera

    profile = np.repeat(camera()[..., None], 3, axis=2)  # a man at a camera, seen from the side
    (found,) = search.find(profile[:400])
    assert 170 < found.box.left < found.box.right < 320


@pytest.mark.parametrize("name", ["coffee", "chelsea", "gravel", "text", "hubble_deep_field", "colorwheel"])
def test_pictures_of_nobody_have_no_face(name: str, search) -> None:
    import skimage.data

    picture = getattr(skimage.data, name)()
    picture = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture[..., :3]
    assert search.find(np.ascontiguousarray(picture)) == []


def test_ten_people_are_ten_faces(examples, face_analyzer) -> None:
    names = ["man_1", "man_2", "man_3", "woman_1", "woman_2", "woman_3", "older_man_1", "older_woman_1"]
    photos = [cv2.resize(load_image(examples / f"{name}.jpg"), (256, 256)) for name in (*names, "man_1", "woman_1")]
    rows = [np.concatenate(photos[start : start + 5], axis=1) for start in (0, 5)]
    faces = face_analyzer.analyze(np.concatenate(rows, axis=0))
    assert len(faces) == 10
    assert [face.box.area for face in faces] == sorted((face.box.area for face in faces), reverse=True)
    cells = {(int(face.landmarks[:, 1].mean()) // 256, int(face.landmarks[:, 0].mean()) // 256) for face in faces}
    assert len(cells) == 10


def test_a_dominant_face_needs_no_choice(examples, face_analyzer) -> None:
    photo = cv2.resize(load_image(examples / "woman_1.jpg"), (512, 512))
    photo[400:496, 8:104] = cv2.resize(load_image(examples / "man_2.jpg"), (96, 96), interpolation=cv2.INTER_AREA)
    faces = face_analyzer.analyze(photo)
    assert choose_face(faces) is faces[0]
    assert faces[0].box.width > 200


@pytest.mark.parametrize(
    ("height", "width", "upsample", "expected"),
    [
        (128, 128, 0, (2.0,)),
        (128, 128, 1, (2.0, 4.0)),
        (256, 512, 1, (1.0, 2.0)),
        (512, 512, 2, (1.0, 2.0, 4.0)),
        (4000, 3000, 2, (0.32, 0.64)),
        (2560, 100, 1, (0.5, 1.0)),
    ],
)
def test_scales_of_the_search(height: int, width: int, upsample: int, expected) -> None:
    assert detection_scales(height, width, upsample) == pytest.approx(expected)


def test_boxes_of_a_turned_search_lie_inside_the_photo(examples, search) -> None:
    wide = np.full((256, 400, 3), 128, np.uint8)
    wide[:, 72:328] = cv2.resize(load_image(examples / "man_3.jpg"), (256, 256))
    for quarters in (0, 1, 2, 3):
        picture = np.rot90(wide, quarters).copy()
        (found,) = search.find(picture)
        height, width = picture.shape[:2]
        centre = ((found.box.left + found.box.right) / 2, (found.box.top + found.box.bottom) / 2)
        assert isinstance(found.box, FaceBox)
        assert abs(centre[0] - width / 2) < 40
        assert abs(centre[1] - height / 2) < 40


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (8, 512), (512, 8)])
def test_a_very_thin_picture_is_searched_without_harm(search, shape: tuple[int, int]) -> None:
    """dlib's convolutional detector raises on some of these sizes and writes beyond its buffers on others."""
    assert search.find(np.zeros((*shape, 3), np.uint8)) == []
