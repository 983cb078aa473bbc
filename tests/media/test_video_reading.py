"""Videos that are read: what is accepted, and that no file can take the memory or the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from magicmirror.errors import ConfigError, VideoError
from magicmirror.media import (
    iterate_frames,
    read_properties,
    read_settings,
    read_video,
    video_reader,
    write_video,
)
from magicmirror.media.ffmpeg import FFmpegFailed, run_ffmpeg, stream_ffmpeg
from magicmirror.types import GeneratedVideo


def levels(num_frames: int = 17, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames, each of one grey."""
    greys = (20 + 10 * np.arange(num_frames)).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (num_frames, height, width, 3)).copy()


def make(path: Path, *options: str) -> Path:
    """A video of ffmpeg's own making."""
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *options, "-y", str(path)], check=True)
    return path


def test_frames_come_one_by_one(tmp_path) -> None:
    path = write_video(GeneratedVideo(levels(), 8, {}), tmp_path / "a.mp4")
    all_frames, _ = read_video(path)
    np.testing.assert_array_equal(list(iterate_frames(path)), all_frames)
    np.testing.assert_array_equal(list(iterate_frames(path, every=4)), all_frames[::4])
    np.testing.assert_array_equal(list(iterate_frames(path, every=3, max_frames=2)), all_frames[:4:3])
    assert list(iterate_frames(path, max_frames=0)) == []
    first = next(frames := iterate_frames(path))
    frames.close()  # ends the decoder
    np.testing.assert_array_equal(first, all_frames[0])
    with pytest.raises(ConfigError, match="every"):
        next(iterate_frames(path, every=0))


def test_properties_are_those_of_the_upright_picture(tmp_path) -> None:
    path = write_video(GeneratedVideo(levels(), 8, {"seed": 0}), tmp_path / "a.mp4")
    found = read_properties(path)
    assert (found.width_px, found.height_px, found.fps, found.duration_s) == (48, 32, 8, pytest.approx(2.125, abs=0.01))
    assert (found.codec, found.profile, found.pixel_format) == ("h264", "High", "yuv420p")
    assert json.loads(found.comment)["seed"] == 0
    turned = make(tmp_path / "b.mp4", "-display_rotation", "90", "-i", str(path), "-c", "copy")
    assert (read_properties(turned).width_px, read_properties(turned).height_px) == (32, 48)
    assert read_video(turned)[0].shape == (17, 48, 32, 3)


@pytest.mark.parametrize("name", ["a.mov", "a.mkv", "a.webm", "a.avi", "a.gif", "mp4 by another name.dat"])
def test_other_containers_are_read(tmp_path, name: str) -> None:
    kind = {"dat": "mp4"}.get(name.rsplit(".", 1)[1], name.rsplit(".", 1)[1].replace("mkv", "matroska"))
    codec = {"webm": ("-c:v", "libvpx"), "avi": ("-c:v", "mpeg4"), "gif": ()}.get(kind, ("-c:v", "libx264"))
    source = ("-f", "lavfi", "-i", "color=red:s=48x32:r=10:d=0.7")
    path = make(tmp_path / name, *source, *codec, "-f", kind)
    frames, fps = read_video(path)
    assert (frames.shape, fps) == ((7, 32, 48, 3), 10.0)
    np.testing.assert_allclose(frames[3, 16, 24], (255, 0, 0), atol=8)


