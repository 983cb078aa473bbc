"""Share of each part of a denoising step, and of each kind of operation, by torch's profiler.

    python benchmarks/breakdown.py [--json FILE]                 # reduced size, on the CPU
    python benchmarks/breakdown.py --full [--trace FILE]         # CogVideoX-5B's size, random weights: needs a GPU

Not called ``profile``: a file of that name in this folder would stand in for the standard library's module. Parts are
marked around the modules of the transformer; the face's tokens are in each of them, its cross term is a part of its
own. Seconds are a GPU's own where there is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import overhead
import random_models
import record
import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from magicmirror.models.attention import MagicMirrorAttnProcessor
from magicmirror.pipeline.freed_memory import keep_freed_memory

PARTS = "part: "


def mark(model: Any) -> None:
    """Put a range of the profiler around the parts of a transformer."""
    _around(model.patch_embed.proj, "embedding of patches")
    _around(model.patch_embed.text_proj, "projection of the text")
    _around(model.time_embedding, "time embedding")
    _around(model.proj_out, "output projection")
    for block in model.transformer_blocks:
        for norm in (block.norm1, block.norm2):
            _around(norm.linear, "modulation (adaLN)")
        _around(block.ff, "feed-forward")
        for name in ("to_q", "to_k", "to_v"):
            _around(getattr(block.attn1, name), "projections of attention")
        _around(block.attn1.to_out[0], "projections of attention")
    plain: Callable[..., Any] = MagicMirrorAttnProcessor._attend

    def attend(self: Any, *args: Any, **kwargs: Any) -> Any:
        with record_function(PARTS + "attention"):
            return plain(self, *args, **kwargs)

    def cross_attend(self: Any, query: Any, key: Any, value: Any) -> Any:
        with record_function(PARTS + "cross term of the face"):
            return plain(self, query, key, value)

    MagicMirrorAttnProcessor._attend = attend  # type: ignore[method-assign]
    MagicMirrorAttnProcessor._cross_attend = cross_attend  # type: ignore[method-assign]


def _around(module: nn.Module, name: str) -> None:
    inner = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with record_function(PARTS + name):
            return inner(*args, **kwargs)

    module.forward = forward  # type: ignore[method-assign]


def shares(events: Any, on_gpu: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds by part (with *the rest*), and by operation, largest first.

    Args:
        events: Averages of the profiler. Those of the host alone are read: they know the time of the kernels that they
            started, and a GPU's kernels and ranges are listed once more as events of their own.
        on_gpu: Whether the seconds are the GPU's.
    """
    parts: Counter[str] = Counter()
    operations: Counter[str] = Counter()
    for event in (event for event in events if event.device_type == DeviceType.CPU):
        if event.key.startswith(PARTS):
            parts[event.key.removeprefix(PARTS)] += (event.device_time_total if on_gpu else event.cpu_time_total) / 1e6
        else:
            own = (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
            operations[event.key] += own
    parts["the rest (norms, modulation, additions)"] = max(0.0, sum(operations.values()) - sum(parts.values()))
    return dict(parts.most_common()), dict(operations.most_common(10))


@torch.no_grad()
def main() -> None:
    """Measure, print a table, write JSON."""
    parser = record.parser(__doc__)
    parser.add_argument("--full", action="store_true", help="CogVideoX-5B's size on a GPU")
    parser.add_argument("--trace", type=Path, help="where to write a trace for chrome://tracing")
    parser.add_argument("--runs", type=int, default=3, help="steps")
    args = parser.parse_args()
    if args.full and not torch.cuda.is_available():
        parser.error("--full needs a CUDA device")
    keep_freed_memory()
    device = torch.device("cuda" if args.full else "cpu")
    size = random_models.published("cogvideox-5b") if args.full else random_models.reduced()
    contest = overhead.Contest(size, device, steps=2)
    contest.our_step()
    mark(contest.ours)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if args.full else [])
    with profile(activities=activities) as profiler:
        for _ in range(args.runs):
            contest.our_step()
        random_models.wait(device)
    if args.trace is not None:
        profiler.export_chrome_trace(str(args.trace))
    parts, operations = shares(profiler.key_averages(), args.full)
    whole = sum(parts.values())
    print(", ".join(f"{key} {value}" for key, value in size.facts().items()), end="\n\n")
    print(record.table(["part of a step", "share"], [[name, f"{time / whole:.1%}"] for name, time in parts.items()]))
    print()
    total = sum(operations.values())
    print(record.table(["operation", "share"], [[name, f"{time / total:.1%}"] for name, time in operations.items()]))
    results = {"parts_s": {k: v / args.runs for k, v in parts.items()}, "operations_s": operations}
    record.finish("breakdown", size.facts(), results, args.json)


if __name__ == "__main__":
    main()
