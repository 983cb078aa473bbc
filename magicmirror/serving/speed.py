"""How fast this machine is: running means of what jobs took, kept in a file, for forecasts before a job is started."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from magicmirror.serving.storage import replace_text
from magicmirror.serving.timing import PartTimes

log = logging.getLogger(__name__)

SPEED_FILE = ".speed.json"
WEIGHT_OF_NEWEST = 0.3
"""Means follow a machine that becomes busier or idle within a few jobs."""


@dataclass(frozen=True)
class Cost:
    """What the time of one part depends on.

    Args:
        model: Profile, device, and what else makes it faster or slower.
        num_frames: Pixel frames.
        height_px: Height.
        width_px: Width.
        guided: Whether every step runs the network twice.
        steps: Denoising steps.
        step_flop: Arithmetic of one step, which speeds at one size are scaled with for another.
        guess_s: Seconds of one step and of all the rest, for a machine that was not measured yet.
    """

    model: str
    num_frames: int
    height_px: int
    width_px: int
    guided: bool
    steps: int
    step_flop: float
    guess_s: tuple[float, float]

    @property
    def size(self) -> str:
        """Name of model and size in the file."""
        guided = "guided" if self.guided else "plain"
        return f"{self.model} {self.num_frames}x{self.height_px}x{self.width_px} {guided}"


@dataclass(frozen=True)
class _Speed:
    """Running means of one size."""

    step_s: float
    rest_s: float
    step_flop: float


class SpeedBook:
    """Measured speeds, by model and size; safe for any number of threads.

    Args:
        path: Where they are kept; a file that cannot be read counts as empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._speeds: dict[str, _Speed] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
            stored = json.loads(path.read_text(encoding="utf-8"))
            self._speeds = {
                name: _Speed(*(float(each[key]) for key in ("step_s", "rest_s", "step_flop")))
                for name, each in stored.items()
            }

    def note(self, cost: Cost, times: PartTimes, warm: bool) -> None:
        """Take in what one part took.

        Args:
            cost: Of the part.
            times: Measured.
            warm: Whether the model was loaded before; otherwise the time before the first step is not counted.
        """
        if times.step_s is None:
            return
        rest_s = times.tail_s + (times.head_s if warm else 0.0)
        with self._lock:
            before = self._speeds.get(cost.size)
            step_s = times.step_s
            if before is not None:
                step_s = before.step_s + WEIGHT_OF_NEWEST * (step_s - before.step_s)
                rest_s = before.rest_s + WEIGHT_OF_NEWEST * (rest_s - before.rest_s)
            self._speeds[cost.size] = _Speed(step_s, rest_s, cost.step_flop)
            content = json.dumps({name: vars(speed) for name, speed in self._speeds.items()})
        try:
            replace_text(self._path, content)
        except OSError as error:
            log.warning("The measured speed was not kept: %s", error)

    def seconds(self, costs: Iterable[Cost]) -> tuple[float, bool]:
        """Forecast parts that run one after the other.

        Returns:
            Seconds, and whether all of them rest on measurements of the same size and model.
        """
        each = [self._part(cost) for cost in costs]
        return sum(seconds for seconds, _ in each), all(measured for _, measured in each)

    def _part(self, cost: Cost) -> tuple[float, bool]:
        with self._lock:
            speed = self._speeds.get(cost.size)
            if speed is not None:
                return speed.step_s * cost.steps + speed.rest_s, True
            related = [other for name, other in self._speeds.items() if name.startswith(cost.model + " ")]
        if related:
            nearest = min(related, key=lambda other: abs(other.step_flop - cost.step_flop))
            share = cost.step_flop / nearest.step_flop
            return (nearest.step_s * cost.steps + nearest.rest_s) * share, False
        step_s, rest_s = cost.guess_s
        return step_s * cost.steps + rest_s, False
