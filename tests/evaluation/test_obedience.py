import numpy as np
import pytest

from magicmirror.data.animation import render_clip
from magicmirror.data.motion import MOTIONS, ClipSpec, MotionCue
from magicmirror.evaluation.face_track import FaceTrack, track_faces
from magicmirror.evaluation.obedience import MOTION_LIMITS, all_obeyed, judge, motion_effects
from magicmirror.media import load_image

PACED = {name for name, motion in MOTIONS.items() if motion.group in ("turn", "look", "tilt", "camera")} - {
    "nod",
    "shake",
}


def measured_effects(examples, example_references, face_analyzer, name, cue):
    photo = load_image(examples / f"{name}.jpg")
    frames = render_clip(photo, example_references[name].landmarks, ClipSpec((cue,)))
    return motion_effects(frames, track_faces(frames, face_analyzer))


@pytest.fixture(scope="module")
def one_clip_a_motion(examples, example_references, face_analyzer):
    """(motion, effects): people, strengths and paces in turn."""
    names = list(example_references)
    results = []
    for index, motion in enumerate(MOTIONS):
        strength = "slight" if motion in PACED and index % 3 == 0 else "normal"
        pace = ("normal", "slow", "quick")[index % 3] if motion in PACED else "normal"
        cue = MotionCue(motion, strength, pace)
        name = names[index % len(names)]
        results.append((motion, measured_effects(examples, example_references, face_analyzer, name, cue)))
    return results


def test_measures_are_right_on_animated_clips(one_clip_a_motion):
    """The known-answer test, one clip a motion; the slow test below takes every person."""
    missed = [motion for motion, effects in one_clip_a_motion if not judge([motion], effects, MOTION_LIMITS)[0].obeyed]
    assert not missed


def test_other_words_are_not_seen(one_clip_a_motion):
    """Each clip is free of what it does not show; motions that contain each other are left out."""
    alike = {
        *(("shake", "turn_left"), ("shake", "turn_right"), ("nod", "look_down"), ("pan_left", "zoom_in")),
        *(("pan_right", "zoom_in"), ("turn_left", "smile"), ("turn_right", "smile")),
        *(("turn_left", "look_down"), ("turn_right", "look_down")),
    }
    pairs = [
        (motion, word, effect > MOTION_LIMITS[word])
        for motion, effects in one_clip_a_motion
        for word, effect in effects.items()
        if word not in (motion, "still") and (motion, word) not in alike
    ]
    seen = [(motion, word) for motion, word, false in pairs if false]
    assert len(seen) <= 0.05 * len(pairs), seen


def test_opposite_motions_have_opposite_signs(one_clip_a_motion):
    effects = dict(one_clip_a_motion)
    for first, second in (("turn_left", "turn_right"), ("look_up", "look_down"), ("zoom_in", "zoom_out")):
        assert effects[first][second] == -effects[first][first] < 0
        assert effects[second][first] == -effects[second][second] < 0


def test_every_motion_of_the_captions_has_a_measure(one_clip_a_motion):
    assert set(MOTIONS) <= set(MOTION_LIMITS)
    assert all(set(effects) == set(MOTION_LIMITS) for _, effects in one_clip_a_motion)


@pytest.mark.slow
def test_measures_are_right_on_animated_clips_of_everybody(examples, example_references, face_analyzer):
    rng = np.random.default_rng(0)
    right = []
    for name in example_references:
        for motion in MOTIONS:
            slight = motion in PACED and rng.random() < 0.3
            cue = MotionCue(motion, "slight" if slight else "normal")
            effects = measured_effects(examples, example_references, face_analyzer, name, cue)
            right.append(judge([motion], effects, MOTION_LIMITS)[0].obeyed)
    assert np.mean(right) >= 0.95


def test_without_faces_nothing_is_obeyed():
    frames = np.zeros((9, 64, 64, 3), dtype=np.uint8)
    landmarks = np.full((9, 5, 2), np.nan, dtype=np.float32)
    effects = motion_effects(frames, FaceTrack(landmarks, landmarks[:, 0], "dlib5"))
    assert effects == {}
    verdict = judge(["nod"], effects, MOTION_LIMITS)[0]
    assert verdict.effect is None and verdict.obeyed is False


def test_verdicts():
    verdicts = judge(["nod", "smile", "flying", "none"], {"nod": 2.4, "smile": 0.2}, MOTION_LIMITS)
    assert [(v.word, v.obeyed) for v in verdicts] == [("nod", False), ("smile", True), ("flying", None)]
    assert judge(["nod"], {"nod": 2.6}, MOTION_LIMITS)[0].obeyed is True
    plain = [{"obeyed": verdict.obeyed} for verdict in verdicts]
    assert all_obeyed(plain) is False
    assert all_obeyed(plain[1:]) is True
    assert all_obeyed(plain[2:]) is None
