"""What the adapter costs: stock CogVideoX and ours on the same weights, alternating in one process.

    python benchmarks/overhead.py [--runs 9] [--json FILE]      # reduced size, on the CPU
    python benchmarks/overhead.py --full [--compile] [--attention padded]   # CogVideoX-5B's size: needs a GPU

Both models share their base weights and get the same latents, with classifier-free guidance as one batch of two.
*step* is one call of the transformer, *loop* the whole denoising loop with everything that is made once before it:
diffusers' ``CogVideoXPipeline`` against ``magicmirror.pipeline.denoising.denoise``. The order within a pair changes
every time, and the ratio is the median over the pairs, with its quartiles; on a crowded machine that of the fastest
runs is the better one, because what disturbs a run only makes it slower. *work* is the ratio of counted operations.
``--attention`` chooses the kernel of ours alone; the stock model keeps torch's choice.
On a CPU the clock is this process's own CPU time, so that other work on the machine does not enter, and freed memory
is kept in the process, as every command does that serves or generates: without, the kernel's zeroing of pages is 3 % of
the time and falls on either model by chance.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import random_models
import record
import torch
from diffusers import CogVideoXPipeline
from torch.utils.flop_counter import FlopCounterMode

from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.pipeline.acceleration import check_speed, set_attention
from magicmirror.pipeline.denoising import Guidance, denoise
from magicmirror.pipeline.freed_memory import keep_freed_memory
from magicmirror.pipeline.speed_options import SpeedOptions
from magicmirror.settings import ATTENTION_KERNELS

GUIDANCE = 6.0
Work = Callable[[], Any]


class Contest:
    """Stock and ours at one size.

    Args:
        size: What to build.
        device: Where.
        steps: Of the loop.
        attention: Kernel of ours; ``None`` takes torch's choice, as stock does.
    """

    def __init__(
        self, size: random_models.Size, device: torch.device, steps: int, attention: str | None = None
    ) -> None:
        self.device, self.steps = device, steps
        self.stock, self.ours = random_models.build_pair(size, device)
        self.inputs = random_models.Inputs.random(size, self.ours)
        self.guided_text = torch.cat([torch.zeros_like(self.inputs.text), self.inputs.text])
        self.scheduler = random_models.scheduler(steps, device)
        self.timestep = self.scheduler.timesteps[:1].expand(2)
        self.constants = self._constants(self.ours)
        self.pipeline = CogVideoXPipeline(None, None, None, self.stock, self.scheduler)
        self.pipeline.set_progress_bar_config(disable=True)
        if attention is not None:
            check_speed(SpeedOptions(attention=attention), device, self.ours.dtype)
            set_attention(self.ours, attention)

    def compile(self) -> None:
        """Compile the blocks of both; their work cannot be counted any more then."""
        self.stock._repeated_blocks = ["CogVideoXBlock"]
        for model in (self.stock, self.ours):
            model.compile_repeated_blocks(fullgraph=True)

    def _constants(self, model: MagicMirrorTransformer3DModel) -> Any:
        null = model.null_identity(1)
        tokens = [torch.cat([a, b]) for a, b in zip(null, self.inputs.identity, strict=True)]
        return model.precompute_identity(*tokens, self.scheduler.timesteps)

    def stock_step(self) -> Any:
        """One call of the stock transformer."""
        return self._step(self.stock)

    def our_step(self) -> Any:
        """One call of ours, with the identity."""
        return self._step(self.ours, identity_constants=self.constants.at(0))

    def _step(self, model: Any, **identity: Any) -> Any:
        return model(
            hidden_states=torch.cat([self.inputs.latents] * 2),
            encoder_hidden_states=self.guided_text,
            timestep=self.timestep,
            image_rotary_emb=self.inputs.rotary,
            return_dict=False,
            **identity,
        )[0]

    def stock_loop(self) -> Any:
        """Diffusers' pipeline from embedded text to latents."""
        _, frames, _, height, width = self.inputs.latents.shape
        return self.pipeline(
            prompt_embeds=self.inputs.text,
            negative_prompt_embeds=torch.zeros_like(self.inputs.text),
            height=8 * height,
            width=8 * width,
            num_frames=4 * (frames - 1) + 1,
            num_inference_steps=self.steps,
            guidance_scale=GUIDANCE,
            latents=self.inputs.latents,
            output_type="latent",
        ).frames

    def our_loop(self, precompute: bool = True) -> Any:
        """Our loop from embedded text and identity to latents, its constants included."""
        self.scheduler.set_timesteps(self.steps, device=self.device)
        rotary = random_models.rotary_embedding(self.ours.config, self.inputs.latents.shape, self.device)
        return denoise(
            self.ours,
            self.scheduler,
            self.inputs.latents,
            self.guided_text,
            Guidance(GUIDANCE),
            rotary=rotary,
            identity=self.inputs.identity,
            precompute=precompute,
        )