def test_what_is_no_video_is_refused_with_its_reason(tmp_path) -> None:
    good = write_video(GeneratedVideo(levels(2), 8, {}), tmp_path / "good.mp4")
    png = tmp_path / "picture.png"
    Image.new("RGB", (32, 32)).save(png)
    moving = tmp_path / "moving.webp"
    picture = Image.new("RGB", (32, 32))
    picture.save(moving, save_all=True, append_images=[Image.new("RGB", (32, 32), "red")])
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    cases = {
        "text.mp4": (b"not a video", "no video that can be read"),
        "empty.mp4": (b"", "is empty"),
        "short.mp4": (b"\x00\x00\x00\x18ftyp", "cut off"),
        # A playlist would make ffmpeg open other files.
        "list.mp4": (f"#EXTM3U\n#EXTINF:1,\n{good}\n".encode(), "no video that can be read"),
        "concat.mp4": (f"ffconcat version 1.0\nfile {good}\n".encode(), "no video that can be read"),
        "dash.mp4": (b'<?xml version="1.0"?><MPD>http://localhost/</MPD>', "no video that can be read"),
        "picture.mp4": (png.read_bytes(), "no video that can be read"),
        "moving.mp4": (moving.read_bytes(), "no video that can be read"),
        "random.mkv": (b"\x1aE\xdf\xa3" + np.random.default_rng(0).bytes(5000), "damaged"),
        "random.gif": (b"GIF89a" + np.random.default_rng(0).bytes(5000), "GIF|damaged|pixels"),
        "pipe.mp4": (None, "no video"),
        "folder.mp4": (None, "no video"),
        "missing.mp4": (None, "no video"),
    }
    for name, (data, reason) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        for read in (read_video, lambda path: list(iterate_frames(path)), read_properties):
            with pytest.raises(VideoError, match=reason) as caught:
                read(tmp_path / name)
            assert caught.value.remedy
        with pytest.raises(VideoError):
            read_settings(tmp_path / name)
    sound = make(tmp_path / "sound.mp4", "-f", "lavfi", "-i", "sine=d=0.2")
    with pytest.raises(VideoError, match="no pictures in it"):
        read_video(sound)


