"""One of several processes that write into one folder at the same time.

python many_writers.py videos|pairs FOLDER WRITER OWN SHARED

It writes OWN results under names of its own and SHARED ones under names that all writers use. What is in a file says
who wrote it, when, and under which name.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from magicmirror.errors import VideoError
from magicmirror.media import complete_files, write_video
from magicmirror.types import GeneratedVideo

SHARED_NAMES = 3


def level(name, writer):
    """A grey that belongs to a name and a writer."""
    return 40 + hashlib.sha256(f"{name} {writer}".encode()).digest()[0] % 160


def write(kind, path, writer, number):
    settings = {"name": path.stem, "writer": writer, "number": number}
    if kind == "videos":
        frames = np.full((2, 16, 16, 3), level(path.stem, writer), np.uint8)
        write_video(GeneratedVideo(frames, 8, settings), path)
        return
    text = json.dumps(settings)
    with complete_files((path, path.with_suffix(".json")), VideoError) as (main, companion):
        main.write_text("\n".join([text] * 300))
        companion.write_text(text)


def main():
    kind, folder, writer, own, shared = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    suffix = ".mp4" if kind == "videos" else ".txt"
    sys.stdin.readline()  # all begin together
    for number in range(max(own, shared)):
        if number < own:
            write(kind, folder / f"own-{writer}-{number}{suffix}", writer, number)
        if number < shared:
            write(kind, folder / f"shared-{number % SHARED_NAMES}{suffix}", writer, number)


if __name__ == "__main__":
    main()
