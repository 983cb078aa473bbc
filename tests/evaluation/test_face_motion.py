import numpy as np
import pytest

from magicmirror.errors import ConfigError
from magicmirror.evaluation.face_motion import fm_inter, fm_ref, letterbox_points

SIZE = (100, 50)
FACE = np.array([[60, 20], [55, 20], [40, 20], [45, 20], [50, 30]], dtype=np.float32)


def clip(*shifts):
    return np.stack([FACE + np.array(shift, dtype=np.float32) for shift in shifts])


def test_a_copy_of_the_reference_does_not_move():
    assert fm_ref(clip((0, 0), (0, 0)), SIZE, FACE, SIZE) == 0
    assert fm_inter(clip((3, 1), (3, 1), (3, 1)), SIZE) == 0


def test_known_shifts_have_the_norm_of_all_ten_numbers():
    # 10 of 100 px and 5 of 50 px are 0.1 in each of the ten coordinates.
    assert fm_ref(clip((10, 5)), SIZE, FACE, SIZE) == pytest.approx(0.1 * np.sqrt(10), rel=1e-5)
    assert fm_ref(clip((0, 0), (10, 5)), SIZE, FACE, SIZE) == pytest.approx(0.05 * np.sqrt(10), rel=1e-5)
    assert fm_inter(clip((0, 0), (10, 5)), SIZE) == pytest.approx(0.1 * np.sqrt(10), rel=1e-5)


def test_inter_frame_motion_is_that_of_the_two_most_distant_frames():
    there_and_back = clip((0, 0), (4, 0), (20, 0), (4, 0), (0, 0))
    assert fm_inter(there_and_back, SIZE) == pytest.approx(0.2 * np.sqrt(5), rel=1e-5)


def test_motion_does_not_depend_on_the_resolution():
    small, large = clip((0, 0), (10, 5)), clip((0, 0), (10, 5))
    large = (large + 0.5) * 4 - 0.5
    assert fm_inter(large, (400, 200)) == pytest.approx(fm_inter(small, SIZE), rel=1e-5)
    assert fm_ref(large, (400, 200), FACE, SIZE) == pytest.approx(fm_ref(small, SIZE, FACE, SIZE), rel=1e-5)


def test_reference_is_fitted_into_the_aspect_ratio_of_the_video():
    # A square of 100 px in a picture twice as wide as high: 50 px of border on each side.
    corners = np.array([[-0.5, -0.5], [99.5, 99.5], [49.5, 49.5]], dtype=np.float32)
    np.testing.assert_allclose(
        letterbox_points(corners, (100, 100), 2.0), [[0.25, 0], [0.75, 1], [0.5, 0.5]], atol=1e-6
    )
    np.testing.assert_allclose(
        letterbox_points(corners, (100, 100), 0.5), [[0, 0.25], [1, 0.75], [0.5, 0.5]], atol=1e-6
    )
    # The same square shown in a wide video, with such borders, is no motion.
    square = FACE + np.array([0, 25], dtype=np.float32)
    shown = (square + 0.5) / 2 + np.array([25, 0], dtype=np.float32) - 0.5
    assert fm_ref(shown[None], SIZE, square, (100, 100)) == pytest.approx(0, abs=1e-6)


def test_frames_without_a_face_are_left_out():
    frames = clip((0, 0), (50, 0), (10, 0))
    frames[1] = np.nan
    assert fm_inter(frames, SIZE) == pytest.approx(0.1 * np.sqrt(5), rel=1e-5)
    assert fm_ref(frames, SIZE, FACE, SIZE) == pytest.approx(0.05 * np.sqrt(5), rel=1e-5)
    frames[:] = np.nan
    assert fm_inter(frames, SIZE) is None
    assert fm_ref(frames, SIZE, FACE, SIZE) is None
    assert fm_inter(clip((0, 0)), SIZE) is None


def test_other_shapes_are_refused():
    with pytest.raises(ConfigError, match=r"\(F, 5, 2\)"):
        fm_inter(FACE, SIZE)
    with pytest.raises(ConfigError, match="reference's landmarks"):
        fm_ref(clip((0, 0)), SIZE, FACE[:4], SIZE)
