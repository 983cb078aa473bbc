"""Files and folders that appear under their final name complete or not at all.

Everything is written under a hidden name in the same folder, flushed to disk, and moved over the final name in one
step. A hidden name states the process that writes it, so that what a killed process left can be told from what is
being written: ``.out.4711-5f0c2a9e-1b7d03aa.partial.mp4`` (process id, start of that process, file).
"""

from __future__ import annotations

import errno
import functools
import math
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from magicmirror.errors import MagicMirrorError

LOCK_TIMEOUT_S = 10.0
_PARTIAL = re.compile(r"\..*\.(?P<pid>\d+)-(?P<start>[0-9a-f]{8})-[0-9a-f]{8}\.partial(?:\.[^.]*)?")
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")
_STEM_CHARS = 40  # a hidden name is longer than the final one, and must still be a valid name


@contextmanager
def complete_file(path: Path, error_type: type[MagicMirrorError], needed_bytes: int = 0) -> Iterator[Path]:
    """Give a hidden name beside ``path``, and move it there once it is complete and on disk.

    Args:
        path: Final name; a file that is there is replaced.
        error_type: What to raise when writing fails.
        needed_bytes: About how large the file will be; stated when the disk is full.

    Yields:
        Where to write.

    Raises:
        MagicMirrorError: Of ``error_type``, when the disk is full, the folder read-only or gone, the name too long
            or that of a folder, or the file cannot be written for another reason. Nothing new is left then.
    """
    with complete_files((path,), error_type, needed_bytes) as (partial,):
        yield partial


@contextmanager
def complete_files(
    paths: Sequence[Path], error_type: type[MagicMirrorError], needed_bytes: int = 0
) -> Iterator[tuple[Path, ...]]:
    """Write files of one folder that belong together; see ``complete_file``.

    The first file is the main one. Whatever happens, and whoever else writes the same names at the same time, a
    companion that is there belongs to the main file that is there: old companions go before the main file is
    replaced, and new ones come after it, under a lock on the folder. A process that is killed between these moves
    leaves a complete main file, old or new, without its companions.

    Yields:
        Where to write, in the order of ``paths``.
    """
    partials = tuple(hidden_name(path) for path in paths)
    try:
        for path in paths:
            check_target(path, error_type)
        with _reported(paths[0], error_type, needed_bytes):
            yield partials
            for partial in partials:
                _flush_to_disk(partial)
            if len(paths) == 1:
                os.replace(partials[0], paths[0])
            else:
                with locked_folder(paths[0].parent):
                    _move_together(partials, paths)
    finally:
        for partial in partials:
            _remove(partial)


@contextmanager
def complete_folder(
    path: Path, error_type: type[MagicMirrorError], needed_bytes: int = 0, replace: bool = False
) -> Iterator[Path]:
    """Give an empty hidden folder beside ``path``, and move it there once all in it is complete and on disk.

    Args:
        path: Final name.
        error_type: What to raise when writing fails.
        needed_bytes: About how much will be written; stated when the disk is full.
        replace: Whether a folder that is there, with all in it, makes way. No system call exchanges folders
            everywhere, so a process that is killed just then leaves nothing under the name. Otherwise nothing, or an
            empty folder, may be there.

    Yields:
        Where to write.

    Raises:
        MagicMirrorError: Of ``error_type``, as in ``complete_file``; also when something is in the way.
    """
    partial, old = hidden_name(path), hidden_name(path)
    try:
        with _reported(path, error_type, needed_bytes):
            partial.mkdir()
            yield partial
            for entry in partial.rglob("*"):
                if entry.is_file():
                    _flush_to_disk(entry)
            if replace and path.is_dir():
                os.replace(path, old)
            elif path.is_dir():
                path.rmdir()  # not every system moves a folder over an empty one
            os.replace(partial, path)
    finally:
        _remove(partial)
        _remove(old)


def check_target(path: Path, error_type: type[MagicMirrorError], as_folder: bool = False) -> None:
    """Check, before any time is spent, that a file, or a new folder, can be written under a name.

    Raises:
        MagicMirrorError: Of ``error_type``, as in ``complete_file`` or ``complete_folder``.
    """
    with _reported(path, error_type, 0):
        if not os.path.isdir(path.parent):
            raise _system_error(errno.ENOENT)
        with suppress(FileNotFoundError):
            path.lstat()  # a name that is too long shows here
        if os.path.isdir(path) and (not as_folder or any(path.iterdir())):
            raise _system_error(errno.ENOTEMPTY if as_folder else errno.EISDIR)
        if as_folder and os.path.lexists(path) and not os.path.isdir(path):
            raise _system_error(errno.ENOTDIR)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise _system_error(errno.EACCES)


