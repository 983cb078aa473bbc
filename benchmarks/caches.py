"""What a step cache costs: time saved against likeness and PSNR, on the preview model or on another profile.

    python benchmarks/caches.py [--steps 20] [--seeds 2] [--json FILE]
    python benchmarks/caches.py --profile cogvideox-5b --adapter FOLDER --steps 50      # needs a GPU and weights

Every row makes the same videos as the first one, which computes every step. *distance* is dlib's (or ArcFace's) own
distance between the reference and the largest face, mean over frames; *seen* the share of frames with a face; *PSNR*
is against the first row's frames. The ratios of the mag cache are measured on the first video.
"""

from __future__ import annotations

import contextlib
import io
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import record
from diffusers import MagCacheConfig
from diffusers.hooks import mag_cache

from magicmirror.faces.analyzer import create_face_analyzer
from magicmirror.faces.selection import choose_face
from magicmirror.faces.similarity import euclidean_distance
from magicmirror.media import load_image
from magicmirror.pipeline.loading import generate, load_pipeline, set_scheduler
from magicmirror.pipeline.profiles import Profile, find_profile
from magicmirror.pipeline.speed_options import StepCache
from magicmirror.types import FaceReference, GenerationRequest, UInt8Array

EXAMPLES = record.REPOSITORY / "assets" / "examples"
PROMPTS = {"woman_1.jpg": "a woman smiles", "man_1.jpg": "a man turns his head to the left"}


def mag_ratios(pipeline: Any, profile: Profile, request: GenerationRequest) -> tuple[float, ...]:
    """Change of size at every step of one video, by the library's own calibration."""
    found: list[float] = []
    keep = mag_cache.MagCacheBlockHook._perform_calibration_step

    def collect(self: Any, state: Any, residual: Any) -> None:
        before = len(state.calibration_ratios)
        keep(self, state, residual)
        found.extend(state.calibration_ratios[before:])

    mag_cache.MagCacheBlockHook._perform_calibration_step = collect
    steps = request.num_inference_steps
    pipeline.transformer.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=steps))
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the library prints them too
            generate(pipeline, profile, request)
    finally:
        pipeline.transformer.disable_cache()
        mag_cache.MagCacheBlockHook._perform_calibration_step = keep
    return tuple(found)


def psnr(found: UInt8Array, expected: UInt8Array) -> float:
    """Peak signal-to-noise ratio in dB of two videos of one size; infinite where they are equal."""
    error = float(np.mean((found.astype(np.float64) - expected) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def distances(frames: UInt8Array, reference: FaceReference, analyzer: Any) -> list[float]:
    """Distance to the reference in every frame that shows a face."""
    found = []
    for frame in frames:
        faces = analyzer.analyze(frame)
        if faces:
            found.append(
                float(euclidean_distance(max(faces, key=lambda face: face.box.area).embedding, reference.embedding))
            )
    return found


def measure(
    pipeline: Any,
    profile: Profile,
    requests: Sequence[GenerationRequest],
    analyzer: Any,
    exact: Sequence[UInt8Array] | None,
) -> tuple[dict[str, Any], list[UInt8Array]]:
    """One row: make every video."""
    seconds, frames, near = [], [], []
    for request in requests:
        started = time.process_time() if pipeline.device.type == "cpu" else time.perf_counter()
        video = generate(pipeline, profile, request)
        ended = time.process_time() if pipeline.device.type == "cpu" else time.perf_counter()
        seconds.append(ended - started)
        frames.append(video.frames)
        near.append(distances(video.frames, request.references[0], analyzer))
    seen = [value for values in near for value in values]
    quality = [psnr(a, b) for a, b in zip(frames, exact, strict=True)] if exact is not None else [math.inf]
    row = {
        "seconds": statistics.median(seconds),
        "distance": statistics.mean(seen) if seen else math.nan,
        "seen": len(seen) / sum(len(video) for video in frames),
        "psnr_db": statistics.mean(quality),
    }
    return row, frames


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = record.parser(__doc__)
    parser.add_argument("--profile", default="preview")
    parser.add_argument("--adapter", help="folder or hub id")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1, help="videos of each person")
    parser.add_argument("--first-block", type=float, nargs="*", default=[0.05, 0.1, 0.2])
    parser.add_argument("--mag", type=float, nargs="*", default=[0.06, 0.12, 0.24])
    args = parser.parse_args()
    profile = find_profile(args.profile)
    pipeline = load_pipeline(profile, adapter=args.adapter)
    analyzer = create_face_analyzer(profile.analyzer, crop_size_px=profile.crop_size_px)
    requests = [
        GenerationRequest(prompt, (_face(analyzer, name),), seed, num_inference_steps=args.steps, profile=profile.name)
        for name, prompt in PROMPTS.items()
        for seed in range(args.seeds)
    ]
    generate(pipeline, profile, requests[0])  # warm
    rows: dict[str, dict[str, Any]] = {}
    rows["every step computed"], exact = measure(pipeline, profile, requests, analyzer, None)
    fewer = [_with_steps(request, args.steps // 2) for request in requests]
    rows["half as many steps"], _ = measure(pipeline, profile, fewer, analyzer, exact)
    set_scheduler(pipeline, "dpm" if profile.scheduler == "ddim" else "ddim")
    rows["the other scheduler"], _ = measure(pipeline, profile, requests, analyzer, exact)
    set_scheduler(pipeline, profile.scheduler)
    ratios = mag_ratios(pipeline, profile, requests[0])
    caches = [StepCache("first-block", value) for value in args.first_block]
    caches += [StepCache("mag", value, ratios) for value in args.mag]
    for cache in caches:
        pipeline.step_cache = cache
        rows[f"{cache.name}, {cache.threshold:g}"], _ = measure(pipeline, profile, requests, analyzer, exact)
    pipeline.step_cache = None
    base = rows["every step computed"]["seconds"]
    header = ["", "s", "faster", "distance", "seen", "PSNR, dB"]
    shown = [
        [
            name,
            row["seconds"],
            f"{base / row['seconds']:.2f}x",
            f"{row['distance']:.3f}",
            f"{row['seen']:.0%}",
            f"{row['psnr_db']:.1f}",
        ]
        for name, row in rows.items()
    ]
    print(f"{profile.name}, {args.steps} steps, {len(requests)} videos\n")
    print(record.table(header, shown))
    record.finish("caches", {"profile": profile.name, "steps": args.steps, "mag_ratios": ratios}, rows, args.json)


def _face(analyzer: Any, name: str) -> FaceReference:
    return choose_face(analyzer.analyze(load_image(Path(EXAMPLES / name))))


def _with_steps(request: GenerationRequest, steps: int) -> GenerationRequest:
    return replace(request, num_inference_steps=max(1, steps))


if __name__ == "__main__":
    main()
