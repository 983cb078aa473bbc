"""Video: what is written and read, and that files are complete or absent."""

from __future__ import annotations

import json
import re
import struct
import subprocess

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from magicmirror.errors import ConfigError, VideoError
from magicmirror.media import (
    check_output_path,
    read_settings,
    read_video,
    sidecar_path,
    video_writer,
    write_frames,
    write_gif,
    write_result,
    write_video,
)
from magicmirror.types import GeneratedVideo
from tests.pictures import four_colours


def moving_picture(num_frames: int = 17, height: int = 128, width: int = 128) -> np.ndarray:
    """Smooth frames, each with its own level of blue."""
    rows, columns = np.mgrid[:height, :width]
    frames = [np.stack([columns % 256, rows % 256, np.full_like(rows, 12 * i)], axis=-1) for i in range(num_frames)]
    return np.stack(frames).astype(np.uint8)


def video_of(frames: np.ndarray, **settings) -> GeneratedVideo:
    """A finished video at 8 fps."""
    return GeneratedVideo(frames, 8, settings or {"prompt": "a man smiles", "seed": 0})


def test_frames_survive_the_round_trip(tmp_path) -> None:
    frames = moving_picture()
    path = write_video(video_of(frames), tmp_path / "out.mp4")
    read, fps = read_video(path)
    assert read.shape == frames.shape
    assert fps == 8.0
    difference = np.abs(read.astype(int) - frames)
    assert difference.mean() < 3
    # Frame by frame and channel by channel: nothing dropped, repeated, swapped or shifted in colour.
    levels = read[..., 2].mean(axis=(1, 2))
    np.testing.assert_allclose(levels, 12 * np.arange(17), atol=2.5)
    np.testing.assert_array_equal(read_video(path, max_frames=5)[0], read[:5])


def test_another_reader_agrees_on_frames_rate_and_colour(tmp_path) -> None:
    frames = np.stack([four_colours(64, 48)] * 9)
    path = write_video(GeneratedVideo(frames, 25, {}), tmp_path / "out.mp4")
    reader = cv2.VideoCapture(str(path))
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(25.0)
    read = []
    while True:
        more, frame = reader.read()
        if not more:
            break
        read.append(frame[..., ::-1])
    assert len(read) == 9
    for (row, column), colour in {(10, 10): (255, 0, 0), (10, 50): (0, 255, 0), (40, 10): (0, 0, 255)}.items():
        np.testing.assert_allclose(read[4][row, column], colour, atol=6)


def test_the_file_is_what_browsers_play(tmp_path) -> None:
    path = write_video(video_of(moving_picture()), tmp_path / "out.mp4")
    report = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path)], capture_output=True, text=True, check=False
    ).stderr
    stream = re.search(r"Stream #0:0.*", report)
    assert stream is not None
    assert "Video: h264 (High)" in stream[0]
    assert "yuv420p(tv, bt709, progressive)" in stream[0]
    assert "8 fps" in stream[0]
    assert report.count("Stream #") == 1
    boxes = top_level_boxes(path.read_bytes())
    assert boxes.index("moov") < boxes.index("mdat")  # faststart: the index comes first


def top_level_boxes(data: bytes) -> list[str]:
    """Names of an mp4's boxes, in order."""
    names, position = [], 0
    while position < len(data):
        size, name = struct.unpack_from(">I4s", data, position)
        names.append(name.decode())
        position += size
    return names


def test_settings_travel_in_the_file_and_beside_it(tmp_path) -> None:
    settings = {"prompt": 'a="b"; #1 \\ \n=ü', "seed": 0, "steps": 20, "versions": {"torch": "2"}, "none": None}
    video = GeneratedVideo(moving_picture(5), 8, settings, (0.9, None, 0.8), {"denoise": 1.5})
    path = write_video(video, tmp_path / "out.mp4")
    expected = {**settings, "likeness": [0.9, None, 0.8]}
    assert read_settings(path) == expected
    sidecar = json.loads(sidecar_path(path).read_text())
    size = {"num_frames": 5, "height_px": 128, "width_px": 128, "fps": 8}
    assert sidecar == {**expected, "timings_s": {"denoise": 1.5}, "video": size}
    assert read_settings(sidecar_path(path)) == sidecar
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.json", "out.mp4"]


def test_equal_videos_make_equal_files(tmp_path) -> None:
    frames = moving_picture(9)
    first = write_video(GeneratedVideo(frames, 8, {"seed": 1}, (), {"all": 1.0}), tmp_path / "a.mp4")
    second = write_video(GeneratedVideo(frames, 8, {"seed": 1}, (), {"all": 2.0}), tmp_path / "b.mp4")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("fps", [1, 12.5, 23.976, 24000 / 1001, 30000 / 1001, 60, 0.1])
