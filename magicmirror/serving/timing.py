"""Time to go, estimated from this machine's own speed."""

from __future__ import annotations

import time
from collections.abc import Callable

from magicmirror.serving.jobs import JobStage


class StepClock:
    """Measures the denoising steps of one job at a time and remembers the tail (decode, likeness, file) of the last.

    Args:
        now_s: Clock in seconds; tests give their own.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._first_step_s: float | None = None
        self._loop_end_s: float | None = None
        self._tail_s = 0.0

    def start(self) -> None:
        """Forget the job before; keep the length of its tail."""
        self._first_step_s = None
        self._loop_end_s = None

    def tick(self, stage: JobStage, step: int, total: int) -> float | None:
        """Note where the job is and return the seconds to go, ``None`` while they cannot be known.

        The mean runs from the end of the first step, because that one also pays for warming up.

        Args:
            stage: What the job is doing.
            step: Denoising steps done.
            total: Denoising steps in all.
        """
        now = self._now_s()
        if stage == "denoising" and step > 0:
            if step >= total:
                self._loop_end_s = now
                return self._tail_s
            if self._first_step_s is None:
                self._first_step_s, self._first_step = now, step
                return None
            step_s = (now - self._first_step_s) / max(step - self._first_step, 1)
            return step_s * (total - step) + self._tail_s
        if self._loop_end_s is not None:
            return max(self._tail_s - (now - self._loop_end_s), 0.0)
        return None

    def finish(self) -> None:
        """Note the end of a job that produced its video."""
        if self._loop_end_s is not None:
            self._tail_s = self._now_s() - self._loop_end_s