def seconds(work: Work, device: torch.device) -> float:
    """Time of one run: of the GPU, or of this process on the CPU."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    random_models.wait(device)
    started = clock()
    work()
    random_models.wait(device)
    return clock() - started


def compare(first: Work, second: Work, runs: int, device: torch.device) -> dict[str, Any]:
    """Run two works in turns.

    Returns:
        Medians in seconds, the ratio second / first with its spread over the pairs, and that of the fastest runs.
    """
    first(), second()  # warm
    times: list[tuple[float, float]] = []
    for run in range(runs):
        if run % 2:
            b, a = seconds(second, device), seconds(first, device)
        else:
            a, b = seconds(first, device), seconds(second, device)
        times.append((a, b))
    return {
        "stock_s": record.spread([a for a, _ in times]),
        "ours_s": record.spread([b for _, b in times]),
        "ratio": record.spread([b / a for a, b in times]),
        "best_ratio": min(b for _, b in times) / min(a for a, _ in times),
    }


def counted_work(contest: Contest) -> float:
    """Operations of our step over those of the stock one."""
    counts = []
    for step in (contest.stock_step, contest.our_step):
        with FlopCounterMode(display=False) as counter:
            step()
        counts.append(counter.get_total_flops())
    return counts[1] / counts[0]


@torch.no_grad()
def main() -> None:
    """Measure, print a table, write JSON."""
    parser = record.parser(__doc__)
    parser.add_argument("--full", action="store_true", help="CogVideoX-5B's size on a GPU")
    parser.add_argument("--compile", action="store_true", help="compile the blocks of both")
    parser.add_argument("--attention", choices=ATTENTION_KERNELS, help="kernel of ours")
    parser.add_argument("--runs", type=int, default=9, help="pairs of steps")
    parser.add_argument("--loops", type=int, default=3, help="pairs of loops; 0 leaves them out")
    parser.add_argument("--steps", type=int, help="of a loop; 50 at full size, else 4")
    args = parser.parse_args()
    if args.full and not torch.cuda.is_available():
        parser.error("--full needs a CUDA device")
    keep_freed_memory()
    device = torch.device("cuda" if args.full else "cpu")
    size = random_models.published("cogvideox-5b") if args.full else random_models.reduced()
    steps = args.steps or (50 if args.full else 4)
    contest = Contest(size, device, steps, args.attention)
    results: dict[str, Any] = {"work_ratio": counted_work(contest)}
    if args.compile:
        contest.compile()
    results["step"] = compare(contest.stock_step, contest.our_step, args.runs, device)
    if args.loops:
        results["loop"] = compare(contest.stock_loop, contest.our_loop, args.loops, device)
    rows = [
        [name, part["stock_s"]["median"], part["ours_s"]["median"]]
        + [f"{part['ratio'][key]:.4f}" for key in ("median", "low", "high")]
        + [f"{part['best_ratio']:.4f}"]
        for name, part in results.items()
        if isinstance(part, dict)
    ]
    settings = {**size.facts(), "steps": steps, "compile": args.compile, "attention": args.attention}
    print(", ".join(f"{key} {value}" for key, value in settings.items()), end="\n\n")
    print(record.table(["", "stock, s", "ours, s", "ratio", "low", "high", "of the fastest"], rows))
    print(f"\nwork, counted: {results['work_ratio']:.4f}")
    record.finish("overhead", settings, results, args.json)


if __name__ == "__main__":
    main()