def make_folder(path: Path, error_type: type[MagicMirrorError], remedy: str = "") -> None:
    """Make a folder and those above it.

    Raises:
        MagicMirrorError: Of ``error_type``, when it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise error_type(f'The folder "{path}" cannot be made: {error.strerror}.', remedy) from error


def make_writable_folder(path: Path, error_type: type[MagicMirrorError]) -> None:
    """Make a folder and those above it, and write a file there for a try, which leaves nothing behind.

    Raises:
        MagicMirrorError: Of ``error_type``, when something else is in the way, or the disk is full or read-only.
    """
    nearest = next(above for above in (path, *path.parents) if os.path.lexists(above))
    if not nearest.is_dir():
        raise error_type(f'"{nearest}" is not a folder.', "Choose another folder, or move it away.")
    missing = path.relative_to(nearest).parts
    with _reported(nearest / (missing[0] if missing else "file"), error_type, 0):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path, buffering=0) as tried:
            tried.write(b"tried")


def hidden_name(path: Path) -> Path:
    """Return a new hidden name beside ``path``, that says which process uses it."""
    pid = os.getpid()
    stem = path.stem.encode()[:_STEM_CHARS].decode(errors="ignore")
    return path.with_name(f".{stem}.{pid}-{_process_start(pid)}-{uuid.uuid4().hex[:8]}.partial{path.suffix[:8]}")


def remove_stale_partials(folder: Path, older_than_s: float = 3600.0) -> int:
    """Remove what killed writers left in a folder.

    A partial file or folder is stale when it was not changed for ``older_than_s`` *and* the process that wrote it is
    gone. The age matters where processes on several machines write to one folder: another machine's processes are
    not seen from here. Where processes cannot be asked for (Windows), the age decides alone.

    Args:
        folder: Looked through itself, without the folders in it.
        older_than_s: Seconds since the last change.

    Returns:
        How many were removed.
    """
    oldest_s = time.time() - older_than_s
    removed = 0
    for entry in folder.iterdir():
        name = _PARTIAL.fullmatch(entry.name)
        if name is None or _is_running(int(name["pid"]), name["start"]):
            continue
        with suppress(FileNotFoundError):  # somebody else tidies up as well
            if entry.lstat().st_mtime <= oldest_s:
                _remove(entry)
                removed += not os.path.lexists(entry)
    return removed


@contextmanager
def locked_folder(folder: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Keep other processes and threads that ask for the same lock out, where the system has such locks.

    Raises:
        TimeoutError: When another process holds the lock for longer than ``timeout_s``.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise TimeoutError(errno.ETIMEDOUT, "another process holds the lock on its folder") from error
                time.sleep(0.002)
            except OSError:
                break  # a network file system without locks
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough if a child process shares the descriptor
        os.close(descriptor)


def _move_together(partials: Sequence[Path], paths: Sequence[Path]) -> None:
    """Replace the main file and its companions in the order that ``complete_files`` promises."""
    aside = {path: hidden_name(path) for path in paths[1:] if path.exists()}
    try:
        for path, hidden in aside.items():
            os.replace(path, hidden)
        try:
            os.replace(partials[0], paths[0])
        except OSError:
            for path, hidden in aside.items():
                os.replace(hidden, path)
            raise
        for partial, path in zip(partials[1:], paths[1:], strict=True):
            os.replace(partial, path)
    finally:
        for hidden in aside.values():
            _remove(hidden)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as written:
        os.fsync(written.fileno())


def _remove(path: Path) -> None:
    """Remove a file or folder if that is possible: its folder may be gone or read-only by now."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@functools.lru_cache(maxsize=1)
def _process_start(pid: int) -> str:
    """Return a mark of this process: in a container every start may have the same process id."""
    del pid  # the argument gives a forked child a mark of its own
    return uuid.uuid4().hex[:8]


def _is_running(pid: int, start: str) -> bool:
    """Tell whether the process that used a hidden name may still be there."""
    if pid == os.getpid():
        return start == _process_start(pid)
    if os.name == "nt":  # there, the signal below would end the process
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _reported(path: Path, error_type: type[MagicMirrorError], needed_bytes: int) -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except OSError as error:
        raise error_type(*_explain(path, error, needed_bytes)) from error
    except MagicMirrorError:
        raise
    except Exception as error:
        # What is written in Rust, safetensors and tokenizers, has the system's error in its text alone.
        found = _RUST_ERROR.search(str(error))
        if found is None:
            raise
        raise error_type(*_explain(path, _system_error(int(found[1])), needed_bytes)) from error


def _system_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _explain(path: Path, error: OSError, needed_bytes: int) -> tuple[str, str]:
    """Return what is wrong, and what to do about it."""
    shown = str(path) if len(path.name) <= _STEM_CHARS else str(path.with_name(path.name[:_STEM_CHARS] + "..."))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        megabytes = max(1, math.ceil(needed_bytes / 1e6))
        return f'The disk is full: "{shown}" cannot be written.', f"Free {megabytes} MB or choose another folder."
    if error.errno == errno.ENAMETOOLONG:
        return f'The name "{shown}" is too long.', "Choose a shorter name."
    if not os.path.isdir(path.parent):
        return f'"{shown}" cannot be written: the folder "{path.parent}" does not exist.', "Make it first."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        reason = f'"{shown}" cannot be written: the folder "{path.parent}" is read-only for this program.'
        return reason, "Choose another folder, or allow writing to it."
    if error.errno == errno.EISDIR:
        return f'"{shown}" cannot be written: it is a folder.', "Choose another name."
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
        return f'"{shown}" cannot be written: it exists and is not an empty folder.', "Choose another name."
    if error.errno == errno.EFBIG:
        reason = f'"{shown}" cannot be written: it is larger than the file system or a limit of this process allows.'
        return reason, "Choose another folder, or write less."
    return f'"{shown}" cannot be written: {error.strerror or error}.', "Try again, or choose another folder."
