"""A small file system of a test's own, for a disk that fills up."""

import os
import shutil
import subprocess

import pytest


def on_a_disk_of_its_own(folder, size):
    """Return what a command begins with to see a file system of ``size``, as ``4m``, in a folder; or skip."""
    isolate = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-Urm"]
    mounted = [*isolate, "sh", "-c", f'mount -t tmpfs -o size={size} none "$0" && exec "$@"', str(folder)]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], check=False).returncode:
        pytest.skip("this system allows no mounts of one's own")
    return mounted
