"""Rendered clips move as the cue says, start from the photo, and have no torn or smeared places."""

import numpy as np
import pytest

from magicmirror.data.animation import reference_view, render_clip
from magicmirror.data.head_geometry import backward_map, head_shape, move_points
from magicmirror.data.motion import MOTIONS, ClipSpec, MotionCue, PoseTrack, pose_track
from magicmirror.errors import ConfigError
from magicmirror.faces.alignment import align_head, eye_centres
from magicmirror.faces.similarity import euclidean_distance
from magicmirror.media import load_image

PEOPLE = ("woman_1", "man_2", "older_man_1")


def clip(portraits, name, *motions, style="none", frames=17):
    return render_clip(*portraits[name], ClipSpec(tuple(MotionCue(m) for m in motions), style), frames)


def measured(face_analyzer, frame):
    """Nose, middle of the eyes, slope and distance of the eyes in px, as dlib sees them."""
    faces = face_analyzer.analyze(frame)
    assert len(faces) == 1
    landmarks = faces[0].landmarks
    left, right = eye_centres(landmarks, "dlib5")
    vector = right - left
    return landmarks[4], (left + right) / 2, np.degrees(np.arctan2(vector[1], vector[0])), float(np.hypot(*vector))


@pytest.mark.parametrize("name", PEOPLE)
def test_frame_0_is_the_aligned_crop_for_every_motion(portraits, name):
    crop = align_head(*portraits[name], "dlib5", 128).astype(int)
    for motion in MOTIONS:
        first = clip(portraits, name, motion)[0]
        assert np.abs(first - crop).mean() < 3.0
    still = render_clip(*portraits[name], ClipSpec(()), num_frames=1)
    assert np.abs(still[0] - crop).mean() < 3.0


@pytest.mark.parametrize("name", PEOPLE)
def test_turning_moves_the_nose_to_the_documented_side(portraits, face_analyzer, name):
    rest = clip(portraits, name, "still")[0]
    nose, middle, _, _ = measured(face_analyzer, rest)
    for motion, sign in (("turn_left", -1), ("turn_right", 1)):
        turned_nose, turned_middle, _, _ = measured(face_analyzer, clip(portraits, name, motion)[-1])
        assert sign * (turned_nose - nose)[0] > 8.0
        # The nose stands out of the face, so it moves further than the eyes.
        assert sign * ((turned_nose - turned_middle) - (nose - middle))[0] > 0.8


def test_looking_tilting_and_camera_move_as_documented(portraits, face_analyzer):
    nose, middle, angle, distance = measured(face_analyzer, clip(portraits, "woman_1", "still")[0])
    last = {
        motion: measured(face_analyzer, clip(portraits, "woman_1", motion)[-1])
        for motion in (
            "look_up",
            "look_down",
            "tilt_left",
            "tilt_right",
            "zoom_in",
            "zoom_out",
            "pan_left",
            "pan_right",
        )
    }
    assert last["look_up"][0][1] < nose[1] - 5 and last["look_down"][0][1] > nose[1] + 5
    assert last["tilt_left"][2] < angle - 7 and last["tilt_right"][2] > angle + 7
    assert last["zoom_in"][3] > 1.2 * distance and last["zoom_out"][3] < 0.92 * distance
    # The camera pans to the left, so the head goes to the right.
    assert last["pan_left"][1][0] > middle[0] + 8 and last["pan_right"][1][0] < middle[0] - 8


def test_nod_returns_to_the_start(portraits):
    frames = clip(portraits, "man_2", "nod").astype(int)
    assert np.abs(frames[16] - frames[0]).mean() < 1.0
    assert np.abs(frames[4] - frames[0]).mean() > 4.0


def test_blink_closes_the_eyes_only(portraits, template_landmarks):
    frames = clip(portraits, "woman_1", "blink").astype(int)
    landmarks = template_landmarks(portraits["woman_1"][1]) * 128
    change = np.abs(frames[8] - frames[0]).sum(axis=-1)
    for corners in (landmarks[0:2], landmarks[2:4]):
        x, y = corners.mean(axis=0).astype(int)
        assert change[y - 2 : y + 3, x - 4 : x + 5].mean() > 30
    assert change[80:, :].max() == 0
    assert np.array_equal(frames[16], frames[0])


