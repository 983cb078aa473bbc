"""A small record of every job on disk: a browser that comes back finds its jobs, also after the server was killed."""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magicmirror.errors import JobNotFound, MagicMirrorError, VideoError
from magicmirror.media import read_settings, sidecar_path
from magicmirror.serving.jobs import HistoryEntry, JobResult, JobState, JobStatus, OrderKind, Take
from magicmirror.serving.storage import FILE_PREFIX, ResultStorage, remove_job_files, replace_text

log = logging.getLogger(__name__)

INTERRUPTED_MESSAGE = "The server was stopped before this job was done. Start it again."
GONE_MESSAGE = "The files of this job were removed."
_RUN = uuid.uuid4().hex
"""Tells this process from an earlier one with the same process id, as every start of a container has."""


@dataclass(frozen=True)
class Opening:
    """What is noted of a job when it is queued.

    Args:
        job_id: The job.
        session: Owner.
        kind: Of the order.
        prompt: Of the order; of a film those of all shots.
        parts: How many parts it has.
    """

    job_id: str
    session: str
    kind: OrderKind
    prompt: str
    parts: int


class JobJournal:
    """Writes and reads the records; at the start, jobs that a killed process left are marked and their files removed.

    Args:
        storage: Where the records are kept, beside the results.
    """

    def __init__(self, storage: ResultStorage) -> None:
        self._storage = storage
        for path in storage.records():
            record = _read(path)
            if record is not None and _interrupted(record):
                remove_job_files(path.parent, record["job_id"], record_too=False)
                _write(path, {**record, "state": "failed", "message": INTERRUPTED_MESSAGE})

    def open(self, opening: Opening) -> None:
        """Note a job that waits now."""
        record = {
            "job_id": opening.job_id,
            "kind": opening.kind,
            "prompt": opening.prompt,
            "parts": opening.parts,
            "created_s": time.time(),
            "state": "queued",
            "message": "",
            "run": _RUN,
            "pid": os.getpid(),
        }
        _write(self._storage.record_path(opening.session, opening.job_id), record)

    def end(
        self, session: str, job_id: str, state: JobState, message: str = "", result: JobResult | None = None
    ) -> None:
        """Note how a job ended; one whose record was removed meanwhile leaves none."""
        path = self._storage.record_path(session, job_id)
        record = _read(path)
        if record is not None:
            described = _describe(result) if result is not None else None
            _write(path, {**record, "state": state, "message": message, "result": described})

    def entries(self, session: str) -> tuple[HistoryEntry, ...]:
        """Return all jobs of a session as they were recorded, the newest first."""
        found = (_entry(path) for path in self._storage.records(session))
        return tuple(sorted((each for each in found if each is not None), key=lambda each: -each.created_s))

    def entry(self, session: str, job_id: str) -> HistoryEntry:
        """Return one job of a session.

        Raises:
            JobNotFound: When the session has no such job.
        """
        name = f"{FILE_PREFIX}{job_id}.job"
        path = self._storage.session_folder(session) / name
        entry = _entry(path) if Path(name).name == name else None
        if entry is None:
            raise JobNotFound("This job is not known (any more).", "Start a new one.")
        return entry


def _interrupted(record: dict[str, Any]) -> bool:
    """Whether a job has no end and the process that had it is gone."""
    if record["state"] not in ("queued", "running") or record["run"] == _RUN:
        return False
    if record["pid"] == os.getpid():
        return True
    try:
        os.kill(record["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _entry(path: Path) -> HistoryEntry | None:
    record = _read(path)
    if record is None:
        return None
    state, message, result = record["state"], record["message"], None
    if _interrupted(record):
        state, message = "failed", INTERRUPTED_MESSAGE
    if state == "done":
        try:
            result = _restore(path.parent, record["result"])
        except (MagicMirrorError, KeyError, TypeError, ValueError):
            message = GONE_MESSAGE
    status = JobStatus(
        record["job_id"],
        state,
        stage="waiting" if state == "queued" else "ended",
        message=message,
        result_path=result.video_path if result else None,
        part=record["parts"] if state == "done" else 0,
        parts=record["parts"],
    )
    return HistoryEntry(status, record["kind"], record["prompt"], record["created_s"], result)


def _describe(result: JobResult) -> dict[str, Any]:
    """Return a result as JSON; the settings are in the sidecars already."""
    return {
        "kind": result.kind,
        "ranking": list(result.ranking),
        "own": _describe_take(result),
        "takes": [_describe_take(take) for take in result.takes],
    }


def _describe_take(take: Take) -> dict[str, Any]:
    return {
        "file": take.video_path.name,
        "likeness": list(take.likeness),
        "level": take.level,
        "motion": take.motion,
    }


def _restore(folder: Path, described: dict[str, Any]) -> JobResult:
    """Rebuild a result from its record and the sidecars.

    Raises:
        VideoError: When a file is gone.
    """
    own = _restore_take(folder, described["own"])
    return JobResult(
        **vars(own),
        kind=described["kind"],
        takes=tuple(_restore_take(folder, take) for take in described["takes"]),
        ranking=tuple(described["ranking"]),
    )


def _restore_take(folder: Path, described: dict[str, Any]) -> Take:
    path = folder / Path(described["file"]).name
    if not path.is_file():
        raise VideoError(GONE_MESSAGE)
    return Take(
        video_path=path,
        settings_path=sidecar_path(path),
        settings=read_settings(sidecar_path(path)),
        likeness=tuple(described["likeness"]),
        level=described["level"],
        motion=described["motion"],
    )


def _read(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict) and {"job_id", "state", "run", "pid", "kind", "prompt", "parts"} <= record.keys():
            return record
    return None


def _write(path: Path, record: dict[str, Any]) -> None:
    """Write a record; a disk that is full must not end the job that it is about."""
    try:
        replace_text(path, json.dumps(record))
    except OSError as error:
        log.warning("The record of a job was not written: %s", error)
