"""Folders of results: one per session under the output folder, files named by job, removed by age and total size.

Only videos, pictures, their settings and the record of each job are kept here. Reference photos and faces are never
written to disk by the engine.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from magicmirror.errors import ConfigError
from magicmirror.media import remove_stale_partials
from magicmirror.media.files import hidden_name

log = logging.getLogger(__name__)

SESSION_PREFIX = "session-"
FILE_PREFIX = "magicmirror-"
RECORD_SUFFIX = ".job"
_OURS = re.compile(re.escape(FILE_PREFIX) + r"(?P<job>[A-Za-z0-9_-]+)\..+")


@dataclass
class _JobFiles:
    """All files of one job: they are removed together."""

    paths: list[Path]
    size_bytes: int = 0
    newest_s: float = 0.0


class ResultStorage:
    """Hands out paths for results and removes what is old or too much.

    Args:
        root: Output folder; made when missing.
        max_age_s: Results older than this are removed by ``remove_expired``; 0 keeps them.
        max_bytes: Above this total the oldest results are removed; 0 sets no limit.

    Raises:
        ConfigError: When the folder cannot be made.
    """

    def __init__(self, root: Path, max_age_s: float = 24 * 3600.0, max_bytes: int = 0) -> None:
        self.root = Path(root).resolve()
        self.max_age_s = max_age_s
        self.max_bytes = max_bytes
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f'The output folder "{root}" cannot be made: {error.strerror}.') from error
        self._remove_partial()

    def video_path(self, session: str, job_id: str, part: int = 0, suffix: str = ".mp4") -> Path:
        """Return where a job's file goes; its folder exists afterwards.

        Args:
            session: Owner.
            job_id: The job.
            part: Number of the take or shot from 1; 0 for the job's own file.
            suffix: ``.mp4`` or ``.png``.
        """
        return self._path(session, f"{job_id}.{part}{suffix}" if part else f"{job_id}{suffix}")

    def record_path(self, session: str, job_id: str) -> Path:
        """Return where the record of a job goes; its folder exists afterwards."""
        return self._path(session, job_id + RECORD_SUFFIX)

    def records(self, session: str | None = None) -> Iterator[Path]:
        """Give the records of one session, or of all."""
        folders = [self.session_folder(session)] if session is not None else self._session_folders()
        for folder in folders:
            yield from sorted(folder.glob(f"{FILE_PREFIX}*{RECORD_SUFFIX}"))

    def session_folder(self, session: str) -> Path:
        """Return a session's folder: a hash of its key, so that a key can hold anything and is not readable."""
        return self.root / (SESSION_PREFIX + hashlib.sha256(session.encode()).hexdigest()[:32])

    def remove_job(self, session: str, job_id: str, record_too: bool = True) -> None:
        """Remove all files of a job."""
        remove_job_files(self.session_folder(session), job_id, record_too)

    def remove_session(self, session: str) -> None:
        """Remove all results of a session."""
        shutil.rmtree(self.session_folder(session), ignore_errors=True)

    def remove_expired(self, now_s: float | None = None, keep: Collection[str] = ()) -> int:
        """Remove results older than ``max_age_s``, the oldest above ``max_bytes``, and old folders left empty.

        The files of one job go together, by the age of the newest.

        Args:
            now_s: Time to compare with, seconds since the epoch; the clock's by default.
            keep: Jobs that are not touched, because they wait or run.

        Returns:
            How many files were removed.
        """
        now_s = time.time() if now_s is None else now_s
        oldest_s = now_s - self.max_age_s if self.max_age_s > 0 else float("-inf")
        jobs = sorted(self._jobs(keep), key=lambda job: job.newest_s)
        total = sum(job.size_bytes for job in jobs)
        removed = 0
        for job in jobs:
            too_much = 0 < self.max_bytes < total
            if job.newest_s >= oldest_s and not too_much:
                break
            for path in job.paths:
                path.unlink(missing_ok=True)
            removed += len(job.paths)
            total -= job.size_bytes
        for folder in self._session_folders():
            with suppress(OSError):  # not empty, or another thread was faster
                if folder.stat().st_mtime < oldest_s:
                    folder.rmdir()
        if removed:
            log.info("Removed %d old files", removed)
        return removed

    def _path(self, session: str, name: str) -> Path:
        folder = self.session_folder(session)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / (FILE_PREFIX + name)

    def _session_folders(self) -> list[Path]:
        return list(self.root.glob(SESSION_PREFIX + "*"))

    def _jobs(self, keep: Collection[str]) -> list[_JobFiles]:
        """Collect the files of every job that is not to be kept."""
        jobs: dict[tuple[Path, str], _JobFiles] = {}
        for folder in self._session_folders():
            for path in folder.iterdir():
                match = _OURS.fullmatch(path.name)
                if match is None or match["job"] in keep:
                    continue
                job = jobs.setdefault((folder, match["job"]), _JobFiles([]))
                with suppress(FileNotFoundError):
                    state = path.stat()
                    job.paths.append(path)
                    job.size_bytes += state.st_size
                    job.newest_s = max(job.newest_s, state.st_mtime)
        return list(jobs.values())

    def _remove_partial(self) -> None:
        """Remove what killed processes left half-written; files of running ones stay."""
        for folder in self._session_folders():
            remove_stale_partials(folder, older_than_s=0.0)


def replace_text(path: Path, text: str) -> None:
    """Write a small file that appears complete or not at all.

    It is not flushed to disk: a killed process loses nothing by that, and a power cut no more than this file.

    Raises:
        OSError: When it cannot be written; what was there stays.
    """
    partial = hidden_name(path)
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise


def remove_job_files(folder: Path, job_id: str, record_too: bool) -> None:
    """Remove the files of a job from a session's folder.

    Args:
        folder: Of the session.
        job_id: The job.
        record_too: Whether its record goes as well.
    """
    for path in folder.glob(f"{FILE_PREFIX}{job_id}.*"):
        if record_too or path.suffix != RECORD_SUFFIX:
            path.unlink(missing_ok=True)
