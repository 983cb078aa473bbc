"""A writer that is killed at every moment at which it touches its folder or starts a program, one after the other.

python killed_writer.py video|frames FOLDER new|existing

The interpreter reports every opening, moving and removing of a file and every start of a program. In round n a forked
child ends itself with SIGKILL right before its n-th such event; the parent prints what is left under the final name.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np

from magicmirror.media import read_settings, read_video, sidecar_path, write_result
from magicmirror.types import GeneratedVideo

WATCHED = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "subprocess.Popen", "fcntl.flock")
NUM_FRAMES = 3


def video(age):
    frames = np.full((NUM_FRAMES, 16, 16, 3), 60 if age == "old" else 180, np.uint8)
    return GeneratedVideo(frames, 8, {"age": age})


def killed_at(moment, path):
    """Write in a child that dies right before an event; returns that event, or nothing if it was done before."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event, arguments):
            nonlocal seen
            if event not in WATCHED:
                return
            inside = event in ("subprocess.Popen", "fcntl.flock") or any(str(path.parent) in str(a) for a in arguments)
            seen += inside
            if inside and seen == moment + 1:
                os.write(writer, event.encode())
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            write_result(video("new"), path)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as report:
        event = report.read()
    _, status = os.waitpid(child, 0)
    assert status == (signal.SIGKILL if event else 0), (status, event)
    return event


def left_behind(path):
    """Age of the video and of the settings under the final name; a video that is there must be whole."""
    ages = []
    if path.is_dir():
        pictures = sorted(path.glob("frame_*.png"))
        assert len(pictures) == NUM_FRAMES
        return [read_settings(path)["age"]] * 2
    for file in (path, sidecar_path(path)):
        ages.append(read_settings(file)["age"] if file.exists() else None)
    if ages[0]:
        frames, _ = read_video(path)
        np.testing.assert_allclose(frames, video(ages[0]).frames, atol=4)
    return ages


def main():
    kind, folder, before = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    path = folder / ("out.mp4" if kind == "video" else "out")
    kept = folder.with_name("kept")
    kept.mkdir()
    if before == "existing":
        write_result(video("old"), kept / path.name)
    for moment in range(1000):
        for entry in folder.iterdir():
            if not entry.name.startswith("."):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        event = killed_at(moment, path)
        sys.stdout.write(json.dumps([event, *left_behind(path)]) + "\n")
        if not event:
            return


if __name__ == "__main__":
    main()
