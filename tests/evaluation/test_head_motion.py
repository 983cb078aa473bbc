import numpy as np
import pytest

from magicmirror.data.motion import MotionCue, pose_track
from magicmirror.evaluation.face_track import FaceTrack, track_faces
from magicmirror.evaluation.head_motion import HeadMotion, arrival, dip, head_motion, swing

# Outer and inner corner of the eye on the right, of that on the left, base of the nose; z towards the camera, in eye
# distances from the middle of the eyes.
HEAD = np.array([[0.7, 0, 0], [0.3, 0, 0], [-0.7, 0, 0], [-0.3, 0, 0], [0, 0.74, 0.344]])
FRAMES = 9


def turned(yaw=0.0, pitch=0.0, roll=0.0, zoom=1.0, shift=(0.0, 0.0)):
    """Landmarks of a head of 40 px between the eyes in a picture of 200 px, about a pivot 1.34 behind the eyes."""
    yaw, pitch, roll = np.radians([yaw, pitch, roll])
    points = HEAD + np.array([0, 0, 1.34])
    x, y, z = points.T
    x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
    y, z = y * np.cos(pitch) - z * np.sin(pitch), z * np.cos(pitch) + y * np.sin(pitch)
    y = y - 1.96
    x, y = x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)
    return np.stack([x, y + 1.96], axis=1) * 40 * zoom + 100 + np.array(shift)


def track(poses):
    landmarks = np.stack([turned(**pose) for pose in poses]).astype(np.float32)
    return FaceTrack(landmarks, np.zeros((len(landmarks), 4), dtype=np.float32), "dlib5")


def going(**end):
    """From rest to a pose in even steps, after two frames at rest."""
    share = [0.0, *np.linspace(0, 1, FRAMES - 1)]
    return head_motion(
        track([{k: (1 + (v - 1) * s if k == "zoom" else np.multiply(v, s)) for k, v in end.items()} for s in share]),
        200,
    )


@pytest.mark.parametrize("degrees", [-22.0, -10.0, 10.0, 22.0])
@pytest.mark.parametrize("angle", ["yaw", "pitch", "roll"])
def test_angles_have_sign_and_size(angle, degrees):
    motion = going(**{angle: degrees})
    assert getattr(motion, angle)[-1] == pytest.approx(degrees, rel=0.05)
    for other in {"yaw", "pitch", "roll"} - {angle}:
        assert abs(getattr(motion, other)[-1]) < 1.0
    assert abs(motion.pan[-1]) < 0.015
    assert abs(motion.zoom[-1]) < 0.01


def test_zoom_is_the_logarithm_of_the_growth():
    assert going(zoom=1.3).zoom[-1] == pytest.approx(np.log(1.3), abs=1e-3)
    assert going(zoom=0.8).zoom[-1] == pytest.approx(np.log(0.8), abs=1e-3)


def test_a_camera_that_pans_right_moves_the_head_left():
    motion = going(shift=(-20.0, 0.0))
    assert motion.pan[-1] == pytest.approx(0.1, abs=1e-4)
    assert abs(motion.yaw[-1]) < 1e-3


def test_pan_and_turn_are_told_apart_when_both_happen():
    motion = going(yaw=20.0, shift=(-20.0, 0.0))
    assert motion.yaw[-1] == pytest.approx(20, rel=0.05)
    assert motion.pan[-1] == pytest.approx(0.1, abs=0.015)


def test_what_a_face_is_at_rest_cancels():
    crooked = track([{"yaw": 15.0, "roll": 5.0, "zoom": 1.2}] * 5)
    motion = head_motion(crooked, 200)
    for name in HeadMotion.__dataclass_fields__:
        np.testing.assert_allclose(getattr(motion, name), 0, atol=1e-6)


def test_frames_without_a_face_are_interpolated():
    faces = track([{"roll": value} for value in (0.0, 0.0, 3.0, 6.0, 9.0)])
    faces.landmarks[3] = np.nan
    assert faces.face_share == pytest.approx(0.8)
    np.testing.assert_array_equal(faces.found, [True, True, True, False, True])
    assert head_motion(faces, 200).roll[3] == pytest.approx(6.0, abs=0.2)


def test_readings_of_a_curve():
    time = np.linspace(0, 1, 17)
    assert arrival(np.minimum(time / 0.7, 1) * 20) == pytest.approx(20)
    nod = -10 * np.sin(2 * np.pi * time) ** 2
    assert dip(nod) == pytest.approx(8.8, abs=0.2)
    assert dip(-nod) < 1
    arrived = -10 * np.minimum(time / 0.5, 1)
    assert dip(arrived) == pytest.approx(0, abs=0.01)
    # Two frames in seven are at the far ends of a shake, so the three farthest are a little nearer.
    shake = pose_track((MotionCue("shake"),), 17).yaw
    assert 0.5 * 14 < swing(shake) < 14
    assert swing(shake) == pytest.approx(swing(-shake))
    assert swing(nod) < 1


def test_track_of_real_frames(examples, face_analyzer, example_references):
    crop = example_references["woman_1"].crop
    frames = np.stack([crop, np.zeros_like(crop), crop])
    faces = track_faces(frames, face_analyzer)
    np.testing.assert_array_equal(faces.found, [True, False, True])
    assert np.isnan(faces.embeddings[1]).all()
    left, right, nose = faces.eyes_and_nose()
    # The template: eye centres at 0.365 and 0.635 of 128 px, 0.45 from the top.
    np.testing.assert_allclose(left[1], [46.2, 57.1], atol=2)
    np.testing.assert_allclose(right[1], [80.8, 57.1], atol=2)
    assert nose[1, 1] > left[1, 1] + 10
    np.testing.assert_allclose(faces.mean_embedding, faces.embeddings[0], atol=1e-5)
    nobody = track_faces(frames[1:2], face_analyzer)
    assert nobody.mean_embedding is None and nobody.face_share == 0


def test_evaluation_finds_the_faces_that_a_generation_finds(example_references, face_analyzer):
    """A head that lies on its side is found in a photo, and in no frame of either."""
    upright = example_references["man_1"].crop
    lying = np.rot90(upright).copy()
    frames = np.stack([upright, lying, np.full_like(upright, 90)])
    track, curve = track_faces(frames, face_analyzer), face_analyzer.embed_frames(frames)
    assert [face is not None for face in curve] == track.found.tolist() == [True, False, False]
    np.testing.assert_allclose(track.embeddings[0], curve[0], rtol=0, atol=1e-5)
    assert len(face_analyzer.analyze(lying)) == 1