def test_smile_lifts_the_corners_of_the_mouth_only(portraits, template_landmarks):
    frames = clip(portraits, "man_2", "smile").astype(int)
    shape = head_shape(template_landmarks(portraits["man_2"][1]))
    x, y = backward_map(shape, pose_track((MotionCue("smile"),), 17), 128)
    grid = (np.arange(128) + 0.5) / 128
    column, row = (int((shape.mouth[0] + 0.105) * 128), int(shape.mouth[1] * 128))
    assert y[-1, row, column] - grid[row] > 0.02  # what is seen there came from below: the corner went up
    assert x[-1, row, column] - grid[column] < -0.015
    assert np.abs(frames[-1] - frames[0])[:50].max() == 0


@pytest.mark.parametrize("name", PEOPLE)
def test_an_opened_mouth_is_dark_inside_and_moves_nothing_above(portraits, name):
    frames = clip(portraits, name, "open_mouth").astype(int)
    change = (frames[-1] - frames[0]).sum(axis=-1)
    # The inside is much darker than the lips and the chin that it took the place of.
    assert (change < -90).sum() > 60
    rows = np.flatnonzero((change < -90).sum(axis=1) > 4)
    assert rows.min() > 70 and np.median(rows) < 115
    assert np.abs(change[:70]).max() == 0


def test_talking_ends_with_the_mouth_as_it_was(portraits):
    frames = clip(portraits, "man_2", "talk").astype(int)
    assert np.array_equal(frames[-1], frames[0])
    assert np.abs(frames[8] - frames[0]).mean() > 0.5


@pytest.mark.parametrize("motions", [("turn_left", "look_up"), ("turn_right", "tilt_right"), ("shake", "zoom_out")])
def test_map_is_a_true_inverse_without_folds(portraits, template_landmarks, motions):
    for name in PEOPLE:
        shape = head_shape(template_landmarks(portraits[name][1]))
        track = pose_track(tuple(MotionCue(m) for m in motions), 17)
        x, y = backward_map(shape, track, 128)
        # Within a column or row the source never runs backwards.
        assert np.diff(x, axis=2).min() > 0 and np.diff(y, axis=1).min() > 0
        moved_x, moved_y = move_points(shape, x, y, track)
        grid = ((np.arange(128) + 0.5) / 128).astype(np.float32)
        zoom = track.zoom[:, None, None]
        seen_x = (moved_x - 0.5) * zoom + 0.5
        seen_y = (moved_y - 0.52) * zoom + 0.52
        # Everywhere within a third of a px on average, and within 1.5 px at the steepest places.
        for error in (seen_x - grid[None, None, :], seen_y - grid[None, :, None]):
            assert np.abs(error).mean() * 128 < 0.05 and np.abs(error).max() * 128 < 1.5


def test_source_stays_near_the_photo():
    landmarks = np.array([[0.69, 0.45], [0.58, 0.45], [0.31, 0.45], [0.42, 0.45], [0.5, 0.64]], dtype=np.float32)
    shape = head_shape(landmarks)
    for name in MOTIONS:
        x, y = backward_map(shape, pose_track((MotionCue(name),), 17), 128)
        assert min(x.min(), y.min()) > -0.15 and max(x.max(), y.max()) < 1.15, name


def test_borders_are_not_smeared(portraits):
    for name in PEOPLE:
        for motion in MOTIONS:
            last = clip(portraits, name, motion)[-1].astype(int)
            for edge in (last, last[::-1], last.transpose(1, 0, 2), last[:, ::-1].transpose(1, 0, 2)):
                # A smear repeats the outermost line over several px.
                equal = [(edge[i] == edge[i + 1]).all(axis=-1).mean() for i in range(6)]
                assert min(equal) < 0.9, (name, motion)


def test_motion_is_smooth(portraits):
    for motion in MOTIONS:
        frames = clip(portraits, "woman_1", motion).astype(np.float32)
        steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
        assert steps.max() < 26, motion
        assert steps.max() > 0.05, motion


