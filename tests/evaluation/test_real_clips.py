import numpy as np
import pytest

from magicmirror.errors import ConfigError
from magicmirror.evaluation.benchmark import read_row, run_row
from magicmirror.evaluation.real_clips import find_clips, real_videos
from magicmirror.media import load_image, write_video
from magicmirror.types import GeneratedVideo, VideoShape

SHAPE = VideoShape(num_frames=5, height_px=128, width_px=128, fps=8)


@pytest.fixture(scope="module")
def clips(examples, tmp_path_factory):
    """A photo that a camera pans over at 16 frames a second, and a clip without a face."""
    folder = tmp_path_factory.mktemp("clips")
    photo = load_image(examples / "woman_1.jpg")
    height, width = (side // 2 * 2 - 16 for side in photo.shape[:2])
    frames = np.stack([photo[4 : 4 + height, index : index + width] for index in range(12)])
    write_video(GeneratedVideo(frames, 16, {}), folder / "pan.mp4")
    write_video(GeneratedVideo(np.zeros_like(frames), 16, {}), folder / "black.mp4")
    return folder


def test_clips_with_a_face_are_found(clips, face_analyzer):
    (case,) = find_clips(clips, 5, face_analyzer)
    assert case.subject.name == "pan"
    assert case.clip.motions == ()


def test_clips_are_cut_to_the_shape_of_the_profile(clips, face_analyzer):
    (case,) = find_clips(clips, 5, face_analyzer)
    video = real_videos(SHAPE)(case)
    assert video.frames.shape == (5, 128, 128, 3)
    assert video.fps == 8
    # The first frame is the aligned head; every frame after it is the photo two px (one step of 1/8 s) further.
    np.testing.assert_array_equal(video.frames[0], case.subject.reference.crop)
    short = real_videos(VideoShape(17, 128, 128, 8))(case)
    assert len(short.frames) == 6


def test_clips_are_measured_like_any_row(clips, face_analyzer, tmp_path):
    cases = find_clips(clips, 5, face_analyzer)
    run_row(cases, real_videos(SHAPE), face_analyzer, tmp_path, settings={})
    _, (record,), people = read_row(tmp_path)
    assert record["own_distance"] < 0.3
    assert record["id_similarity"] is None and people["pan"].pictures_from == "none"
    assert record["fm_inter"] > 0.05
    assert 0.015 < record["motion_effects"]["pan_right"] < 0.045
    assert record["sharpness"] > 20 and record["motion_verdicts"] == []


def test_a_folder_without_faces_is_refused(tmp_path, face_analyzer):
    with pytest.raises(ConfigError, match="None of 0 clips"):
        find_clips(tmp_path, 5, face_analyzer)
