import cv2
import numpy as np
import pytest

from magicmirror.evaluation.picture_quality import flicker, sharpness
from magicmirror.media.optical_flow import dense_flow


@pytest.fixture(scope="module")
def texture():
    noise = np.random.default_rng(1).integers(0, 256, (96, 96), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2.0)


def test_sharpness_of_a_checkerboard_and_of_nothing():
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 10).astype(np.uint8)
    # The Laplacian of a checkerboard of 0 and 10 is +40 and -40.
    assert sharpness(board[None]) == pytest.approx(1600)
    assert sharpness(np.full((3, 64, 64), 77, dtype=np.uint8)) == 0


def test_blur_takes_sharpness_away(texture):
    frames = np.stack([texture, texture])
    blurred = np.stack([cv2.GaussianBlur(texture, (0, 0), 1.5)] * 2)
    assert sharpness(blurred) < 0.5 * sharpness(frames)


def test_still_frames_do_not_flicker(texture):
    still = np.stack([texture] * 4)
    assert flicker(still, dense_flow(still)) == pytest.approx(0, abs=0.01)
    assert flicker(still[:1], dense_flow(still[:1])) is None


def test_alternating_light_flickers_by_its_step():
    plain = np.full((5, 64, 64), 100, dtype=np.uint8)
    plain[1::2] += 12
    assert flicker(plain, dense_flow(plain)) == pytest.approx(12, abs=0.5)


def test_motion_alone_is_hardly_flicker(texture):
    moving = np.stack(
        [
            cv2.warpAffine(texture, np.float32([[1, 0, 2 * i], [0, 1, 0]]), (96, 96), borderMode=cv2.BORDER_REFLECT_101)
            for i in range(4)
        ]
    )
    plain_difference = np.abs(np.diff(moving.astype(int), axis=0)).mean()
    assert flicker(moving, dense_flow(moving)) < 0.25 * plain_difference


def test_grain_flickers_the_more_the_stronger_it_is(texture):
    rng = np.random.default_rng(2)

    def grainy(strength):
        return np.clip(texture + rng.normal(0, strength, (5, 96, 96)), 0, 255).astype(np.uint8)

    weak, strong = (flicker(clip, dense_flow(clip)) for clip in (grainy(3), grainy(9)))
    assert strong > 2 * weak > 2
