"""The engine protocol: all that the page, the API and the command line know about whoever makes the videos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from magicmirror.serving.jobs import Forecast, HistoryEntry, JobResult, JobStatus
from magicmirror.serving.orders import Work
from magicmirror.types import FaceReference, UInt8Array

Photo = Path | UInt8Array
"""A picture file, or decoded (H, W, 3) uint8 RGB."""

LOCAL_SESSION = "local"


@dataclass(frozen=True)
class EngineHealth:
    """What a health check reports.

    Args:
        ready: Whether jobs are taken. The model may still be loading; the first job then waits for it.
        profile: Name of the profile.
        device: Where the model runs, for example ``cpu`` or ``cuda:0``.
        model_loaded: Whether the weights are resident.
        queue_length: Jobs that wait.
        queue_capacity: Jobs that may wait.
        running: Whether a job runs now.
        jobs_done: Jobs finished with a video since start.
        message: Plain reason when ``ready`` is false.
    """

    ready: bool
    profile: str
    device: str
    model_loaded: bool
    queue_length: int
    queue_capacity: int
    running: bool
    jobs_done: int
    message: str = ""


class Engine(Protocol):
    """Makes videos one at a time from a bounded queue. All methods may be called from any thread."""

    def analyze(self, photo: Photo) -> tuple[FaceReference, ...]:
        """Find all faces of a photo, largest first; empty when there is none.

        Raises:
            ImageError: When the picture cannot be read or is over a limit.
        """
        ...

    def submit(self, request: Work, session: str = LOCAL_SESSION) -> str:
        """Queue a job and return its id at once.

        Args:
            request: One request, or an order of several (``serving.orders``): takes, comparison, film, picture.
            session: Owner, a secret that only the owner's browser or program knows; the result goes to its folder.

        Raises:
            UserInputError: When the request cannot work with this engine's profile.
            QueueFull: When no place is free.
        """
        ...

    def status(self, job_id: str) -> JobStatus:
        """Return where a job stands.

        Raises:
            JobNotFound: When the job is unknown.
        """
        ...

    def wait(self, job_id: str, version: int = -1, timeout_s: float = 60.0) -> JobStatus:
        """Return the status as soon as it is newer than ``version`` or final, or ``timeout_s`` have passed.

        Raises:
            JobNotFound: When the job is unknown.
        """
        ...

    def cancel(self, job_id: str) -> JobStatus:
        """End a queued job at once and a running one within one denoising step.

        Raises:
            JobNotFound: When the job is unknown.
        """
        ...

    def result(self, job_id: str) -> JobResult:
        """Return the files of a job that is done.

        Raises:
            JobNotFound: When the job is unknown.
            ServingError: When the job is not done.
        """
        ...

    def forecast(self, request: Work) -> Forecast:
        """Say how long work would take, from the speed measured on this machine; does not queue anything."""
        ...

    def history(self, session: str) -> tuple[HistoryEntry, ...]:
        """Return all jobs of one session, the newest first, those of earlier runs of the server included."""
        ...

    def recover(self, session: str, job_id: str) -> HistoryEntry:
        """Find a job again for the session that owns it, waiting, running or ended.

        Raises:
            JobNotFound: When the job is unknown or belongs to another session.
        """
        ...

    def forget(self, session: str, job_id: str | None = None) -> None:
        """Cancel and remove one job of a session with its files, or all of them; unknown ones are ignored."""
        ...

    def health(self) -> EngineHealth:
        """Return the engine's own state."""
        ...

    def close(self) -> None:
        """Stop the running job, mark the waiting ones as cancelled, free the model. May be called twice."""
        ...


def events(engine: Engine, job_id: str, patience_s: float = 60.0) -> Iterator[JobStatus]:
    """Yield every new status of a job until it has ended; the last one is final.

    Args:
        engine: Where the job runs.
        job_id: The job.
        patience_s: A status is repeated after this time without news, so that the caller can do something else.

    Raises:
        JobNotFound: When the job is unknown.
    """
    status = engine.status(job_id)
    yield status
    while not status.ended:
        status = engine.wait(job_id, status.version, patience_s)
        yield status
