"""What every engine with one worker has in common: a board of jobs, a thread that runs them, a folder of results."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from magicmirror.errors import ConfigError
from magicmirror.serving.assembly import make_order
from magicmirror.serving.board import JobBoard
from magicmirror.serving.engine import LOCAL_SESSION, EngineHealth, Photo
from magicmirror.serving.jobs import Forecast, HistoryEntry, JobRecord, JobResult, JobStatus, Take
from magicmirror.serving.journal import JobJournal, Opening
from magicmirror.serving.orders import MAX_TAKES, Work, as_order
from magicmirror.serving.progress import JobProgress
from magicmirror.serving.prompt_filter import PromptFilter, check_prompt, load_prompt_filter
from magicmirror.serving.speed import SPEED_FILE, Cost, SpeedBook
from magicmirror.serving.storage import ResultStorage
from magicmirror.serving.worker import JobWorker
from magicmirror.settings import Settings
from magicmirror.types import FaceReference, GenerationRequest

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 30.0
CLEAN_EVERY_S = 30.0


@dataclass(frozen=True)
class Policy:
    """What a deployer allows, beside what the model can do.

    Args:
        prompt_filter: Asked about every prompt.
        max_takes: Most takes of one job.
        shutdown_grace_s: Seconds that the running job gets to finish when the engine is closed.
    """

    prompt_filter: PromptFilter | None = None
    max_takes: int = MAX_TAKES
    shutdown_grace_s: float = 0.0

    @classmethod
    def from_settings(cls, settings: Settings) -> Policy:
        """Read the settings.

        Raises:
            ConfigError: When the prompt filter cannot be loaded.
        """
        return cls(load_prompt_filter(settings.prompt_filter), settings.max_takes, settings.shutdown_grace_s)


class QueuedEngine(ABC):
    """Implements ``Engine`` on top of ``make_video``.

    Args:
        storage: Where results go.
        capacity: Jobs that may wait.
        profile_name: For the health report.
        on_start: Called once by the worker's thread before the first job.
        policy: What is allowed.
    """

    def __init__(
        self,
        storage: ResultStorage,
        capacity: int,
        profile_name: str,
        on_start: Callable[[], None] | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.storage = storage
        self.profile_name = profile_name
        self.policy = policy or Policy()
        self.speed = SpeedBook(storage.root / SPEED_FILE)
        self._next_cleaning_s = 0.0
        self._journal = JobJournal(storage)
        self._board = JobBoard(capacity, on_end=self._note_end)
        self._worker = JobWorker(self._board, self._run_job, on_start=on_start, on_idle=self._keep_house)
        self._worker.start()

    @abstractmethod
    def analyze(self, photo: Photo) -> tuple[FaceReference, ...]:
        """See ``Engine.analyze``."""

    @abstractmethod
    def make_video(
        self, request: GenerationRequest, path: Path, progress: JobProgress, should_stop: Callable[[], bool]
    ) -> Take:
        """Make one video or picture, in the worker's thread.

        Args:
            request: What to make.
            path: Where the mp4 or PNG goes; its folder exists.
            progress: To be called at every change of stage and step, and shown what there is to see.
            should_stop: Whether the job has to end.

        Raises:
            JobCancelled: After ``should_stop()``.
        """

    @abstractmethod
    def cost(self, request: GenerationRequest) -> Cost:
        """Say what the time of one part depends on.

        Raises:
            ConfigError: When it cannot be made.
        """

    def check(self, request: GenerationRequest) -> None:  # noqa: B027 - most engines have nothing to add
        """Refuse, before it waits in the queue, a request that cannot work; the default takes all.

        Raises:
            UserInputError: With the reason.
        """

    def submit(self, request: Work, session: str = LOCAL_SESSION) -> str:
        """See ``Engine.submit``."""
        order = as_order(request)
        if order.kind == "takes" and len(order.parts) > self.policy.max_takes:
            raise ConfigError(f"At most {self.policy.max_takes} takes are made at once, got {len(order.parts)}.")
        for part in order.requests:
            check_prompt(self.policy.prompt_filter, part.prompt)
            self.check(part)
        status = self._board.add(order, session, self._note_start)
        log.info("Job %s queued at place %d", status.job_id, status.queue_position)
        return status.job_id

    def forecast(self, request: Work) -> Forecast:
        """See ``Engine.forecast``."""
        seconds, measured = self.speed.seconds(self.cost(part) for part in as_order(request).requests)
        pending = self._board.pending()
        wait_s = 0.0
        for work, status in pending:
            whole_s = self.speed.seconds(self.cost(part) for part in as_order(work).requests)[0]
            wait_s += whole_s if status.eta_s is None else status.eta_s
        waiting, running = self._board.load()
        return Forecast(seconds, wait_s, waiting + 1 if waiting or running else 0, measured)

    def history(self, session: str) -> tuple[HistoryEntry, ...]:
        """See ``Engine.history``."""
        known = {record.status.job_id: record for record in self._board.owned(session)}
        return tuple(_current(entry, known.get(entry.status.job_id)) for entry in self._journal.entries(session))

    def recover(self, session: str, job_id: str) -> HistoryEntry:
        """See ``Engine.recover``."""
        entry = self._journal.entry(session, job_id)
        known = {record.status.job_id: record for record in self._board.owned(session)}
        return _current(entry, known.get(job_id))

    def forget(self, session: str, job_id: str | None = None) -> None:
        """See ``Engine.forget``."""
        for entry in self._journal.entries(session):
            known = entry.status.job_id
            if job_id in (None, known):
                self._board.forget(known, partial(self.storage.remove_job, session, known))

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
        message = "The server is shutting down." if self._board.closed else ""
        if not message and not self._worker.alive:
            message = "The worker has ended; the server has to be started anew."
        return EngineHealth(
            ready=not message,
            profile=self.profile_name,
            device=self.device,
            model_loaded=self.model_loaded,
            queue_length=waiting,
            queue_capacity=self._board.capacity,
            running=running,
            jobs_done=self._worker.jobs_done,
            message=message,
        )

    def close(self) -> None:
        """See ``Engine.close``; the running job gets the policy's grace to finish."""
        grace_s = self.policy.shutdown_grace_s
        if grace_s > 0:
            self._board.close(stop_running=False)
            self._worker.join(grace_s)
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
        self, job_id: str, session: str, work: Work, progress: JobProgress, should_stop: Callable[[], bool]
    ) -> JobResult:
        order = as_order(work)
        costs = [self.cost(part) for part in order.requests]
        begun = 0

        def make_part(_: int, request: GenerationRequest, path: Path) -> Take:
            nonlocal begun
            forecasts = [self.speed.seconds([cost]) for cost in costs[begun:]]
            begun += 1
            warm = self.model_loaded
            progress.begin_part(begun, [seconds if measured else None for seconds, measured in forecasts])
            take = self.make_video(request, path, progress, should_stop)
            times = progress.end_part()
            if times is not None:
                self.speed.note(costs[begun - 1], times, warm)
            return take

        suffix = ".png" if order.kind == "image" else ".mp4"
        try:
            return make_order(order, make_part, lambda part: self.storage.video_path(session, job_id, part, suffix))
        except BaseException:
            self.storage.remove_job(session, job_id, record_too=False)
            raise

    def _note_start(self, job_id: str, work: Work, session: str) -> None:
        order = as_order(work)
        self._journal.open(Opening(job_id, session, order.kind, order.prompt, len(order.requests)))

    def _note_end(self, record: JobRecord) -> None:
        status = record.status
        if record.forgotten:
            self.storage.remove_job(record.session, status.job_id)
            return
        try:
            self._journal.end(record.session, status.job_id, status.state, status.message, record.result)
        except OSError:
            log.exception("The end of job %s was not noted", status.job_id)

    def _keep_house(self) -> None:
        """Remove old files now and then; looking through thousands after every job would slow short jobs down."""
        now_s = time.monotonic()
        if now_s >= self._next_cleaning_s:
            self._next_cleaning_s = now_s + CLEAN_EVERY_S
            self.storage.remove_expired(keep=self._board.active())


def _current(entry: HistoryEntry, record: JobRecord | None) -> HistoryEntry:
    """Return an entry with what the board knows, which is newer than the journal."""
    if record is None:
        return entry
    gone = record.result is not None and not record.result.video_path.is_file()
    return replace(entry, status=record.status, result=None if gone else record.result)
