"""What a running job calls to say how far it is; a job of several parts has one progress."""

from __future__ import annotations

import time
from typing import Protocol

from magicmirror.serving.board import JobBoard
from magicmirror.serving.jobs import JobStage
from magicmirror.serving.timing import PartTimes, StepClock
from magicmirror.types import UInt8Array


class Report(Protocol):
    """What is called at every change of stage and step."""

    def __call__(self, stage: JobStage, step: int = 0, total: int = 0) -> None:
        """Publish the stage and the denoising steps done."""
        ...


class JobProgress:
    """Publishes the progress of one job on the board; it is a ``Report``.

    Args:
        board: Where the job's status is.
        job_id: The job.
        clock: Of the worker.
    """

    def __init__(self, board: JobBoard, job_id: str, clock: StepClock) -> None:
        self._board = board
        self._job_id = job_id
        self._clock = clock
        self._part = 0
        self._expected_s: list[float | None] = []
        self._started_s = 0.0
        self._picture: UInt8Array | None = None

    def begin_part(self, part: int, expected_s: list[float | None]) -> None:
        """Start a part.

        Args:
            part: From 1.
            expected_s: Seconds that this part and each one after it should take, from measurements; ``None`` where
                nothing was measured.
        """
        self._part = part
        self._expected_s = expected_s
        self._started_s = time.monotonic()
        self._picture = None
        self._clock.start()
        self._board.update(self._job_id, part=part, step=0, preview=None)

    def end_part(self) -> PartTimes | None:
        """End a part that was made; returns what it took."""
        return self._clock.finish()

    def __call__(self, stage: JobStage, step: int = 0, total: int = 0) -> None:
        """Publish the stage and the denoising steps done."""
        eta_s = self._eta(self._clock.tick(stage, step, total))
        changes: dict[str, object] = {"step": step, "total": total} if total else {}
        if stage != "denoising" or self._picture is not None:
            changes["preview"] = self._picture
            self._picture = None
        self._board.update(self._job_id, stage=stage, eta_s=eta_s, **changes)

    def show(self, picture: UInt8Array) -> None:
        """Publish what the video looks like so far, (H, W, 3) uint8 RGB, together with the next step."""
        self._picture = picture

    def note(self, message: str) -> None:
        """Publish that the part is being made anew in another way, and why; what it took so far does not count."""
        self._clock.start()
        self._board.update(self._job_id, message=message, step=0)

    def _eta(self, part_eta_s: float | None) -> float | None:
        """Seconds until the whole job is there."""
        own, *later = self._expected_s or [None]
        if part_eta_s is None and own is not None:
            part_eta_s = max(own - (time.monotonic() - self._started_s), 0.0)
        each = [self._clock.part_s if seconds is None else seconds for seconds in later]
        if part_eta_s is None or any(seconds is None for seconds in each):
            return None
        return part_eta_s + sum(seconds for seconds in each if seconds is not None)
