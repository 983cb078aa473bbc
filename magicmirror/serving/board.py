"""The job board: a bounded queue and the status of every job, safe for any number of threads."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from magicmirror.errors import ConfigError, JobNotFound, QueueFull, ServingError
from magicmirror.serving.jobs import JobRecord, JobResult, JobState, JobStatus
from magicmirror.serving.orders import Work, as_order

CANCELLED_MESSAGE = "The job was stopped on request."
CLOSED_MESSAGE = "The server was shut down before the job could run."


class JobBoard:
    """Keeps all jobs; one worker takes them in order of arrival.

    Args:
        capacity: How many jobs may wait, not counting the running one.
        keep_ended: How many ended jobs stay known; older ones are forgotten, so memory stays flat.
        on_end: Called once with the record of every job that has ended, before anybody else can see its end.

    Raises:
        ConfigError: When a limit is below one.
    """

    def __init__(
        self, capacity: int = 8, keep_ended: int = 200, on_end: Callable[[JobRecord], None] | None = None
    ) -> None:
        if capacity < 1 or keep_ended < 1:
            raise ConfigError(f"A job board needs limits of at least 1, got {capacity} and {keep_ended}.")
        self.capacity = capacity
        self._keep_ended = keep_ended
        self._on_end = on_end
        self._changed = threading.Condition()
        self._records: OrderedDict[str, JobRecord] = OrderedDict()
        self._queue: deque[str] = deque()
        self._ended: deque[str] = deque()
        self._running: str | None = None
        self._closed = False

    def add(self, request: Work, session: str, on_start: Callable[[str, Work, str], None] | None = None) -> JobStatus:
        """Put a job at the end of the queue.

        Args:
            request: What to make.
            session: Owner.
            on_start: Called with id, work and session before any other thread can see the job.

        Raises:
            QueueFull: When ``capacity`` jobs wait already.
            ServingError: When the board is closed.
        """
        with self._changed:
            if self._closed:
                raise ServingError("The server is shutting down.", "Try again in a minute.")
            if len(self._queue) >= self.capacity:
                raise QueueFull(f"All {self.capacity} waiting places are taken.", "Try again when a job has finished.")
            job_id = secrets.token_urlsafe(16)
            parts = len(as_order(request).requests)
            status = JobStatus(job_id, "queued", queue_position=len(self._queue) + 1, parts=parts)
            if on_start is not None:
                on_start(job_id, request, session)
            self._records[job_id] = JobRecord(session=session, request=request, status=status)
            self._queue.append(job_id)
            self._changed.notify_all()
            return status

    def take(self, timeout_s: float) -> JobRecord | None:
        """Wait for the next job and mark it as running; ``None`` after ``timeout_s`` or when the board is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed, timeout_s)
            if not self._queue:
                return None
            job_id = self._queue.popleft()
            self._running = job_id
            self._change(job_id, state="running", stage="loading", queue_position=0)
            self._renumber()
            return self._records[job_id]

    def update(self, job_id: str, **changes: Any) -> None:
        """Change fields of a running job's status; ignored once the job has ended."""
        with self._changed:
            record = self._records.get(job_id)
            if record is not None and not record.status.ended:
                self._change(job_id, **changes)

    def finish(self, job_id: str, state: JobState, message: str = "", result: JobResult | None = None) -> None:
        """End the running job and forget its request, which holds the reference faces."""
        with self._changed:
            if self._running == job_id:
                self._running = None
            if self._records[job_id].forgotten:
                state, message, result = "cancelled", CANCELLED_MESSAGE, None
            self._end(job_id, state, message, result)

    def cancel(self, job_id: str) -> JobStatus:
        """End a queued job at once, ask a running one to stop, leave an ended one alone.

        Raises:
            JobNotFound: When the job is unknown.
        """
        with self._changed:
            record = self._record(job_id)
            record.stop.set()
            if record.status.state == "queued":
                self._queue.remove(job_id)
                self._end(job_id, "cancelled", CANCELLED_MESSAGE)
                self._renumber()
            return record.status

    def forget(self, job_id: str, remove: Callable[[], None]) -> None:
        """Cancel a job, also one that is being written, and remove what there is of it before anybody notes an end.

        Args:
            job_id: Any, also one that has ended or is not known.
            remove: What removes it; ``on_end`` has to do so again where the job ends later (``JobRecord.forgotten``).
        """
        with self._changed:
            record = self._records.get(job_id)
            if record is not None and not record.status.ended:
                record.forgotten = True
                self.cancel(job_id)
            remove()

    def status(self, job_id: str) -> JobStatus:
        """Return the present status.

        Raises:
            JobNotFound: When the job is unknown.
        """
        with self._changed:
            return self._record(job_id).status

    def wait(self, job_id: str, version: int, timeout_s: float) -> JobStatus:
        """Return the status as soon as it is newer than ``version``, has ended, or ``timeout_s`` have passed.

        Raises:
            JobNotFound: When the job is unknown.
        """
        with self._changed:
            record = self._record(job_id)
            self._changed.wait_for(lambda: record.status.version > version or record.status.ended, timeout_s)
            return record.status

    def result(self, job_id: str) -> JobResult:
        """Return what a job produced.

        Raises:
            JobNotFound: When the job is unknown.
            ServingError: When the job is not done; the text says why.
        """
        with self._changed:
            record = self._record(job_id)
            if record.result is None:
                status = record.status
                raise ServingError(f'The job is "{status.state}" and has no result.', status.message)
            return record.result

    def close(self, stop_running: bool = True) -> None:
        """Refuse new jobs, end the waiting ones, and ask the running one to stop unless it may finish."""
        with self._changed:
            self._closed = True
            for job_id in self._queue:
                self._end(job_id, "cancelled", CLOSED_MESSAGE)
            self._queue.clear()
            if stop_running and self._running is not None:
                self._records[self._running].stop.set()
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether the board takes no more jobs."""
        return self._closed

    def load(self) -> tuple[int, bool]:
        """Return how many jobs wait, and whether one runs."""
        with self._changed:
            return len(self._queue), self._running is not None

    def pending(self) -> tuple[tuple[Work, JobStatus], ...]:
        """Return the work and status of the running job and of all that wait, in order."""
        with self._changed:
            ids = [*([self._running] if self._running is not None else []), *self._queue]
            records = [self._records[job_id] for job_id in ids]
            return tuple((record.request, record.status) for record in records if record.request is not None)

    def active(self) -> frozenset[str]:
        """Return the ids of all jobs that wait or run."""
        with self._changed:
            return frozenset(self._queue) | ({self._running} if self._running is not None else frozenset())

    def owned(self, session: str) -> tuple[JobRecord, ...]:
        """Return a session's jobs, the oldest first."""
        with self._changed:
            return tuple(replace(record) for record in self._records.values() if record.session == session)

    def _record(self, job_id: str) -> JobRecord:
        if job_id not in self._records:
            raise JobNotFound("This job is not known (any more).", "Start a new one.")
        return self._records[job_id]

    def _change(self, job_id: str, **changes: Any) -> None:
        record = self._records[job_id]
        record.status = replace(record.status, version=record.status.version + 1, **changes)
        self._changed.notify_all()

    def _renumber(self) -> None:
        for position, job_id in enumerate(self._queue, start=1):
            if self._records[job_id].status.queue_position != position:
                self._change(job_id, queue_position=position)

    def _end(self, job_id: str, state: JobState, message: str, result: JobResult | None = None) -> None:
        record = self._records[job_id]
        record.request = None
        record.result = result
        path = result.video_path if result else None
        self._change(
            job_id,
            state=state,
            stage="ended",
            queue_position=0,
            eta_s=None,
            # A note on how it was made stays with what was made.
            message=message or (record.status.message if state == "done" else ""),
            result_path=path,
            preview=None,
        )
        if self._on_end is not None:
            self._on_end(record)
        self._ended.append(job_id)
        while len(self._ended) > self._keep_ended:
            del self._records[self._ended.popleft()]
