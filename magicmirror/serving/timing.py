"""Time to go, estimated from this machine's own speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from magicmirror.serving.jobs import JobStage


@dataclass(frozen=True)
class PartTimes:
    """Seconds of one finished part.

    Args:
        head_s: Before the loop, and what its first step took longer than the others.
        step_s: One denoising step, without the first; ``None`` where there was only one.
        tail_s: After the loop: decode, likeness, file.
        steps: Denoising steps.
    """

    head_s: float
    step_s: float | None
    tail_s: float
    steps: int


class StepClock:
    """Measures the denoising steps of one part at a time and remembers the tail (decode, likeness, file) of the last.

    Args:
        now_s: Clock in seconds; tests give their own.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._tail_s = 0.0
        self.start()

    def start(self) -> None:
        """Forget the part before; keep the length of its tail."""
        self._start_s = self._now_s()
        self._first_step_s: float | None = None
        self._first_step = 0
        self._loop_end_s: float | None = None
        self._step_s: float | None = None
        self._total = 0

    def tick(self, stage: JobStage, step: int, total: int) -> float | None:
        """Note where the part is and return the seconds to go, ``None`` while they cannot be known.

        The mean runs from the end of the first step, because that one also pays for warming up.

        Args:
            stage: What the job is doing.
            step: Denoising steps done.
            total: Denoising steps in all.
        """
        now = self._now_s()
        if stage == "denoising" and step > 0:
            self._total = total
            if self._first_step_s is None:
                self._first_step_s, self._first_step = now, step
            elif step > self._first_step:
                self._step_s = (now - self._first_step_s) / (step - self._first_step)
            if step >= total:
                self._loop_end_s = now
                return self._tail_s
            return None if self._step_s is None else self._step_s * (total - step) + self._tail_s
        if self._loop_end_s is not None:
            return max(self._tail_s - (now - self._loop_end_s), 0.0)
        return None

    @property
    def part_s(self) -> float | None:
        """Seconds that another part like this one takes, ``None`` while unknown."""
        return None if self._step_s is None else self._step_s * self._total + self._tail_s

    def finish(self) -> PartTimes | None:
        """Note the end of a part that produced its video; returns its times unless there was no step at all."""
        if self._loop_end_s is None or self._first_step_s is None:
            return None
        self._tail_s = self._now_s() - self._loop_end_s
        head = self._first_step_s - self._start_s - (self._step_s or 0.0) * self._first_step
        return PartTimes(max(head, 0.0), self._step_s, self._tail_s, self._total)
