"""What every benchmark of speed and memory shares: a table for people, a JSON record, and a median with its spread."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows the module's text as it is and takes ``--json``."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, help="where to write the record")
    return made


def machine() -> dict[str, Any]:
    """What a figure depends on besides the code: processor, threads, load, GPU."""
    import torch

    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_1_min": round(os.getloadavg()[0], 2),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["gpu_memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    return found


def versions() -> dict[str, str]:
    """Versions of this package and of the libraries that do the work."""
    import diffusers
    import torch
    import transformers

    import magicmirror

    libraries = (magicmirror, torch, diffusers, transformers)
    return {
        "python": platform.python_version(),
        **{library.__name__: str(library.__version__) for library in libraries},
    }


def commit() -> str:
    """The commit of this checkout, with ``+`` where tracked files differ from it; ``unknown`` without git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, and the quartiles around it; with fewer than four values the smallest and the largest."""
    ordered = sorted(values)
    low, _, high = statistics.quantiles(ordered, n=4) if len(ordered) >= 4 else (ordered[0], 0.0, ordered[-1])
    return {"median": statistics.median(ordered), "low": low, "high": high, "runs": len(ordered)}


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; floats with three digits that count."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def finish(name: str, settings: dict[str, Any], results: Any, json_path: Path | None) -> dict[str, Any]:
    """Put the record together, and write it where a path is given.

    Args:
        name: Of the benchmark.
        settings: Sizes and options that it ran with.
        results: What was measured.
        json_path: ``None`` writes nothing.

    Returns:
        The record: benchmark, time, commit, machine, versions, settings, results.
    """
    record = {
        "benchmark": name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "settings": settings,
        "results": results,
    }
    where = record["machine"]
    print(
        f"\n{where.get('gpu', where['processor'])}, {where['threads']} threads, load {where['load_1_min']}, "
        f"torch {record['versions']['torch']}, commit {record['commit']}"
    )
    if json_path is not None:
        json_path.write_text(json.dumps(record, indent=2, default=str) + "\n")
    return record


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.is_file()
        else []
    )
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def _git(*command: str) -> str:
    done = subprocess.run(["git", *command], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _cell(value: Any) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )
