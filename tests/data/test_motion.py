"""Timelines: the pose follows from the cues."""

import numpy as np
import pytest

from magicmirror.data.motion import MOTIONS, ClipSpec, MotionCue, pose_track
from magicmirror.errors import ConfigError


@pytest.mark.parametrize("name", MOTIONS)
def test_every_motion_starts_at_rest_and_moves_only_its_own_fields(name):
    track = pose_track((MotionCue(name),), 17)
    for field in ("yaw", "pitch", "roll", "pan_x", "pan_y", "blink", "smile", "mouth", "zoom"):
        values = getattr(track, field)
        rest = 1.0 if field == "zoom" else 0.0
        assert values[0] == pytest.approx(rest, abs=1e-6)
        moves = np.ptp(values) > 1e-3
        assert moves == (field in MOTIONS[name].amplitudes)


def test_signs_are_those_of_the_table():
    last = {name: pose_track((MotionCue(name),), 17) for name in MOTIONS}
    assert last["turn_left"].yaw[-1] == -22 and last["turn_right"].yaw[-1] == 22
    assert last["look_up"].pitch[-1] == 13 and last["look_down"].pitch[-1] == -13
    assert last["tilt_left"].roll[-1] == -12 and last["tilt_right"].roll[-1] == 12
    assert last["zoom_in"].zoom[-1] > 1.3 and last["zoom_out"].zoom[-1] < 0.9
    assert last["pan_left"].pan_x[-1] < 0 < last["pan_right"].pan_x[-1]


def test_strength_and_pace():
    normal, slight, slow, quick = (
        pose_track((MotionCue("turn_right", strength, pace),), 17).yaw
        for strength, pace in (("normal", "normal"), ("slight", "normal"), ("normal", "slow"), ("normal", "quick"))
    )
    np.testing.assert_allclose(slight, normal / 2, rtol=1e-5)
    assert slow[8] < normal[8] < quick[8]
    assert slow[-1] == normal[-1] == quick[-1] == 22


def test_nod_goes_down_twice_and_shake_goes_to_both_sides():
    pitch = pose_track((MotionCue("nod"),), 17).pitch
    assert pitch[4] == pytest.approx(-11) and pitch[12] == pytest.approx(-11)
    assert abs(pitch[8]) < 1e-5 and abs(pitch[16]) < 1e-5
    yaw = pose_track((MotionCue("shake"),), 17).yaw
    assert yaw.min() < -10 and yaw.max() > 10


def test_mouth_opens_once_or_three_times():
    opened = pose_track((MotionCue("open_mouth"),), 17).mouth
    assert opened[-1] == 1 and np.all(np.diff(opened) >= 0)
    talking = pose_track((MotionCue("talk"),), 25).mouth
    peaks = (talking[1:-1] > talking[:-2] + 0.05) & (talking[1:-1] > talking[2:] + 0.05)
    assert peaks.sum() == 3 and 0.8 < talking.max() <= 1.0
    np.testing.assert_allclose(talking[[0, 8, 16, 24]], 0, atol=1e-6)


def test_two_motions_add_up():
    both = pose_track((MotionCue("turn_left"), MotionCue("zoom_in")), 9)
    np.testing.assert_array_equal(both.yaw, pose_track((MotionCue("turn_left"),), 9).yaw)
    np.testing.assert_array_equal(both.zoom, pose_track((MotionCue("zoom_in"),), 9).zoom)


def test_wrong_values_are_refused():
    with pytest.raises(ConfigError, match="wave"):
        MotionCue("wave")
    with pytest.raises(ConfigError, match="huge"):
        MotionCue("nod", strength="huge")
    with pytest.raises(ConfigError, match="two motions"):
        ClipSpec((MotionCue("nod"), MotionCue("smile"), MotionCue("zoom_in")))
    with pytest.raises(ConfigError, match="at least one frame"):
        pose_track((), 0)
