"""One thread that takes jobs from the board and runs them one after the other, whatever happens to each."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections.abc import Callable

from magicmirror.errors import JobCancelled, MagicMirrorError
from magicmirror.serving.board import CANCELLED_MESSAGE, JobBoard
from magicmirror.serving.jobs import JobRecord, JobResult
from magicmirror.serving.orders import Work
from magicmirror.serving.progress import JobProgress
from magicmirror.serving.reasons import public_reason
from magicmirror.serving.timing import StepClock

log = logging.getLogger(__name__)

IDLE_TICK_S = 30.0


RunJob = Callable[[str, str, Work, JobProgress, Callable[[], bool]], JobResult]
"""``(job_id, session, work, progress, should_stop) -> result``; raises ``JobCancelled`` after ``should_stop()``."""


class JobWorker:
    """Owns the thread. An error ends its job with a plain reason; the next job runs as if nothing had happened.

    Args:
        board: Where jobs come from.
        run_job: Makes one video.
        on_start: Called once in the thread before the first job; an error in it is logged and nothing else.
        on_idle: Called about every half minute and after each job, for housekeeping.
        name: Name of the thread.
    """

    def __init__(
        self,
        board: JobBoard,
        run_job: RunJob,
        on_start: Callable[[], None] | None = None,
        on_idle: Callable[[], None] | None = None,
        name: str = "engine",
    ) -> None:
        self._board = board
        self._run_job = run_job
        self._on_start = on_start
        self._on_idle = on_idle
        self._clock = StepClock()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.jobs_done = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait until the thread has ended; the board must be closed first.

        Returns:
            Whether it has ended in time.
        """
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _work(self) -> None:
        self._aside(self._on_start)
        while not self._board.closed:
            record = self._board.take(IDLE_TICK_S)
            if record is not None:
                self._run(record)
                self._aside(free_memory)
            self._aside(self._on_idle)

    def _run(self, record: JobRecord) -> None:
        """Run one job to its single end."""
        job_id, request = record.status.job_id, record.request
        assert request is not None, "a job loses its request only when it ends"
        progress = JobProgress(self._board, job_id, self._clock)
        started = time.monotonic()
        try:
            result = self._run_job(job_id, record.session, request, progress, record.stop.is_set)
        except JobCancelled:
            log.info("Job %s stopped after %.1f s", job_id, time.monotonic() - started)
            self._board.finish(job_id, "cancelled", CANCELLED_MESSAGE)
        except MagicMirrorError as error:
            log.warning("Job %s refused: %s", job_id, error)
            self._board.finish(job_id, "failed", public_reason(error, job_id))
        except BaseException as error:  # the border: whatever a job raises, SystemExit too, must not end the worker
            log.exception("Job %s failed", job_id)
            self._board.finish(job_id, "failed", public_reason(error, job_id))
        else:
            self.jobs_done += 1
            log.info("Job %s done in %.1f s", job_id, time.monotonic() - started)
            self._board.finish(job_id, "done", result=result)

    def _aside(self, task: Callable[[], None] | None) -> None:
        """Do something beside the jobs; its failure must not end the worker either."""
        try:
            if task is not None:
                task()
        except MagicMirrorError as error:
            log.error("The worker's %s failed: %s", task, error)
        except Exception:  # the border again
            log.exception("The worker's %s failed", task)


def settle_memory() -> None:
    """Leave out of later collections what has been loaded for good.

    Libraries and model are 230,000 objects; to look through them after every job stopped everything for a quarter
    of a second, a fifth of a request of the preview.
    """
    gc.collect()
    gc.freeze()


def free_memory() -> None:
    """Collect cycles (tracebacks hold tensors) and return cached device memory; does not import torch."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
