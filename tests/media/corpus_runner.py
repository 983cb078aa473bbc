"""Feeds a range of the corpus to the loader and the analyzer, in processes that may die.

    python -m tests.media.corpus_runner FIRST LAST FILE

The libraries are loaded once; then every few hundred inputs get a process of their own. What became of each input is
one line of JSON in FILE. The number of an input is written before it is tried, so that a crash, a kill by the watchdog
or a kill for memory names its input.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BLOCK = 250
CPU_LIMIT_S = 5.0
WALL_LIMIT_S = 60.0
"""The machine may be busy with other things, so the hard limit is on processor time."""
ADDRESS_SPACE_BYTES = 6 * 1024**3
MEMORY_LIMIT_BYTES = 1_000_000_000


@contextlib.contextmanager
def watchdog() -> Iterator[None]:
    """Kill this process when one input takes too long, be it inside a library."""
    signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
    signal.setitimer(signal.ITIMER_REAL, WALL_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def try_input(number: int, analyze: Callable[[Any], Any], seen: set[bytes], folder: Path) -> dict[str, Any]:
    """Load one input and, if its picture is a new one, look for faces in it."""
    from magicmirror.errors import ImageError
    from magicmirror.media import load_image
    from tests.media.corpus import make_input

    bad = make_input(number)
    source: bytes | Path = bad.data
    if bad.suffix is not None:
        source = folder / f"picture{bad.suffix}"
        source.write_bytes(bad.data)
    answer: dict[str, Any] = {"kind": bad.kind, "analysed": False, "faces": 0}
    started = time.process_time()
    with watchdog():
        try:
            picture = load_image(source)
            answer["outcome"] = "loaded"
            assert (
                picture.ndim == 3 and picture.shape[2] == 3 and picture.flags.c_contiguous and picture.flags.writeable
            )
            mark = hashlib.sha1(repr(picture.shape).encode() + picture.tobytes(), usedforsecurity=False).digest()
            if mark not in seen:
                seen.add(mark)
                answer["analysed"] = True
                answer["faces"] = len(analyze(picture))
        except ImageError as error:
            answer["outcome"] = type(error).__name__ if error.message and error.remedy else f"no remedy: {error}"
        except Exception as error:  # what must not happen is what is looked for
            answer["outcome"] = f"not ours: {error!r}"
    answer["seconds"] = time.process_time() - started
    answer["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return answer


def run_block(numbers: range, analyze: Callable[[Any], Any], file: Path) -> None:
    """Try some inputs in this process, which the next one does not share."""
    seen: set[bytes] = set()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder, file.open("a", buffering=1) as lines:
        for number in numbers:
            lines.write(json.dumps({"number": number}) + "\n")
            lines.write(json.dumps({"number": number, **try_input(number, analyze, seen, Path(folder))}) + "\n")


def main() -> None:
    """Load everything once, then fork a process for each block."""
    first, last, file = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    import cv2

    from magicmirror.faces.analyzer import create_face_analyzer
    from magicmirror.media import load_image
    from tests.media.corpus import bases, faces
    from tests.media.corpus_bases import EXAMPLE

    cv2.setNumThreads(1)
    analyzer = create_face_analyzer("dlib")
    assert len(analyzer.analyze(load_image(EXAMPLE))) == 1
    bases(), faces()
    number = first
    while number < last:
        block = range(number, min(number + BLOCK, last))
        child = os.fork()
        if child == 0:
            run_block(block, analyzer.analyze, file)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        number = block.stop
        if status:
            tried = json.loads(file.read_text().splitlines()[-1])["number"]
            with file.open("a") as lines:
                lines.write(
                    json.dumps({"number": tried, "outcome": f"died: {os.waitstatus_to_exitcode(status)}"}) + "\n"
                )
            number = tried + 1


if __name__ == "__main__":
    main()
