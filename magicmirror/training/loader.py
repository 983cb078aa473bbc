"""The next batch, made while the present step runs; and how long a step had to wait for its own."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

from magicmirror.training.parts import Batch, BatchSource, Part


class BatchLoader:
    """Gives the batches of one process, in any order.

    A batch is a function of its step, so loading ahead changes no number.

    Args:
        source: Of the batches; called from one thread only.
        part: Which rows this process takes.
        ahead: Whether the batch of the next step is made in a thread of its own. Worth it where another device
            computes; on a CPU the two would share its cores.

    Attributes:
        waited_s: Seconds that the last ``at`` took.
    """

    def __init__(self, source: BatchSource, part: Part, ahead: bool) -> None:
        self.source = source
        self.part = part
        self.waited_s = 0.0
        self._pool = ThreadPoolExecutor(1, "next-batch") if ahead else None
        self._next: tuple[int, Future[Batch]] | None = None

    def at(self, step: int, last: bool = False) -> Batch:
        """Return the batch of a step.

        Args:
            step: From 0.
            last: Whether no step comes after it.
        """
        started = time.perf_counter()
        if self._pool is None:
            batch = self.source(step, self.part)
        else:
            waiting, self._next = self._next, None
            made = waiting[1] if waiting is not None and waiting[0] == step else self._order(step)
            batch = made.result()
            if not last:
                self._next = step + 1, self._order(step + 1)
        self.waited_s = time.perf_counter() - started
        return batch

    def _order(self, step: int) -> Future[Batch]:
        assert self._pool is not None
        return self._pool.submit(self.source, step, self.part)
