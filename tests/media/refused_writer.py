"""A process that tries to write where the system refuses it, and says what happened.

python refused_writer.py FOLDER [--limit BYTES] [--fill] [--user ID]

``--limit`` is the largest file that this process may write, ``--fill`` fills the disk to the last byte first, and
``--user`` changes to another user, once everything is loaded. For every kind of result one line of JSON says which
error came.
"""

import argparse
import json
import os
import resource
import sys
from pathlib import Path

import numpy as np
import PIL.Image  # noqa: F401 - loaded while its files may still be read

from magicmirror.errors import MagicMirrorError
from magicmirror.media import write_frames, write_gif, write_image, write_video
from magicmirror.types import GeneratedVideo


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--fill", action="store_true")
    parser.add_argument("--user", type=int)
    args = parser.parse_args()
    noise = np.random.default_rng(0).integers(0, 256, (12, 256, 256, 3), dtype=np.uint8)
    video = GeneratedVideo(noise, 8, {"seed": 0})
    os.chdir(args.folder)  # the way to the folder may be closed to another user
    if args.fill:
        fill_disk(Path("filler"))
    if args.limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (args.limit, args.limit))
    if args.user:
        os.setuid(args.user)
    large = np.concatenate(list(noise))
    attempts = {
        "video": lambda: write_video(video, "out.mp4"),
        "gif": lambda: write_gif(video, "out.gif"),
        "frames": lambda: write_frames(video, "out"),
        "picture": lambda: write_image(large, "out.png"),
    }
    for kind, attempt in attempts.items():
        before = sorted(os.listdir("."))
        report = {"kind": kind, "error": None}
        try:
            attempt()
        except MagicMirrorError as error:
            report.update(error=type(error).__name__, message=error.message, remedy=error.remedy)
        report["left"] = sorted(set(os.listdir(".")) - set(before))
        sys.stdout.write(json.dumps(report) + "\n")


def fill_disk(path, room=0):
    """Write until the disk is full, then give ``room`` bytes back."""
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
        file.truncate(file.tell() - room)


if __name__ == "__main__":
    main()