@pytest.mark.parametrize("num_frames", [1, 2, 40])
def test_the_rate_is_exact(tmp_path, fps: float, num_frames: int) -> None:
    frames = moving_picture(num_frames, 16, 16)
    path = write_video(GeneratedVideo(frames, fps, {}), tmp_path / "out.mp4")
    read, read_fps = read_video(path)
    assert (len(read), read_fps) == (num_frames, fps)
    assert json.loads(sidecar_path(path).read_text())["video"]["fps"] == fps


@pytest.mark.parametrize("fps", [0, -8, 0.05, 1000, float("nan"), float("inf")])
def test_rates_that_players_do_not_know_are_refused(tmp_path, fps: float) -> None:
    for write, name in ((write_video, "a.mp4"), (write_gif, "a.gif"), (write_frames, "a")):
        with pytest.raises(VideoError, match="frames per second"):
            write(GeneratedVideo(moving_picture(2), fps, {}), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("height", "width"), [(31, 45), (32, 45), (31, 46), (1, 1)])
def test_odd_sides_repeat_their_last_row_or_column(tmp_path, height: int, width: int) -> None:
    frames = moving_picture(3, height, width)
    path = write_video(GeneratedVideo(frames, 8, {}), tmp_path / "out.mp4")
    read, _ = read_video(path)
    assert read.shape == (3, height + height % 2, width + width % 2, 3)
    padded = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(int)
    assert np.abs(read - padded).mean() < 3
    stored = json.loads(sidecar_path(path).read_text())["video"]
    assert (stored["height_px"], stored["width_px"]) == read.shape[1:3]
    assert (stored["padded_bottom_px"], stored["padded_right_px"]) == (height % 2, width % 2)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ((("-profile:v", "high"), ("-profile:v", "baseline")), "another encoding"),
        ((("yuv420p", "yuv420p"), ("yuv420p", "yuv444p")), "another encoding|cannot be encoded"),
        ((("-crf", "16"), ("-crf", "16", "-frames:v", "3")), "another number of frames"),
        ((("-crf", "16"), ("-crf", "16", "-r", "9")), "another (number|times|frames)"),
        ((("-crf", "16"), ("-crf", "16", "-s", "64x64")), "another size"),
        ((("-crf", "16"), ("-crf", "16", "-map_metadata", "-1", "-metadata", "comment=")), "another settings"),
    ],
)
def test_a_file_that_reads_back_differently_is_never_kept(tmp_path, monkeypatch, changed, reason: str) -> None:
    """The encoder is told something else than what was asked for; what comes out must not get the name."""
    true_options = video_writer._mp4_options
    (old, new), path = changed, tmp_path / "out.mp4"

    def wrong_options(comment: str) -> tuple[str, ...]:
        if old[0] == old[1]:  # within the filter
            return tuple(option.replace(old[0], new[1]) for option in true_options(comment))
        options = list(true_options(comment))
        at = options.index(old[0])
        options[at : at + len(old)] = new
        if "comment=" in new:
            options[options.index(f"comment={comment}")] = "title="
        return tuple(options)

    monkeypatch.setattr(video_writer, "_mp4_options", wrong_options)
    with pytest.raises(VideoError, match=reason) as caught:
        write_video(video_of(moving_picture(5)), path)
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [8, 10, 24, 30000 / 1001, 33.3, 50])
def test_a_gif_keeps_frames_and_times(tmp_path, fps: float) -> None:
    frames = moving_picture(20, 33, 47)
    frames[7] = frames[6]  # a picture that does not change is a frame all the same
    path = write_gif(GeneratedVideo(frames, fps, {"seed": 3}, (0.5,)), tmp_path / "out.gif")
    with Image.open(path) as picture:
        assert (picture.n_frames, picture.size, picture.info["loop"]) == (20, (47, 33), 0)
        time_s = 0.0
        for number in range(20):
            picture.seek(number)
            assert time_s == pytest.approx(number / fps, abs=0.0101)
            shown = np.asarray(picture.convert("RGB")).astype(int)
            assert np.abs(shown - frames[number]).mean() < 12  # 256 colours
            time_s += picture.info["duration"] / 1000
    assert sidecar_path(path) == tmp_path / "out.gif.json"
    assert read_settings(path)["seed"] == 3
    read, _ = read_video(path)
    assert read.shape == frames.shape


def test_a_gif_beside_an_mp4_leaves_its_sidecar_alone(tmp_path) -> None:
    video = video_of(moving_picture(3))
    for name in ("out.mp4", "out.gif", "out"):
        write_result(video, tmp_path / name)
        assert read_settings(tmp_path / name)["seed"] == 0
    found = sorted(str(entry.relative_to(tmp_path)) for entry in tmp_path.rglob("*") if entry.is_file())
    frames = [f"out/frame_000{n}.png" for n in range(3)]
    assert found == ["out.gif", "out.gif.json", "out.json", "out.mp4", *frames, "out/settings.json"]
    for name in ("out.webm", "out.PNG"):
        with pytest.raises(VideoError, match=r"End the name in \.mp4 or \.gif"):
            write_result(video, tmp_path / name)
    with pytest.raises(VideoError, match="at most 50 frames"):
        write_result(GeneratedVideo(video.frames, 60, {}), tmp_path / "fast.gif")


