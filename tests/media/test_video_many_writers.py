"""Writers of videos that are killed, and writers that work at the same time."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from magicmirror.media import read_settings, remove_stale_partials, sidecar_path, write_video
from magicmirror.types import GeneratedVideo

SCRIPTS = Path(__file__).parent


@pytest.mark.parametrize(("kind", "before"), [("video", "new"), ("video", "existing"), ("frames", "new")])
def test_a_writer_killed_at_any_moment_leaves_nothing_half(tmp_path, repository, kind: str, before: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "killed_writer.py"), kind, str(folder), before],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(repository)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    moments = [json.loads(line) for line in done.stdout.splitlines()]
    old = None if before == "new" else "old"
    # Settings are those of the video beside them; between the moves there are none, and the video has its own.
    assert {(video, settings) for _, video, settings in moments} <= {
        (old, old),
        ("new", "new"),
        *({(old, None), ("new", None)} if kind == "video" else ()),
    }
    events = [event for event, _, _ in moments]
    assert events[-1] == "" and moments[-1][1:] == ["new", "new"]
    assert moments[0][1:] == [old, old]
    assert len(moments) > 10
    if kind == "video":
        assert events.count("subprocess.Popen") == (2 if old else 3), "encoder and reader; once, a look for the program"
        assert ["os.rename", "new", None] in moments, "killed between the two moves"
    assert remove_stale_partials(folder, older_than_s=0) >= len(moments) - 6
    assert not [entry for entry in folder.iterdir() if entry.name.startswith(".")]


WRITER = """
import sys, numpy as np
from magicmirror.media import write_video
from magicmirror.types import GeneratedVideo
frames = np.random.default_rng(0).integers(0, 256, (400, 256, 256, 3), dtype=np.uint8)
print("ready", flush=True)
write_video(GeneratedVideo(frames, 8, {"seed": 2}), sys.argv[1])
"""


@pytest.mark.parametrize("existing", [False, True])
def test_a_writer_killed_with_its_encoder_leaves_no_half_video(tmp_path, repository, existing: bool) -> None:
    path = tmp_path / "out.mp4"
    if existing:
        write_video(GeneratedVideo(np.zeros((3, 16, 16, 3), np.uint8), 8, {}), path)
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


@pytest.mark.parametrize(("own", "shared"), [(8, 2), pytest.param(100, 25, marks=pytest.mark.slow)])
def test_writers_in_eight_processes_lose_and_mix_no_video(tmp_path, repository, own: int, shared: int) -> None:
    """The slow case makes 1,000 videos; the same with pairs of small files is in ``test_files``."""
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    command = [sys.executable, str(SCRIPTS / "many_writers.py"), "videos", str(tmp_path)]
    writers = [
        subprocess.Popen([*command, str(n), str(own), str(shared)], stdin=subprocess.PIPE, env=environment)
        for n in range(8)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers] == [0] * 8
    script = runpy.run_path(str(SCRIPTS / "many_writers.py"))
    level = script["level"]
    videos = sorted(tmp_path.glob("*.mp4"))
    assert len(videos) == 8 * own + min(shared, script["SHARED_NAMES"])
    assert len(list(tmp_path.iterdir())) == 2 * len(videos)
    for path in videos:
        settings = read_settings(path)
        beside = read_settings(sidecar_path(path))
        assert {key: beside[key] for key in settings} == settings, "the sidecar belongs to its video"
        assert settings["name"] == path.stem
        if path.stem.startswith("own"):
            assert path.stem == f"own-{settings['writer']}-{settings['number']}"
        reader = cv2.VideoCapture(str(path))
        frames = [reader.read()[1], reader.read()[1]]
        assert not reader.read()[0]
        np.testing.assert_allclose(frames, level(path.stem, settings["writer"]), atol=3)
