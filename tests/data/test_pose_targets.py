"""Poses of latent frames: their values by hand, and that each motion is told from every other."""

import numpy as np
import pytest

from magicmirror.data.motion import MOTIONS, MotionCue, pose_track
from magicmirror.data.pose_targets import POSE_FIELDS, POSE_SCALES, latent_poses
from magicmirror.errors import ConfigError


def test_a_latent_frame_has_the_mean_pose_of_its_pixel_frames():
    cues = (MotionCue("turn_left"), MotionCue("zoom_in", "slight", "slow"))
    track, poses = pose_track(cues, 17), latent_poses(cues, 5)
    assert poses.shape == (5, len(POSE_FIELDS)) and poses.dtype == np.float32
    yaw, zoom = POSE_FIELDS.index("yaw"), POSE_FIELDS.index("zoom")
    np.testing.assert_allclose(poses[2, yaw], track.yaw[5:9].mean() / POSE_SCALES["yaw"], rtol=1e-5)
    np.testing.assert_allclose(poses[4, zoom], np.log(track.zoom[13:17]).mean() / POSE_SCALES["zoom"], rtol=1e-5)
    assert poses[4, yaw] == pytest.approx(-2.2) and not poses[0].any()
    others = [index for index in range(len(POSE_FIELDS)) if index not in (yaw, zoom)]
    assert not poses[:, others].any()


def test_every_motion_is_told_from_every_other_and_counts_alike():
    poses = {name: latent_poses((MotionCue(name),), 5) for name in MOTIONS}
    for name, own in poses.items():
        if name == "still":
            continue
        assert 0.3 < np.abs(own).max() < 3.0, name
        assert all(np.abs(own - other).max() > 0.3 for key, other in poses.items() if key != name), name


def test_a_still_is_at_rest_and_no_frame_is_refused():
    assert latent_poses((), 1).tolist() == [[0.0] * len(POSE_FIELDS)]
    with pytest.raises(ConfigError, match="at least one latent frame"):
        latent_poses((), 0)
