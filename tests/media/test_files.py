"""Files and folders: complete under their final name or not there; every refusal of the system said plainly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from magicmirror.errors import ConfigError, VideoError, WeightsError
from magicmirror.media import complete_file, complete_files, complete_folder, remove_stale_partials
from magicmirror.media.files import hidden_name, locked_folder

SCRIPTS = Path(__file__).parent


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with complete_file(path, VideoError) as partial:
        partial.write_text("new")
        assert partial.name.startswith(".") and partial.suffix == ".txt"
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_failure_inside_leaves_what_was_there(tmp_path) -> None:
    paths = (tmp_path / "a.mp4", tmp_path / "a.json")
    for path in paths:
        path.write_text("old")
    with pytest.raises(RuntimeError, match="inside"), complete_files(paths, VideoError) as partials:  # noqa: PT012
        for partial in partials:
            partial.write_text("new")
        raise RuntimeError("inside")
    with pytest.raises(WeightsError, match="cannot be written"), complete_files(paths, WeightsError) as partials:
        partials[0].write_text("new")  # the second is never written
    assert [path.read_text() for path in paths] == ["old", "old"]
    assert names(tmp_path) == ["a.json", "a.mp4"]


def test_a_main_file_that_cannot_be_replaced_keeps_its_companion(tmp_path) -> None:
    main, companion = tmp_path / "a.mp4", tmp_path / "a.json"
    companion.write_text("old")
    with pytest.raises(VideoError, match="folder"), complete_files((main, companion), VideoError) as partials:  # noqa: PT012
        for partial in partials:
            partial.write_text("new")
        main.mkdir()  # somebody else takes the name meanwhile
    assert companion.read_text() == "old"
    assert names(tmp_path) == ["a.json", "a.mp4"]


def test_a_folder_appears_with_everything_in_it(tmp_path) -> None:
    final = tmp_path / "frames"
    with complete_folder(final, VideoError) as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "a").write_text("a")
        assert not final.exists()
    assert (final / "sub" / "a").read_text() == "a"
    with pytest.raises(VideoError, match="not an empty folder"), complete_folder(final, VideoError) as partial:
        (partial / "b").write_text("b")
    assert names(final) == ["sub"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with complete_folder(empty, VideoError) as partial:
        (partial / "b").write_text("b")
    assert names(empty) == ["b"]
    with pytest.raises(RuntimeError), complete_folder(tmp_path / "c", VideoError) as partial:  # noqa: PT012
        (partial / "c").write_text("c")
        raise RuntimeError
    assert names(tmp_path) == ["empty", "frames"]


def test_a_folder_makes_way_only_where_that_is_asked_for(tmp_path) -> None:
    final = tmp_path / "step-1"
    for text in ("first", "second"):
        with complete_folder(final, WeightsError, replace=True) as partial:
            (partial / text).write_text(text)
        assert names(final) == [text]
    with pytest.raises(RuntimeError), complete_folder(final, WeightsError, replace=True) as partial:
        raise RuntimeError
    assert names(final) == ["second"]
    assert names(tmp_path) == ["step-1"]


def test_unusable_names_are_refused_with_their_reason(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    cases = {
        tmp_path / "missing" / "a": ("does not exist", "Make it first"),
        tmp_path / "file" / "a": ("does not exist", "Make it first"),
        tmp_path / "folder": ("it is a folder", "another name"),
        tmp_path / ("n" * 256): ("is too long", "shorter"),
    }
    for path, (reason, remedy) in cases.items():
        begun = False
        with pytest.raises(VideoError, match=reason) as caught, complete_file(path, VideoError):
            begun = True
        assert remedy in caught.value.remedy
        assert not begun, "refused before any time is spent"
    with complete_file(tmp_path / ("n" * 251 + ".txt"), VideoError) as partial:
        partial.write_text("the longest name")
    assert len(names(tmp_path)) == 3


def test_a_folder_that_disappears_meanwhile_is_reported(tmp_path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(VideoError, match="does not exist"), complete_file(folder / "a", VideoError) as partial:  # noqa: PT012
        partial.write_text("a")
        shutil.rmtree(folder)
    assert names(tmp_path) == []


# Where the system refuses: what is said, for all kinds of results, and that nothing is left.


def refused(folder: Path, repository: Path, *arguments: str, mount: str = "", setup: str = "") -> list[dict]:
    """Run the refused writer, if asked for on a file system of its own; skip where that is not allowed."""
    command = [sys.executable, str(SCRIPTS / "refused_writer.py"), str(folder), *arguments]
    if mount:
        isolate = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-Urm"]
        script = f'mount -t tmpfs {mount} none "$0" && {setup or ":"}'
        if not shutil.which("unshare") or subprocess.run([*isolate, "sh", "-c", script, str(folder)]).returncode:
            pytest.skip("this system allows no mounts of one's own")
        command = [*isolate, "sh", "-c", f'{script} && exec "$@"', str(folder), *command]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [report["kind"] for report in reports] == ["video", "gif", "frames", "picture"]
    return reports


def check_refusals(reports: list[dict], reason: str, remedy: str) -> None:
    for report in reports:
        assert report["error"] == ("ImageError" if report["kind"] == "picture" else "VideoError"), report
        assert reason in report["message"]
        assert remedy in report["remedy"]
        assert report["left"] == []


@pytest.mark.parametrize("fill", [False, True])
def test_a_full_disk_is_reported(tmp_path, repository, fill: bool) -> None:
    """On a real file system of half a MB: it fills up while a result is written, or has no byte left at all."""
    reports = refused(tmp_path, repository, *["--fill"] * fill, mount="-o size=512k")
    check_refusals(reports, "The disk is full", "MB or choose another folder")
    megabytes = {report["kind"]: int(report["remedy"].split()[1]) for report in reports}
    assert megabytes["frames"] >= 3  # 12 x 256 x 256 x 3 bytes of noise


def test_a_limit_on_the_size_of_files_is_reported(tmp_path, repository) -> None:
    """The system refuses to go on in the middle of a file; needs no rights, so it runs everywhere."""
    reports = refused(tmp_path, repository, "--limit", "100000")
    check_refusals(reports, "larger than the file system or a limit", "write less")
    assert names(tmp_path) == []


def test_a_read_only_file_system_is_reported(tmp_path, repository) -> None:
    check_refusals(refused(tmp_path, repository, mount="-o ro"), "is read-only", "Choose another folder")


def test_a_folder_without_the_right_to_write_is_reported(tmp_path, repository) -> None:
    """Root may write anywhere, so it becomes somebody else first."""
    tmp_path.chmod(0o555)
    try:
        reports = refused(tmp_path, repository, *(["--user", "65534"] if os.getuid() == 0 else []))
    finally:
        tmp_path.chmod(0o755)
    check_refusals(reports, "is read-only", "Choose another folder")


# What killed writers leave.


def left_by(pid: int, folder: Path) -> Path:
    """A partial file as another process would have called it."""
    own = hidden_name(folder / "out.mp4").name
    partial = folder / own.replace(f".{os.getpid()}-", f".{pid}-")
    partial.write_text("half")
    return partial


def test_only_old_partials_of_ended_processes_are_removed(tmp_path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        stale, fresh, busy = (left_by(pid, tmp_path) for pid in (ended.pid, ended.pid, running.pid))
        own = left_by(os.getpid(), tmp_path)
        earlier = tmp_path / own.name.replace(own.name.split("-")[1], "0123abcd")  # this id, but another process
        earlier.write_text("half")
        stale_folder = tmp_path / stale.name.replace("out", "frames")
        (stale_folder / "sub").mkdir(parents=True)
        for name in ("out.mp4", ".hidden", ".out.partial", f".out.{ended.pid}.partial"):
            (tmp_path / name).write_text("not ours to remove")
        hour_ago = time.time() - 3601
        for entry in set(tmp_path.iterdir()) - {fresh}:
            os.utime(entry, (hour_ago, hour_ago))
        before = set(tmp_path.iterdir())
        assert remove_stale_partials(tmp_path, older_than_s=3600) == 3
        assert before - set(tmp_path.iterdir()) == {stale, stale_folder, earlier}
        assert busy.exists() and own.exists()
    finally:
        running.communicate(b"\n")
    assert remove_stale_partials(tmp_path, older_than_s=0) == 2  # the fresh one, and that of the process that ended


# The lock, and many writers at once.


def test_the_lock_keeps_threads_apart_and_does_not_wait_for_ever(tmp_path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locked_folder(tmp_path):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    paths = (tmp_path / "a", tmp_path / "b")
    with locked_folder(tmp_path), pytest.raises(TimeoutError, match="another process"):  # noqa: SIM117
        with locked_folder(tmp_path, timeout_s=0.05):
            pass
    with complete_files(paths, ConfigError) as partials:  # it was given back
        for partial in partials:
            partial.write_text("x")
    assert names(tmp_path) == ["a", "b"]


def test_a_thousand_writes_in_eight_processes_lose_and_mix_none(tmp_path, repository) -> None:
    """Pairs of files: 800 under names of their own, 200 under three names that all processes write."""
    run_writers(tmp_path, repository, "pairs", own=100, shared=25)
    assert len(names(tmp_path)) == 2 * 803
    for path in tmp_path.glob("*.txt"):
        lines = path.read_text().splitlines()
        assert len(lines) == 300 and len(set(lines)) == 1, "whole, and from one writer"
        assert path.with_suffix(".json").read_text() == lines[0], "the companion belongs to its main file"
        settings = json.loads(lines[0])
        assert settings["name"] == path.stem
        if path.stem.startswith("own"):
            assert path.stem == f"own-{settings['writer']}-{settings['number']}"


def run_writers(folder: Path, repository: Path, kind: str, own: int, shared: int) -> None:
    """Run eight writers that begin together."""
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    command = [sys.executable, str(SCRIPTS / "many_writers.py"), kind, str(folder)]
    writers = [
        subprocess.Popen(
            [*command, str(n), str(own), str(shared)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        for n in range(8)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    errors = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 8, errors
