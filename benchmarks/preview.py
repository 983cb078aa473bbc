"""The preview model as a person meets it: help, page, cold start, warm request and its stages, on a CPU.

    python benchmarks/preview.py [--runs 3] [--json FILE]

*help*, *page* and *cold* are new processes: ``python -m magicmirror --help``, ``python app.py`` until the first page is
served on a free port of this machine, and ``python -m magicmirror generate``. *warm* is a request in this process:
analysis of the photo, the video, its likeness and its file. Each has its wall time and its CPU time: on a machine with
other work the first is longer than it need be, the second hardly. *outside the model* is what of a warm request is
neither identity, prompt, denoising nor decoding; *outside every network* is that without the face networks' work, which
finds and embeds the faces of the photo (*analysis*) and of all frames (*likeness*).
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import record

REFERENCE = record.REPOSITORY / "assets" / "examples" / "woman_1.jpg"
PROMPT = "a woman turns her head to the left"
STAGES = ("identity", "prompt", "denoise", "decode")
PAGE_LIMIT_S = 120
Times = dict[str, float]


def timed(work: Callable[[], None]) -> Times:
    """Wall time, and CPU time of the processes that the work started and waited for."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - started
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def command(*arguments: str) -> None:
    """Run the command line in a new process."""
    subprocess.run(
        [sys.executable, "-m", "magicmirror", *arguments], check=True, capture_output=True, cwd=record.REPOSITORY
    )


def help_page() -> Times:
    """``--help``."""
    return timed(lambda: command("--help"))


def cold_generate() -> Times:
    """The whole command line, imports and loading included."""
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "out.mp4")
        arguments = ("--reference", str(REFERENCE), "--seed", "1", "--prompt", PROMPT, "--output", output)
        return timed(lambda: command("generate", *arguments))


def first_page() -> Times:
    """From the start of the app to its first page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MAGICMIRROR_PORT": str(port), "MAGICMIRROR_OUTPUT_DIR": folder}
        started = time.perf_counter()
        app = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=record.REPOSITORY,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/", started + PAGE_LIMIT_S)
            wall = time.perf_counter() - started
            return {"wall": wall, "cpu": _cpu_seconds(app.pid)}
        finally:
            app.terminate()
            app.wait()


def _wait_for(address: str, until: float) -> None:
    while time.perf_counter() < until:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                answer.read()
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise TimeoutError(f"{address} did not answer.")


def _cpu_seconds(pid: int) -> float:
    """CPU time of a running process so far; 0 where the system does not tell."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.is_file():
        return 0.0
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def warm_requests(runs: int) -> list[Times]:
    """Stages of warm requests; the first, which loads everything, is left out."""
    from magicmirror.faces.selection import choose_face
    from magicmirror.media import load_image
    from magicmirror.pipeline.freed_memory import keep_freed_memory
    from magicmirror.pipeline.profiles import find_profile
    from magicmirror.serving.production import VideoMaker
    from magicmirror.types import GenerationRequest

    keep_freed_memory()  # as every command that serves or generates
    maker = VideoMaker(find_profile("preview"), "cpu")
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(runs + 1):
            wall, cpu = time.perf_counter(), time.process_time()
            face = choose_face(maker.analyzer.analyze(load_image(REFERENCE)))
            analysis = time.perf_counter() - wall
            request = GenerationRequest(prompt=PROMPT, references=(face,), seed=seed)
            take = maker.make(request, Path(folder) / f"{seed}.mp4", lambda *_: None, should_stop=lambda: False)
            whole = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            stages = {name: float(value) for name, value in _timings(take).items()}
            model = sum(stages[name] for name in STAGES)
            outside = whole["wall"] - model
            faces = analysis + stages["likeness"]
            measured.append(
                {
                    "analysis": analysis,
                    **stages,
                    **whole,
                    "outside the model": outside,
                    "outside every network": outside - faces,
                }
            )
    return measured[1:]


def _timings(take: Any) -> Times:
    timings: Times = take.settings["timings_s"]
    return {name: timings[name] for name in timings if name != "total"}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = record.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    for name, measure in (("help", help_page), ("page", first_page), ("cold", cold_generate)):
        runs = [measure() for _ in range(args.runs)]
        results[name] = {clock: record.spread([run[clock] for run in runs]) for clock in ("wall", "cpu")}
    warm = warm_requests(args.runs)
    results["warm"] = {clock: record.spread([run[clock] for run in warm]) for clock in ("wall", "cpu")}
    rows = [[name, part["wall"]["median"], part["cpu"]["median"]] for name, part in results.items()]
    print(record.table(["", "wall, s", "CPU, s"], rows), end="\n\n")
    stages = {name: statistics.median(run[name] for run in warm) for name in warm[0] if name not in ("wall", "cpu")}
    whole = results["warm"]["wall"]["median"]
    print(
        record.table(["stage of a warm request", "s", "share"], [[k, v, f"{v / whole:.0%}"] for k, v in stages.items()])
    )
    record.finish("preview", {"profile": "preview", "runs": args.runs}, {**results, "warm_stages_s": stages}, args.json)


if __name__ == "__main__":
    main()
