"""Video: what is written and read, and that files are complete or absent."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from magicmirror.errors import ConfigError, VideoError
from magicmirror.media import (
    check_output_path,
    read_settings,
    read_video,
    sidecar_path,
    write_video,
)
from magicmirror.types import GeneratedVideo


def four_colours(width: int = 48, height: int = 32) -> np.ndarray:
    """Red, green, blue and white quarters: every turn and mirror image differs."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (255, 0, 0)
    picture[: height // 2, width // 2 :] = (0, 255, 0)
    picture[height // 2 :, : width // 2] = (0, 0, 255)
    picture[height // 2 :, width // 2 :] = (255, 255, 255)
    return picture


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
    assert "Video: h264" in stream[0]
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
    with pytest.raises(VideoError, match="does not exist"):
        check_output_path(tmp_path / "missing" / "a.mp4")
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


WRITER = """
import sys, numpy as np
from magicmirror.media import write_video
from magicmirror.types import GeneratedVideo
frames = np.random.default_rng(0).integers(0, 256, (400, 256, 256, 3), dtype=np.uint8)
print("ready", flush=True)
write_video(GeneratedVideo(frames, 8, {"seed": 2}), sys.argv[1])
"""


@pytest.mark.parametrize("existing", [False, True])
def test_a_killed_writer_leaves_no_half_video(tmp_path, repository, existing: bool) -> None:
    path = tmp_path / "out.mp4"
    if existing:
        write_video(video_of(moving_picture(3)), path)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        cwd=repository,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 200
        while not any(partial_size(entry) for entry in tmp_path.iterdir()):
            assert writer.poll() is None, "the writer ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        os.killpg(writer.pid, signal.SIGKILL)  # the writer and its encoder
        writer.communicate()
    assert writer.returncode == -signal.SIGKILL
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir() if not entry.name.startswith(".")} == before


def partial_size(entry: Path) -> int:
    """Bytes of an unfinished video, 0 for other files."""
    return entry.stat().st_size if entry.name.startswith(".") and entry.suffix == ".mp4" else 0


def test_what_is_no_video_is_refused(tmp_path) -> None:
    good = write_video(video_of(moving_picture(2)), tmp_path / "good.mp4")
    cases = {
        "text.mp4": b"not a video",
        "empty.mp4": b"",
        "cut.mp4": good.read_bytes()[:200],
        # A playlist would make ffmpeg open other files.
        "list.mp4": f"#EXTM3U\n#EXTINF:1,\n{good}\n".encode(),
        "concat.mp4": f"ffconcat version 1.0\nfile {good}\n".encode(),
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(VideoError):
            read_video(tmp_path / name)
        with pytest.raises(VideoError):
            read_settings(tmp_path / name)
    with pytest.raises(VideoError, match="no video"):
        read_video(tmp_path / "missing.mp4")


def test_a_foreign_video_carries_no_settings(tmp_path) -> None:
    path = tmp_path / "foreign.mp4"
    source = ["-f", "lavfi", "-i", "color=red:s=32x32:r=10:d=0.5", "-metadata", "comment=holiday"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *source, str(path)], check=True)
    frames, fps = read_video(path)
    assert (frames.shape, fps) == ((5, 32, 32, 3), 10.0)
    with pytest.raises(VideoError, match="carries no settings"):
        read_settings(path)