def test_equal_arguments_give_equal_bytes(portraits):
    for style in ("none", "film", "snow"):
        first, second = (clip(portraits, "man_2", "turn_left", style=style) for _ in range(2))
        assert first.dtype == np.uint8 and first.shape == (17, 128, 128, 3)
        assert np.array_equal(first, second)


def test_other_sizes_and_large_photos(portraits):
    picture, landmarks = portraits["woman_1"]
    large = np.repeat(np.repeat(picture, 5, axis=0), 5, axis=1)
    spec = ClipSpec((MotionCue("turn_left"),))
    small = render_clip(picture, landmarks, spec, num_frames=5, size_px=64)
    same = render_clip(large, (landmarks + 0.5) * 5 - 0.5, spec, num_frames=5, size_px=64)
    assert small.shape == (5, 64, 64, 3)
    assert np.abs(small.astype(int) - same).mean() < 4.0


def test_unusable_pictures_are_refused(portraits):
    landmarks = portraits["woman_1"][1]
    with pytest.raises(ConfigError, match="uint8"):
        render_clip(np.zeros((64, 64, 3), dtype=np.float32), landmarks, ClipSpec(()))
    with pytest.raises(ConfigError, match="Unknown style"):
        render_clip(portraits["woman_1"][0], landmarks, ClipSpec((), style="glitter"))


def test_reference_is_another_view_of_the_same_person(portraits, face_analyzer):
    for name in PEOPLE:
        crop = align_head(*portraits[name], "dlib5", 128)
        views = np.stack([reference_view(*portraits[name], np.random.default_rng(seed)) for seed in range(4)])
        other = align_head(*portraits[PEOPLE[PEOPLE.index(name) - 1]], "dlib5", 128)
        own, strange, *seen = face_analyzer.embed_aligned(np.stack([crop, other, *views]))
        for view, embedding in zip(views, seen, strict=True):
            assert np.abs(view.astype(int) - crop).mean() > 4.0
            assert euclidean_distance(own, embedding) < min(0.5, euclidean_distance(strange, embedding))
        assert len({view.tobytes() for view in views}) == 4


def test_reference_holds_the_template_approximately(portraits, face_analyzer):
    for seed in range(5):
        view = reference_view(*portraits["man_2"], np.random.default_rng(seed))
        _, middle, angle, distance = measured(face_analyzer, view)
        assert np.abs(middle - (np.array([0.5, 0.45]) * 128 - 0.5)).max() < 4.0
        assert abs(angle) < 4.0
        assert distance == pytest.approx(0.27 * 128, rel=0.08)


def test_reference_follows_from_the_generator(portraits):
    first, second = (reference_view(*portraits["woman_1"], np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second)


def test_track_at_rest_is_the_identity():
    landmarks = np.array([[0.69, 0.45], [0.58, 0.45], [0.31, 0.45], [0.42, 0.45], [0.5, 0.64]], dtype=np.float32)
    x, y = backward_map(head_shape(landmarks), PoseTrack.at_rest(2), 32)
    grid = ((np.arange(32) + 0.5) / 32).astype(np.float32)
    np.testing.assert_allclose(x, np.broadcast_to(grid, (2, 32, 32)), atol=1e-6)
    np.testing.assert_allclose(y, np.broadcast_to(grid[:, None], (2, 32, 32)), atol=1e-6)


def test_a_large_clip_shows_what_a_small_one_shows(examples, example_references):
    """OpenCV's maps end at 32,767 px a side: nine frames of 480 px have more points than that."""
    picture, reference = load_image(examples / "man_1.jpg"), example_references["man_1"]
    large, small = (
        render_clip(picture, reference.landmarks, ClipSpec((MotionCue("turn_left"),)), 9, side) for side in (480, 120)
    )
    assert large.shape == (9, 480, 480, 3)
    reduced = large.reshape(9, 120, 4, 120, 4, 3).mean((2, 4))
    assert np.abs(reduced - small).mean() < 4.0
