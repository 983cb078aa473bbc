"""A whole request, faster rung by rung: what each way to save time brings on top of those before it.

    python benchmarks/speedups.py [--json FILE]                        # the preview model on the CPU
    python benchmarks/speedups.py --full [--steps 50] [--probes ...] [--rungs ...]    # random weights, needs a GPU

A rung is one or more words of: ``eager`` (nothing), ``compile``, the name of an attention kernel, a quantisation, a
step cache (``first-block:0.1``, or ``mag``). What is switched on stays on, so that the last rung has everything. Each
is warmed with two steps, which compiles what has to be compiled, and then timed once: *loop* is all of denoising with
what is made once before it, *step* its median step. ``--probes`` are rungs below the others, of four steps alone, for
what is too slow to wait for. The first rung decodes the video too (*decode*); later ones do not, because nothing here
concerns it. *computed* counts the steps that took more than half as long as the longest. *difference* is that of the
latents to those of the first rung with as many steps, as a share of their size.

With random weights a cache has nothing to go by, so ``mag`` gets even ratios: after the first fifth it computes one
step in four, which is the most that the library's defaults skip. What that costs needs trained weights (``caches.py``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, get_args

import memory
import record
import torch
from torch import Tensor

from magicmirror.pipeline.acceleration import accelerate_pipeline, check_speed
from magicmirror.pipeline.loading import load_pipeline
from magicmirror.pipeline.memory_options import MemoryOptions
from magicmirror.pipeline.placement import place
from magicmirror.pipeline.profiles import Profile, find_profile
from magicmirror.pipeline.quantisation import quantise
from magicmirror.pipeline.speed_options import SpeedOptions, StepCache
from magicmirror.settings import ATTENTION_KERNELS, Quantisation

FULL_PROBES = ("eager", "_native_cudnn")
FULL_RUNGS = ("compile", "padded", "mag")
CPU_RUNGS = ("eager", "compile", "mag")
MAG_THRESHOLD = 0.1
WARM_STEPS, PROBE_STEPS = 2, 4


def climb(pipeline: Any, rung: str, steps: int) -> None:
    """Switch on what a rung names."""
    options: dict[str, Any] = {"cache": pipeline.step_cache}
    for word in rung.split():
        if word == "compile":
            options["compile"] = True
        elif word in ATTENTION_KERNELS:
            options["attention"] = word
        elif word in get_args(Quantisation):
            quantise(pipeline, word)  # type: ignore[arg-type]
        elif word == "mag":
            options["cache"] = StepCache("mag", MAG_THRESHOLD, (1.0,) * steps)
        elif word != "eager":
            options["cache"] = SpeedOptions.named(step_cache=word).cache
    speed = SpeedOptions(**options)
    check_speed(speed, pipeline.device, pipeline.transformer.dtype)
    accelerate_pipeline(pipeline, speed)


def request(pipeline: Any, profile: Profile, reference: Any, steps: int, decode: bool) -> tuple[Any, list[float]]:
    """One request; returns the output and the seconds of every step."""
    seconds: list[float] = []
    last = time.perf_counter()

    def after_step(_: Any, step: int, __: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        nonlocal last
        if tensors["latents"].is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - last)
        last = time.perf_counter()
        return {}

    shape = profile.shape
    output = pipeline(
        "a man smiles",
        [reference],
        height=shape.height_px,
        width=shape.width_px,
        num_frames=shape.num_frames,
        num_inference_steps=steps,
        guidance_scale=profile.guidance_scale,
        use_dynamic_cfg=profile.use_dynamic_cfg,
        seed=0,
        output_type="np" if decode else "latent",
        callback_on_step_end=after_step,
    )
    return output.frames, seconds


class Ladder:
    """A pipeline, and what its rungs have shown so far."""

    def __init__(self, profile: Profile, full: bool) -> None:
        self.profile = profile
        if full:
            device = torch.device("cuda")
            self.pipeline = memory.random_pipeline(profile.preset, device, torch.bfloat16)
            self.pipeline.set_progress_bar_config(disable=True)
            place(self.pipeline, profile, device, MemoryOptions("resident"))
        else:
            self.pipeline = load_pipeline(profile, "cpu")
        width = self.pipeline.identity_perceiver.config.embedding_dim
        self.reference = memory.random_reference(width, profile.crop_size_px)
        self.first: dict[int, Tensor] = {}

    def measure(self, rung: str, steps: int) -> dict[str, Any]:
        """Climb one rung and time a request there."""
        started = time.perf_counter()
        climb(self.pipeline, rung, steps)
        request(self.pipeline, self.profile, self.reference, WARM_STEPS, decode=not self.first)
        row: dict[str, Any] = {"steps": steps, "warm_s": time.perf_counter() - started}
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        latents, seconds = request(self.pipeline, self.profile, self.reference, steps, decode=False)
        row |= {
            "loop_s": self.pipeline.timings_s["denoise"],
            "step_s": sorted(seconds)[len(seconds) // 2],
            "computed": sum(taken > max(seconds) / 2 for taken in seconds),
            "peak_gib": torch.cuda.max_memory_allocated() / memory.GIB if latents.is_cuda else None,
        }
        if not self.first:
            request(self.pipeline, self.profile, self.reference, 1, decode=True)
            row |= {f"{name}_s": self.pipeline.timings_s[name] for name in ("identity", "prompt", "decode")}
        exact = self.first.setdefault(steps, latents).float()
        row["difference"] = float((latents.float() - exact).norm() / exact.norm())
        return row


def climbed(ladder: Ladder, rungs: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """All rungs with their steps; one that fails says why and does not stop the others."""
    rows: list[dict[str, Any]] = []
    for rung, steps in rungs:
        try:
            rows.append({"rung": rung, **ladder.measure(rung, steps)})
        except Exception as error:  # a kernel, a compiler and torchao fail each in their own way
            rows.append({"rung": rung, "failed": f"{type(error).__name__}: {error}"[:400]})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = record.parser(__doc__)
    parser.add_argument("--full", action="store_true", help="CogVideoX-5B's size on a GPU")
    parser.add_argument("--profile", default="cogvideox-5b", help="with --full")
    parser.add_argument("--steps", type=int, help="of a loop; the profile's own if left out")
    parser.add_argument("--probes", nargs="*", help=f"with --full, default {' '.join(FULL_PROBES)}")
    parser.add_argument("--rungs", nargs="*", help=f"default {' '.join(FULL_RUNGS)}, on a CPU {' '.join(CPU_RUNGS)}")
    args = parser.parse_args()
    if args.full and not torch.cuda.is_available():
        parser.error("--full needs a CUDA device")
    profile = find_profile(args.profile if args.full else "preview")
    steps = args.steps or profile.num_inference_steps
    defaults = (FULL_PROBES, FULL_RUNGS) if args.full else ((), CPU_RUNGS)
    asked = (args.probes, args.rungs)
    probes, rungs = (default if given is None else given for given, default in zip(asked, defaults, strict=True))
    climb_all = [(rung, PROBE_STEPS) for rung in probes] + [(rung, steps) for rung in rungs]
    rows = climbed(Ladder(profile, args.full), climb_all)
    header = ["rung", "steps", "loop_s", "step_s", "computed", "warm_s", "decode_s", "peak_gib", "difference", "failed"]
    print(f"\n{profile.name}, each rung on top of those before it\n")
    print(record.table(header, [[row.get(key) or "" for key in header] for row in rows]))
    record.finish("speedups", {"profile": profile.name, "steps": steps}, rows, args.json)


if __name__ == "__main__":
    main()
