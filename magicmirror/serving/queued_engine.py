"""What every engine with one worker has in common: a board of jobs, a thread that runs them, a folder of results."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from magicmirror.serving.board import JobBoard
from magicmirror.serving.engine import LOCAL_SESSION, EngineHealth, Photo
from magicmirror.serving.jobs import JobResult, JobStatus
from magicmirror.serving.storage import ResultStorage
from magicmirror.serving.worker import JobWorker, Report
from magicmirror.types import FaceReference, GenerationRequest

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 30.0


class QueuedEngine(ABC):
    """Implements ``Engine`` on top of ``make_video``.

    Args:
        storage: Where results go.
        capacity: Jobs that may wait.
        profile_name: For the health report.
        on_start: Called once by the worker's thread before the first job.
    """

    def __init__(
        self,
        storage: ResultStorage,
        capacity: int,
        profile_name: str,
        on_start: Callable[[], None] | None = None,
    ) -> None:
        self.storage = storage
        self.profile_name = profile_name
        self._board = JobBoard(capacity)
        self._worker = JobWorker(self._board, self._run_job, on_start=on_start, on_idle=self._keep_house)
        self._worker.start()

    @abstractmethod
    def analyze(self, photo: Photo) -> tuple[FaceReference, ...]:
        """See ``Engine.analyze``."""

    @abstractmethod
    def make_video(
        self, request: GenerationRequest, path: Path, report: Report, should_stop: Callable[[], bool]
    ) -> JobResult:
        """Make one video, in the worker's thread.

        Args:
            request: What to make.
            path: Where the mp4 goes; its folder exists.
            report: To be called at every change of stage and step.
            should_stop: Whether the job has to end.

        Raises:
            JobCancelled: After ``should_stop()``.
        """

    def check(self, request: GenerationRequest) -> None:  # noqa: B027 - most engines have nothing to add
        """Refuse, before it waits in the queue, a request that cannot work; the default takes all.

        Raises:
            UserInputError: With the reason.
        """

    def submit(self, request: GenerationRequest, session: str = LOCAL_SESSION) -> str:
        """See ``Engine.submit``."""
        self.check(request)
        status = self._board.add(request, session)
        log.info("Job %s queued at place %d", status.job_id, status.queue_position)
        return status.job_id

    def status(self, job_id: str) -> JobStatus:
        """See ``Engine.status``."""
        return self._board.status(job_id)

    def wait(self, job_id: str, version: int = -1, timeout_s: float = 60.0) -> JobStatus:
        """See ``Engine.wait``."""
        return self._board.wait(job_id, version, timeout_s)

    def cancel(self, job_id: str) -> JobStatus:
        """See ``Engine.cancel``."""
        return self._board.cancel(job_id)

    def result(self, job_id: str) -> JobResult:
        """See ``Engine.result``."""
        return self._board.result(job_id)

    def health(self) -> EngineHealth:
        """See ``Engine.health``."""
        waiting, running = self._board.load()
        return EngineHealth(
            ready=not self._board.closed,
            profile=self.profile_name,
            device=self.device,
            model_loaded=self.model_loaded,
            queue_length=waiting,
            queue_capacity=self._board.capacity,
            running=running,
            jobs_done=self._worker.jobs_done,
            message="The server is shutting down." if self._board.closed else "",
        )

    def close(self) -> None:
        """See ``Engine.close``."""
        self._board.close()
        if not self._worker.join(CLOSE_TIMEOUT_S):
            log.warning("The running job did not stop within %.0f s", CLOSE_TIMEOUT_S)

    @property
    def device(self) -> str:
        """Where the model runs."""
        return "cpu"

    @property
    def model_loaded(self) -> bool:
        """Whether the weights are resident."""
        return True

    def _run_job(
        self, job_id: str, session: str, request: GenerationRequest, report: Report, should_stop: Callable[[], bool]
    ) -> JobResult:
        return self.make_video(request, self.storage.video_path(session, job_id), report, should_stop)

    def _keep_house(self) -> None:
        self.storage.remove_expired()
