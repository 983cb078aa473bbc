import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource, sys, threading
from magicmirror.pipeline.freed_memory import keep_freed_memory

if "keep" in sys.argv:
    assert keep_freed_memory()

size = 48_000_000

def work():
    for _ in range(20):
        b"x" * size

thread = threading.Thread(target=work)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator has these settings")
def test_freed_memory_is_used_again_also_in_a_thread():
    root = str(Path(__file__).parents[2])

    def faults(*arguments):
        command = [sys.executable, "-c", FAULTS, *arguments]
        return int(
            subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, capture_output=True, check=True).stdout
        )

    pages = 48_000_000 // 4096  # of one array
    given_back, kept = faults(), faults("keep")
    assert given_back > 15 * pages  # otherwise there is nothing to gain
    assert kept < given_back - 15 * pages
