"""A small file system of a test's own, for a disk that fills up."""

import os
import shutil
import subprocess
import sys

import pytest


def run_on_a_disk_of_its_own(folder, size, repository, *arguments):
    """Run Python on a file system of ``size``, as ``4m``, in a folder, and return what came of it; or skip."""
    isolate = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-Urm"]
    mounted = [*isolate, "sh", "-c", f'mount -t tmpfs -o size={size} none "$0" && exec "$@"', str(folder)]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], check=False).returncode:
        pytest.skip("this system allows no mounts of one's own")
    return subprocess.run(
        [*mounted, sys.executable, *map(str, arguments)],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
