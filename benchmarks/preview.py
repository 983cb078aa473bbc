"""Wall time of the preview model: cold start, a whole generation, and the denoising loop alone.

    python benchmarks/preview.py [--runs 3] [--json FILE]

Cold start is the whole command ``python -m magicmirror generate`` in a new process; the others are measured warm, in
this process, and the median of the runs is reported. Time grows linearly with steps; with guidance every step costs
two rows instead of one.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REFERENCE = Path(__file__).resolve().parents[1] / "assets" / "examples" / "woman_1.jpg"
PROMPT = "a woman turns her head to the left"


def cold_start_s() -> float:
    """Seconds of the whole command line, imports and loading included."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "magicmirror", "generate", "--reference", str(REFERENCE), "--seed", "1"]
        started = time.perf_counter()
        subprocess.run(
            [*command, "--prompt", PROMPT, "--output", str(Path(folder) / "out.mp4")], check=True, capture_output=True
        )
        return time.perf_counter() - started


def warm_stages_s(runs: int) -> dict[str, float]:
    """Median seconds of every stage of a warm generation."""
    from magicmirror.faces.analyzer import create_face_analyzer
    from magicmirror.faces.selection import choose_face
    from magicmirror.media import load_image
    from magicmirror.pipeline.loading import generate, load_pipeline
    from magicmirror.pipeline.profiles import find_profile
    from magicmirror.types import GenerationRequest

    profile = find_profile("preview")
    pipeline = load_pipeline(profile, device="cpu")
    analyzer = create_face_analyzer(profile.analyzer, crop_size_px=profile.crop_size_px)
    photo = load_image(REFERENCE)
    analyzer.analyze(photo)  # loads its weights
    measured: list[dict[str, float]] = []
    for seed in range(runs + 1):
        started = time.perf_counter()
        face = choose_face(analyzer.analyze(photo))
        analysis = time.perf_counter() - started
        video = generate(pipeline, profile, GenerationRequest(prompt=PROMPT, references=(face,), seed=seed))
        measured.append({"analysis": analysis, **video.timings_s})
    return {stage: statistics.median(run[stage] for run in measured[1:]) for stage in measured[1]}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    import torch

    import magicmirror

    result = {
        "magicmirror": magicmirror.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "seconds": {"cold start (whole command)": cold_start_s(), **warm_stages_s(args.runs)},
    }
    print(f"torch {result['torch']}, {result['threads']} threads\n")
    print("| stage | s |\n|---|---|")
    for stage, seconds in result["seconds"].items():
        print(f"| {stage} | {seconds:.2f} |")
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
