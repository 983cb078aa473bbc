"""Every figure at full size that docs/performance.md names, the most wanted first, within the minutes that there are.

    python benchmarks/full_size.py OUT [--minutes 90] [--only NAME ...]      # random weights: needs a GPU

Each figure is a benchmark of this folder in a process of its own. It leaves ``OUT/NAME.json``, its record, and
``OUT/NAME.log``, what it printed. A figure whose record is there is not measured again, so a machine that is rented for
a quarter of an hour goes on where the last one ended. One that fails or takes longer than its share of the time stops
none of the others, and the table at the end says what became of each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import record


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Args:
        name: Of its files.
        command: Script of this folder and its arguments; ``--json`` is added.
        limit_s: After so long it is stopped.
    """

    name: str
    command: tuple[str, ...]
    limit_s: float = 300.0


def _memory(policy: str, weights: str, decode: str, profile: str = "cogvideox-5b") -> Figure:
    name = f"memory_{profile}_{policy}_{weights}_{decode}"
    return Figure(name, ("memory.py", "--full", "--profile", profile, "--rows", f"{policy}:{weights}:{decode}"))


_STEPS = ("overhead.py", "--full", "--loops", "0", "--runs")
FIGURES = (
    Figure("overhead_compiled_padded", (*_STEPS, "8", "--compile", "--attention", "padded")),
    _memory("model", "int8", "tiled"),
    Figure("speedups", ("speedups.py", "--full", "--probes"), 420.0),
    Figure("overhead_compiled", (*_STEPS, "8", "--compile")),
    Figure("overhead", (*_STEPS, "8")),
    Figure("speedups_fp8", ("speedups.py", "--full", "--probes", "--rungs", "fp8 compile"), 420.0),
    Figure("training", ("training.py", "--full-size", "--steps", "3"), 420.0),
    _memory("resident", "none", "tiled"),
    _memory("model", "none", "tiled"),
    _memory("group", "none", "tiled"),
    _memory("resident", "int8", "tiled"),
    _memory("resident", "none", "whole"),
    _memory("sequential", "none", "tiled"),
    Figure("breakdown", ("breakdown.py", "--full")),
    Figure("scaling", ("scaling.py", "--full")),
    _memory("resident", "none", "tiled", "cogvideox-1.5-5b"),
    Figure("speedups_1_5", ("speedups.py", "--full", "--profile", "cogvideox-1.5-5b", "--steps", "10"), 600.0),
    Figure("loops", ("overhead.py", "--full", "--compile", "--runs", "2", "--loops", "2"), 600.0),
)


def measure(figure: Figure, folder: Path, seconds: float) -> str:
    """Measure one figure unless its record is there.

    Args:
        figure: What to measure.
        folder: Of the records; exists.
        seconds: That are left for all of it.

    Returns:
        What became of it, in a few words.
    """
    made, log = folder / f"{figure.name}.json", folder / f"{figure.name}.log"
    if made.exists():
        return "was there"
    if seconds <= 0:
        return "not begun"
    command = [sys.executable, str(Path(__file__).with_name(figure.command[0])), *figure.command[1:]]
    limit_s = min(figure.limit_s, seconds)
    with log.open("wb") as output:
        # A group of its own: what it has started holds memory of the GPU too, and ends with it.
        process = subprocess.Popen(
            [*command, "--json", str(made)], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"stopped after {limit_s:.0f} s"
        finally:
            _end(process)
    if code == 0 and made.exists():
        return "measured"
    last = (log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
    return f"failed ({code}): {last[:160]}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def measure_all(
    figures: Sequence[Figure], folder: Path, minutes: float, clock: Callable[[], float] = time.monotonic
) -> list[tuple[str, str, float]]:
    """Measure one figure after the other; returns of each its name, what became of it, and how many seconds it took."""
    folder.mkdir(parents=True, exist_ok=True)
    end = clock() + 60 * minutes
    rows = []
    for figure in figures:
        started = clock()
        became = measure(figure, folder, end - started)
        rows.append((figure.name, became, clock() - started))
        print(f"{figure.name}: {became} ({rows[-1][2]:.0f} s)", flush=True)
    return rows


def main() -> None:
    """Measure what there is time for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder of the records")
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[figure.name for figure in FIGURES])
    args = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        parser.error("figures at full size need a CUDA device")
    rows = measure_all([f for f in FIGURES if not args.only or f.name in args.only], args.output, args.minutes)
    print("\n" + record.table(["figure", "", "s"], rows))
    if any(became.startswith(("failed", "stopped")) for _, became, _ in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
