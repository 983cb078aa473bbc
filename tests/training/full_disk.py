"""A process that writes a second checkpoint on a disk with too little room for it, and says what happened.

python full_disk.py FOLDER ROOM

A file fills the disk of FOLDER up to ROOM bytes first. One line of JSON says which error came, what is in the folder
afterwards, and from which step a run would go on.
"""

import json
import os
import sys
from pathlib import Path

from magicmirror.errors import WeightsError
from magicmirror.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from tests.media.refused_writer import fill_disk
from tests.training.checkpoint_writer import CONFIG, make_parts


def main():
    folder, room = Path(sys.argv[1]), int(sys.argv[2])
    run, parts = folder / "run", make_parts()
    save_checkpoint(run, 1, CONFIG, *parts, keep=2)
    fill_disk(folder / "filler", room)
    report = {"message": None}
    try:
        save_checkpoint(run, 2, CONFIG, *parts, keep=2)
    except WeightsError as error:
        report = {"message": error.message, "remedy": error.remedy}
    report["left"] = os.listdir(run)
    report["step"] = load_checkpoint(checkpoints(run)[-1], *parts)["step"]
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
