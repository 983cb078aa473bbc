"""Peak memory of one whole request, under each policy and quantisation.

    python benchmarks/memory.py [--json FILE]                    # the preview model on the CPU: resident set
    python benchmarks/memory.py --full [--profile NAME]          # published sizes, random weights: needs a GPU
    python benchmarks/memory.py --full --rows model:int8:tiled   # some of the rows

Every row runs in a process of its own. On a GPU the peak is that of torch's allocator (``max_memory_allocated``) from
the first network to the last frame; on a CPU it is the resident set, of which *libraries* is the part before anything
is loaded. The number of steps does not change the peak, so two are run. ``--at-once`` runs several rows side by side
where device and main memory have room for them (24 GiB of either a row): their peaks are their own, their seconds are
not.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import record

CPU_ROWS = (("resident", "none", "whole"), ("resident", "none", "tiled"))
GPU_ROWS = (
    ("resident", "none", "tiled"),
    ("model", "int8", "tiled"),
    ("model", "none", "tiled"),
    ("group", "none", "tiled"),
    ("resident", "int8", "tiled"),
    ("resident", "none", "whole"),
    ("sequential", "none", "tiled"),
)
GIB = 2**30


def peak_rss_bytes() -> int:
    """Largest resident set of this process so far."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def random_reference(embedding: int, side: int) -> Any:
    """A reference of noise, in the form of an analysed photo."""
    import numpy as np

    from magicmirror.types import FaceBox, FaceReference

    random = np.random.default_rng(0)
    return FaceReference(
        box=FaceBox(0, 0, side, side),
        landmarks=np.zeros((5, 2), np.float32),
        landmark_scheme="dlib5",
        crop=random.integers(0, 256, (side, side, 3), dtype=np.uint8),
        embedding=random.normal(size=embedding).astype(np.float32),
        score=1.0,
    )


def random_pipeline(preset: str, device: Any, dtype: Any) -> Any:
    """A pipeline of random networks, each made on the device and brought to the CPU."""
    import torch
    from diffusers import CogVideoXDDIMScheduler
    from random_models import SCHEDULE
    from transformers import CLIPImageProcessorPil, T5Tokenizer

    from magicmirror.models.parameters import build_networks
    from magicmirror.pipeline.pipeline import MagicMirrorPipeline
    from magicmirror.pipeline.profiles import bundled_model

    torch.set_default_dtype(dtype)
    networks = {}
    for name in (
        "text_encoder",
        "vae",
        "transformer",
        "image_encoder",
        "identity_perceiver",
        "face_perceiver",
        "identity_fusion",
    ):
        networks.update(build_networks(preset, device, (name,)))
        networks[name].to("cpu").eval().requires_grad_(False)
    torch.set_default_dtype(torch.float32)
    side = networks["image_encoder"].config.image_size
    return MagicMirrorPipeline(
        tokenizer=T5Tokenizer.from_pretrained(bundled_model("preview") / "tokenizer"),
        scheduler=CogVideoXDDIMScheduler(**SCHEDULE),
        feature_extractor=CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        **networks,
    )


def measure(profile_name: str, policy: str, quantisation: str, decode: str) -> dict[str, Any]:
    """One row, in this process."""
    import torch

    from magicmirror.pipeline.loading import generate, load_pipeline
    from magicmirror.pipeline.memory_options import MemoryOptions
    from magicmirror.pipeline.placement import place
    from magicmirror.pipeline.profiles import find_profile
    from magicmirror.types import GenerationRequest

    libraries = peak_rss_bytes()
    profile = replace(find_profile(profile_name), num_inference_steps=2)
    options = MemoryOptions.named(policy, quantisation, decode == "tiled")
    on_gpu = profile_name != "preview"
    if on_gpu:
        device = torch.device("cuda")
        pipeline = random_pipeline(profile.preset, device, torch.bfloat16)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        place(pipeline, profile, device, options)
    else:
        pipeline = load_pipeline(profile, "cpu", memory=options)
    reference = random_reference(pipeline.identity_perceiver.config.embedding_dim, profile.crop_size_px)
    request = GenerationRequest("a man smiles", (reference,), seed=0, profile=profile.name)
    started = time.perf_counter()
    generate(pipeline, profile, request)
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() if on_gpu else peak_rss_bytes()
    return {"peak_gib": peak / GIB, "libraries_gib": 0.0 if on_gpu else libraries / GIB, "seconds": seconds}


def in_own_process(profile: str, row: Sequence[str]) -> dict[str, Any]:
    """Run one row in a new process; a row that fails tells why and does not stop the others."""
    command = [sys.executable, __file__, "--row", profile, *row]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    result: dict[str, Any] = dict(zip(("policy", "weights", "decode"), row, strict=True))
    if done.returncode:
        result["failed"] = (done.stderr.strip().splitlines() or ["no message"])[-1]
    else:
        result |= json.loads(done.stdout.strip().splitlines()[-1])
    print(json.dumps(result), flush=True)
    return result


def row_of(text: str) -> tuple[str, str, str]:
    """Read a row as the command line names it."""
    found = tuple(text.split(":"))
    if found not in GPU_ROWS + CPU_ROWS:
        raise argparse.ArgumentTypeError(f"{text} is none of {', '.join(':'.join(row) for row in GPU_ROWS)}")
    return found  # type: ignore[return-value]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = record.parser(__doc__)
    parser.add_argument("--full", action="store_true", help="published sizes on a GPU")
    parser.add_argument("--profile", default="cogvideox-5b", help="with --full")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="rows that run side by side")
    parser.add_argument("--rows", nargs="+", type=row_of, metavar="POLICY:WEIGHTS:DECODE", help="those alone")
    parser.add_argument("--row", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        print(json.dumps(measure(*args.row)))
        return
    if args.full:
        import torch

        if not torch.cuda.is_available():
            parser.error("--full needs a CUDA device")
    profile, rows = (args.profile, GPU_ROWS) if args.full else ("preview", CPU_ROWS)
    with ThreadPoolExecutor(args.at_once) as pool:
        results = list(pool.map(lambda row: in_own_process(profile, row), args.rows or rows))
    header = ["policy", "weights", "decode", "peak_gib", "libraries_gib", "seconds", "failed"]
    print(f"{profile}, one request\n")
    print(record.table(header, [[result.get(name, "") for name in header] for result in results]))
    if all("failed" in result for result in results):
        sys.exit("No row was measured.")
    record.finish("memory", {"profile": profile, "steps": 2, "at_once": args.at_once}, results, args.json)


if __name__ == "__main__":
    main()