def test_an_mp4_cut_anywhere_is_refused(tmp_path) -> None:
    whole = write_video(GeneratedVideo(levels(), 8, {}), tmp_path / "whole.mp4").read_bytes()
    index_last = make(tmp_path / "last.mp4", "-i", str(tmp_path / "whole.mp4"), "-c", "copy").read_bytes()
    path = tmp_path / "cut.mp4"
    for data in (whole, index_last):
        for size in {1, 7, 8, 31, 32, 40, len(data) // 4, len(data) // 2, len(data) - 300, len(data) - 1}:
            path.write_bytes(data[:size])
            with pytest.raises(VideoError, match=r"cut off|no video that can be read|damaged"):
                read_video(path)


def test_a_damaged_video_is_read_or_refused(tmp_path) -> None:
    whole = write_video(GeneratedVideo(levels(5), 8, {"seed": 0}), tmp_path / "whole.mp4").read_bytes()
    rng = np.random.default_rng(0)
    remedies = set()
    for number in range(30):
        data = bytearray(whole)
        for position in rng.integers(0, len(data), 1 + number // 3):
            data[position] = rng.integers(0, 256)
        path = tmp_path / "damaged.mp4"
        path.write_bytes(data)
        try:
            assert read_video(path)[0].ndim == 4
        except VideoError as error:
            remedies.add(error.remedy)
    assert remedies and all(remedies)


def test_more_pixels_than_wanted_are_refused(tmp_path) -> None:
    path = write_video(GeneratedVideo(levels(), 8, {}), tmp_path / "a.mp4")
    pixels = 17 * 32 * 48
    assert len(read_video(path, max_pixels=pixels)[0]) == 17
    with pytest.raises(VideoError, match="more than 26,111 pixels") as caught:
        read_video(path, max_pixels=pixels - 1)
    assert "Shorten" in caught.value.remedy
    assert len(read_video(path, max_frames=16, max_pixels=pixels - 1)[0]) == 16


def test_8k_is_refused_before_it_is_decoded(tmp_path) -> None:
    source = ("-f", "lavfi", "-i", "color=red:s=7680x4320:r=8:d=0.125", "-c:v", "libx264", "-preset", "ultrafast")
    path = make(tmp_path / "8k.mp4", *source)
    for read in (read_video, read_properties, lambda path: list(iterate_frames(path))):
        with pytest.raises(VideoError, match=r"7680 x 4320 pixels a frame; at most 9,437,184") as caught:
            read(path)
        assert caught.value.remedy == "Reduce it."


# Own memory from /proc: ru_maxrss begins with that of the process which started this one, however large that is.
MEASURED = """
import resource, sys
from pathlib import Path
from magicmirror.errors import VideoError
from magicmirror.media import iterate_frames, read_video
frames = sum(1 for frame in iterate_frames(sys.argv[1]))
try:
    read_video(sys.argv[1])
    refused = False
except VideoError as error:
    refused = "pixels" in error.message
(own,) = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(frames, refused, int(own) // 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_length(tmp_path, repository, seconds: int) -> None:
    """Frames of 1080p: three seconds are 560 MB as RGB, a minute 11 GB."""
    source = ("-f", "lavfi", "-i", f"testsrc=s=1920x1080:r=30:d={seconds}", "-c:v", "libx264", "-preset", "ultrafast")
    path = make(tmp_path / "long.mp4", *source, "-pix_fmt", "yuv420p")
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path)], cwd=repository, capture_output=True, text=True, check=True
    )
    frames, refused, own_mb, decoder_mb = done.stdout.split()
    assert (int(frames), refused) == (30 * seconds, "True")
    assert int(own_mb) < 500  # the 300 MB that read_video may hold, and Python
    assert int(decoder_mb) < 300


def test_reading_ends_when_it_takes_too_long(tmp_path, monkeypatch) -> None:
    path = write_video(GeneratedVideo(levels(), 8, {}), tmp_path / "a.mp4")
    for read in (read_video, lambda path, timeout_s: list(iterate_frames(path, timeout_s=timeout_s)), read_properties):
        with pytest.raises(VideoError, match="takes too long") as caught:
            read(path, timeout_s=0.0005)
        assert caught.value.remedy
    frames = iterate_frames(path, timeout_s=2.0)
    next(frames)
    time.sleep(2.2)  # the caller's own time does not count
    assert len(list(frames)) == 16


def test_a_decoder_that_never_ends_is_ended() -> None:
    endless = ("-loglevel", "error", "-re", "-f", "lavfi", "-i", "color=s=16x16:r=20")
    started = time.monotonic()
    with pytest.raises(FFmpegFailed) as caught:
        run_ffmpeg(*endless, "-f", "null", "-", timeout_s=0.5)
    assert caught.value.timed_out
    chunks = []
    with pytest.raises(FFmpegFailed) as caught:
        chunks.extend(stream_ffmpeg(*endless, "-f", "rawvideo", "-", chunk_bytes=384, timeout_s=0.5))
    assert caught.value.timed_out
    assert time.monotonic() - started < 5


def test_a_noisy_decoder_does_not_stop_for_its_report(tmp_path) -> None:
    """More is reported than a pipe holds: somebody must read it while frames come."""
    report = ("-loglevel", "info", "-f", "lavfi", "-i", "color=s=16x16:r=20:d=30", "-vf", "showinfo")
    chunks = stream_ffmpeg(*report, "-f", "rawvideo", "-pix_fmt", "rgb24", "-", chunk_bytes=768, timeout_s=60)
    assert sum(1 for _ in chunks) == 600


def test_settings_of_absurd_size_are_not_read(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"seed": 0}')
    assert read_settings(path) == {"seed": 0}
    monkeypatch.setattr(video_reader, "_MAX_SETTINGS_BYTES", 5)
    with pytest.raises(VideoError, match="carries no settings"):
        read_settings(path)
    path.write_text("[" * 100_000)
    monkeypatch.undo()
    with pytest.raises(VideoError, match="carries no settings"):
        read_settings(path)
    with pytest.raises(VideoError, match="no file"):
        read_settings(tmp_path / "b.json")