def test_frames_are_written_without_loss_into_a_new_folder_only(tmp_path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (11, 21, 13, 3), dtype=np.uint8)
    folder = write_frames(GeneratedVideo(frames, 8, {"seed": 1}, (), {"all": 2.0}), tmp_path / "out")
    pictures = sorted(folder.glob("*.png"))
    assert [path.name for path in pictures] == [f"frame_{n:04}.png" for n in range(11)]
    np.testing.assert_array_equal(np.stack([cv2.imread(str(path))[..., ::-1] for path in pictures]), frames)
    size = {"num_frames": 11, "height_px": 21, "width_px": 13, "fps": 8}
    assert read_settings(folder) == {"seed": 1, "likeness": [], "timings_s": {"all": 2.0}, "video": size}
    with pytest.raises(VideoError, match="not an empty folder"):
        write_frames(video_of(frames), folder)
    assert len(list(folder.iterdir())) == 12
    (tmp_path / "file").write_text("mine")
    with pytest.raises(VideoError, match="not an empty folder"):
        write_frames(video_of(frames), tmp_path / "file")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "out"]


def test_unusual_names_are_only_names(tmp_path) -> None:
    """ffmpeg reads some names as protocols, options or patterns."""
    for name in ("a:b.mp4", "-y.mp4", "frame%03d.mp4", "http:.mp4", "a b'\"ü.mp4", "x" * 250 + ".mp4"):
        path = write_video(video_of(moving_picture(2, 16, 16)), tmp_path / name)
        assert len(read_video(path)[0]) == 2
        assert read_settings(path)["seed"] == 0
    assert len(list(tmp_path.iterdir())) == 2 * 6
    with pytest.raises(VideoError, match="too long"):  # its sidecar's name would have 256 characters
        write_video(video_of(moving_picture(2, 16, 16)), tmp_path / ("x" * 251 + ".mp4"))


def test_unusable_videos_are_refused_and_leave_nothing(tmp_path) -> None:
    out = tmp_path / "out.mp4"
    for frames in (np.zeros((3, 16, 16), np.uint8), np.zeros((0, 16, 16, 3), np.uint8), np.zeros((3, 16, 16, 3))):
        with pytest.raises(VideoError):
            write_video(video_of(frames), out)
    with pytest.raises(ConfigError, match="plain JSON"):
        write_video(video_of(moving_picture(2), value=float("nan")), out)
    with pytest.raises(ConfigError, match="plain JSON"):
        write_video(video_of(moving_picture(2), value=object()), out)
    with pytest.raises(ConfigError, match="characters"):
        write_video(video_of(moving_picture(2), prompt="x" * 200_000), out)
    assert list(tmp_path.iterdir()) == []


def test_output_names_are_checked_early(tmp_path) -> None:
    assert check_output_path(str(tmp_path / "a.mp4")) == tmp_path / "a.mp4"
    with pytest.raises(VideoError, match=r"End the name in \.mp4"):
        check_output_path(tmp_path / "a.avi")
    assert check_output_path(tmp_path / "a.GIF", (".mp4", ".gif")) == tmp_path / "a.GIF"
    with pytest.raises(VideoError, match="does not exist"):
        check_output_path(tmp_path / "missing" / "a.mp4")
    with pytest.raises(VideoError, match="too long"):
        check_output_path(tmp_path / ("a" * 300 + ".mp4"))
    (tmp_path / "b.json").mkdir()
    with pytest.raises(VideoError, match=r"b\.json.*it is a folder"):
        check_output_path(tmp_path / "b.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(VideoError, match="cannot be written"):
        check_output_path(tmp_path / "folder.mp4")


def test_a_failing_encoder_leaves_the_old_video(tmp_path, monkeypatch) -> None:
    path = write_video(video_of(moving_picture(3)), tmp_path / "out.mp4")
    before = path.read_bytes(), sidecar_path(path).read_bytes()
    monkeypatch.setattr("magicmirror.media.video_writer.CONSTANT_RATE_FACTOR", "nonsense")
    with pytest.raises(VideoError):
        write_video(video_of(moving_picture(9)), path)
    assert (path.read_bytes(), sidecar_path(path).read_bytes()) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_foreign_video_carries_no_settings(tmp_path) -> None:
    path = tmp_path / "foreign.mp4"
    source = ["-f", "lavfi", "-i", "color=red:s=32x32:r=10:d=0.5", "-metadata", "comment=holiday"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *source, str(path)], check=True)
    frames, fps = read_video(path)
    assert (frames.shape, fps) == ((5, 32, 32, 3), 10.0)
    with pytest.raises(VideoError, match="carries no settings"):
        read_settings(path)
