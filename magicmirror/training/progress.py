"""What a run says of itself: mean losses, speed, share of the data loader, time to go, and TensorBoard curves."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class Progress:
    """Sums up steps between two log lines.

    Args:
        max_steps: Of the run.
        log_steps: Steps between log lines.
        curves: Folder of TensorBoard's event files, or ``None`` for none.
        silent: Say and write nothing: every process but the first.
    """

    def __init__(self, max_steps: int, log_steps: int, curves: Path | None = None, silent: bool = False) -> None:
        self.max_steps = max_steps
        self.log_steps = log_steps
        self.silent = silent
        self._writer = None if silent or curves is None else _tensorboard(curves)
        self._last: dict[str, float] = {}
        self._clear()

    @property
    def means(self) -> dict[str, float]:
        """Means of the losses since the last log line; of the last line where nothing came after it."""
        return {name: self._sums[name] / count for name, count in self._counts.items()} or self._last

    def due(self, step: int) -> bool:
        """Whether a step ends a log line."""
        return step % self.log_steps == 0

    def add(self, losses: dict[str, float], samples: int, waited_s: float) -> None:
        """Take a step in.

        Args:
            losses: By name; not every step has every one.
            samples: Of all processes.
            waited_s: Seconds in which the step had no data yet.
        """
        self._steps += 1
        self._samples += samples
        self._waited_s += waited_s
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def report(self, step: int, learning_rate: float) -> None:
        """Write the log line of the steps since the last one, and the points of the curves."""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        speed = {
            "steps_per_s": self._steps / elapsed,
            "samples_per_s": self._samples / elapsed,
            "data_share": self._waited_s / elapsed,
        }
        self._last = self.means
        text = " ".join(f"{name} {value:.4f}" for name, value in sorted(self._last.items()))
        to_go_h = (self.max_steps - step) / speed["steps_per_s"] / 3600
        if not self.silent:
            logger.info(
                "step %d of %d: %s | rate %.2e, %.2f steps/s, %.1f samples/s, data %.0f %%, %.1f h to go",
                step,
                self.max_steps,
                text,
                learning_rate,
                speed["steps_per_s"],
                speed["samples_per_s"],
                100 * speed["data_share"],
                to_go_h,
            )
        if self._writer is not None:
            points = {
                **{f"loss/{name}": value for name, value in self._last.items()},
                "learning_rate": learning_rate,
                **{f"speed/{name}": value for name, value in speed.items()},
            }
            for name, value in points.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()
        self._clear()

    def pause(self, seconds: float) -> None:
        """Leave time that no step took (checkpoints, validation) out of the speed."""
        self._since += seconds

    def close(self) -> None:
        """Finish the event file."""
        if self._writer is not None:
            self._writer.close()

    def _clear(self) -> None:
        self._steps = self._samples = 0
        self._waited_s = 0.0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._since = time.monotonic()


def _tensorboard(folder: Path) -> Any:
    """A writer of curves, or ``None`` with a line that says what is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.warning("TensorBoard is not installed, so no curves are written: pip install tensorboard")
        return None
    return SummaryWriter(str(folder))
