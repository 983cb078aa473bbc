import cv2
import numpy as np
import pytest

from magicmirror.errors import ConfigError
from magicmirror.evaluation.optical_flow import flow_smoothness, follow, is_dynamic, vbench_step
from magicmirror.media.optical_flow import dense_flow, grey_frames, top_flow


@pytest.fixture(scope="module")
def texture():
    noise = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2.0) * 2


def moved(texture, positions):
    """The whole texture at a position (x, y) in each frame."""
    frames = [
        cv2.warpAffine(texture, np.float32([[1, 0, x], [0, 1, y]]), (96, 96), borderMode=cv2.BORDER_REFLECT_101)
        for x, y in positions
    ]
    return np.stack(frames)


def moving_square(texture, step, frames=5):
    """A textured square of 32 px, a ninth of the picture, that moves to the right over a plain ground."""
    clip = np.full((frames, 96, 96), 90, dtype=np.uint8)
    for index in range(frames):
        clip[index, 32:64, 10 + index * step : 42 + index * step] = texture[:32, :32]
    return clip


def test_grey_is_luma():
    red = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    red[..., 0] = 255
    assert (grey_frames(red) == 76).all()
    with pytest.raises(ConfigError, match="uint8"):
        grey_frames(red.astype(np.float32))


def test_flow_of_a_moving_texture_is_its_motion(texture):
    flow = dense_flow(moved(texture, [(0, 0), (3, 0), (3, -2)]))
    assert flow.shape == (2, 96, 96, 2)
    inner = flow[:, 16:-16, 16:-16]
    np.testing.assert_allclose(np.median(inner, axis=(1, 2)), [[3, 0], [0, -2]], atol=0.15)


def test_identical_frames_do_not_move(texture):
    still = moved(texture, [(0, 0)] * 4)
    assert top_flow(dense_flow(still)).max() < 0.01
    assert not is_dynamic(top_flow(dense_flow(still)), 96)
    assert flow_smoothness(dense_flow(still)) == pytest.approx(1.0, abs=0.01)
    assert dense_flow(still[:1]).shape == (0, 96, 96, 2)


def test_top_flow_is_that_of_the_fastest_twentieth(texture):
    # The square covers more than 5 % of the picture; all the rest stands still.
    assert top_flow(dense_flow(moving_square(texture, 4))).mean() == pytest.approx(4.0, abs=0.8)
    flow = np.zeros((1, 10, 10, 2), dtype=np.float32)
    flow[0, 0, :5] = (3, 4)
    assert top_flow(flow) == pytest.approx([5.0])
    flow[0, 0, 0] = 0
    assert top_flow(flow) == pytest.approx([4.0])


@pytest.mark.parametrize(
    ("scores", "side", "expected"),
    [
        ([7.0] * 3 + [0.0] * 12, 256, False),
        ([7.0] * 4 + [0.0] * 11, 256, True),
        ([5.9] * 15, 256, False),
        ([3.1] * 15, 128, True),
        ([2.9] * 15, 128, False),
        ([7.0] * 11 + [0.0] * 37, 256, False),
        ([7.0] * 12 + [0.0] * 36, 256, True),
        ([], 256, False),
    ],
)
def test_dynamic_means_a_quarter_of_the_frames_above_the_scaled_threshold(scores, side, expected):
    assert is_dynamic(np.array(scores, dtype=np.float32), side) is expected


@pytest.mark.parametrize(("fps", "step"), [(8, 1), (16, 2), (24, 3), (30, 4), (4, 1)])
def test_flow_is_taken_at_eight_frames_per_second(fps, step):
    assert vbench_step(fps) == step


def test_even_motion_is_smooth_and_jumping_is_not(texture):
    even = flow_smoothness(dense_flow(moved(texture, [(2 * index, 0) for index in range(6)])))
    jumping = flow_smoothness(dense_flow(moved(texture, [(4 * (index % 2), 0) for index in range(6)])))
    assert even > 0.85
    assert jumping < 0.1
    halting = flow_smoothness(dense_flow(moved(texture, [(x, 0) for x in (0, 4, 4, 8, 8, 12)])))
    assert jumping < halting < even


def test_smoothness_of_known_flow():
    flow = np.zeros((2, 8, 8, 2), dtype=np.float32)
    flow[0, ..., 0], flow[1, ..., 0] = 1.0, 3.0
    assert flow_smoothness(flow) == pytest.approx(1 - 2 / 4.1)
    assert flow_smoothness(flow[:1]) is None


def test_following_a_flow_reads_where_it_leads():
    ramp = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    flow = np.zeros((8, 8, 2), dtype=np.float32)
    flow[..., 0] = 2
    values, inside = follow(ramp, flow)
    np.testing.assert_allclose(values[:, :6], ramp[:, :6] + 2)
    assert inside[:, :6].all() and not inside[:, 6:].any()
