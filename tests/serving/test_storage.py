"""Result folders: apart by session, removed by age, cleaned of what a killed process left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from magicmirror.errors import ConfigError
from magicmirror.media.files import hidden_name
from magicmirror.serving.storage import ResultStorage


def test_sessions_have_their_own_folder_whatever_their_key_holds(tmp_path):
    storage = ResultStorage(tmp_path)
    keys = ["a", "b", "../../outside", "", "x" * 5000, "\0\n"]
    folders = {storage.video_path(key, "job").parent for key in keys}
    assert len(folders) == len(keys)
    assert all(folder.parent == tmp_path and folder.is_dir() for folder in folders)
    assert not any("outside" in folder.name for folder in folders)


def test_old_results_go_and_new_ones_stay(tmp_path):
    storage = ResultStorage(tmp_path, max_age_s=100)
    old, new, lone = (storage.video_path(*key) for key in (("s", "old"), ("s", "new"), ("t", "lone")))
    for path in (old, new, lone):
        path.write_bytes(b"video")
    for path in (old, lone):
        os.utime(path, (time.time() - 200, time.time() - 200))
    assert storage.remove_expired() == 2
    assert new.exists() and not old.exists() and not lone.exists()
    assert storage.remove_expired(time.time() + 1000) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_age_limit_keeps_everything(tmp_path):
    storage = ResultStorage(tmp_path, max_age_s=0)
    path = storage.video_path("s", "job")
    path.write_bytes(b"video")
    assert storage.remove_expired(time.time() + 1e9) == 0 and path.exists()


def test_files_that_are_not_ours_are_left_alone(tmp_path):
    mine = tmp_path / "notes.txt"
    mine.write_text("keep")
    other = tmp_path / "folder" / ".x.partial.mp4"
    other.parent.mkdir()
    other.write_text("keep")
    ResultStorage(tmp_path, max_age_s=1).remove_expired(time.time() + 1e9)
    assert mine.exists() and other.exists()


def test_start_removes_half_written_files(tmp_path):
    done = ResultStorage(tmp_path).video_path("s", "job")
    done.write_bytes(b"video")
    being_written = hidden_name(done)
    being_written.write_bytes(b"half")
    code = "import sys, pathlib, magicmirror.media.files as f; print(f.hidden_name(pathlib.Path(sys.argv[1])))"
    ended = subprocess.run([sys.executable, "-c", code, str(done)], capture_output=True, text=True, check=True)
    half = Path(ended.stdout.strip())
    half.write_bytes(b"half")
    ResultStorage(tmp_path)
    assert done.exists() and being_written.exists() and not half.exists()


def test_a_session_can_be_removed(tmp_path):
    storage = ResultStorage(tmp_path)
    mine, other = storage.video_path("a", "job"), storage.video_path("b", "job")
    for path in (mine, other):
        path.write_bytes(b"video")
    storage.remove_session("a")
    storage.remove_session("never seen")
    assert not mine.exists() and other.exists()


def test_an_impossible_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="output folder"):
        ResultStorage(tmp_path / "file")


def test_the_oldest_go_above_the_total_size_whole_jobs_at_a_time(tmp_path):
    storage = ResultStorage(tmp_path, max_age_s=0, max_bytes=250)
    now = time.time()
    for age, job in enumerate(("newest", "middle", "oldest")):
        for part in (1, 2):
            path = storage.video_path("s", job, part)
            path.write_bytes(b"x" * 50)
            os.utime(path, (now - 100 * age - part, now - 100 * age - part))
    assert storage.remove_expired(keep={"oldest"}) == 0  # 200 bytes count, the job that runs does not
    assert storage.remove_expired() == 2
    assert sorted(path.name.split(".")[0] for path in tmp_path.glob("*/*")) == [
        "magicmirror-middle", "magicmirror-middle", "magicmirror-newest", "magicmirror-newest",
    ]  # fmt: skip


def test_one_job_is_removed_with_its_parts_and_no_other(tmp_path):
    storage = ResultStorage(tmp_path)
    for job in ("ab", "abc"):
        for part in (0, 1):
            storage.video_path("s", job, part).write_bytes(b"x")
        storage.record_path("s", job).write_text("{}")
    storage.remove_job("s", "ab", record_too=False)
    assert len(list(storage.records("s"))) == 2
    storage.remove_job("s", "ab")
    assert {path.name.split(".")[0] for path in tmp_path.glob("*/*")} == {"magicmirror-abc"}
