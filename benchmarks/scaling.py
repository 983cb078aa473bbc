"""How time grows: a denoising step against frames, resolution and batch, the face encoders against references.

    python benchmarks/scaling.py [--runs 3] [--json FILE]        # reduced size, on the CPU
    python benchmarks/scaling.py --full                          # CogVideoX-5B's size, random weights: needs a GPU

For each axis the exponent is the slope of log(time) over log(amount): 1 is proportional, 2 is quadratic. The best of
the runs is taken, because what disturbs a run only ever makes it slower; on a CPU it is this process's CPU time.
References cost nothing in a step: they are averaged before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import random_models
import record
import torch
from overhead import seconds

from magicmirror.models.parameters import build_networks
from magicmirror.pipeline.conditioning import average_identity, encode_faces


def slope(amounts: Sequence[float], times: Sequence[float]) -> float:
    """Exponent of the power law through the points, by least squares of the logarithms."""
    xs, ys = [math.log(x) for x in amounts], [math.log(y) for y in times]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return covariance / sum((x - mean_x) ** 2 for x in xs)


def best(work: Callable[[], Any], runs: int, device: torch.device) -> float:
    """Seconds of the fastest run after a warm one."""
    work()
    return min(seconds(work, device) for _ in range(runs))


class Steps:
    """One model, and its denoising step at several sizes."""

    def __init__(self, size: random_models.Size, device: torch.device) -> None:
        self.size, self.device = size, device
        _, self.model = random_models.build_pair(size, device)

    def step(self, size: random_models.Size, batch: int = 1) -> Callable[[], Any]:
        """A guided step: 2 ``batch`` rows."""
        inputs = random_models.Inputs.random(size, self.model, 2 * batch)
        timesteps = torch.tensor([500], device=self.device)
        constants = self.model.precompute_identity(*inputs.identity, timesteps).at(0)
        return lambda: self.model(
            hidden_states=inputs.latents,
            encoder_hidden_states=inputs.text,
            timestep=timesteps.expand(2 * batch),
            image_rotary_emb=inputs.rotary,
            return_dict=False,
            identity_constants=constants,
        )

    def axes(self) -> dict[str, list[tuple[float, Callable[[], Any]]]]:
        """Axis -> (amount, work)."""
        size, full = self.size, self.device.type == "cuda"
        frames = (3, 5, 9, 13) if full else (1, 2, 4)
        shares = (0.5, 0.7, 0.85, 1.0) if full else (0.5, 0.7, 1.0)
        still = size if full else replace(size, latent_frames=2)
        return {
            "frames (latent)": [(count, self.step(replace(size, latent_frames=count))) for count in frames],
            "resolution (cells)": [(s.latent_height * s.latent_width, self.step(s)) for s in _sizes(still, shares)],
            "batch": [(count, self.step(replace(size, latent_frames=1), count)) for count in (1, 2, 4)],
        }


def _sizes(size: random_models.Size, shares: Sequence[float]) -> list[random_models.Size]:
    return [
        replace(
            size,
            latent_height=2 * round(share * size.latent_height / 2),
            latent_width=2 * round(share * size.latent_width / 2),
        )
        for share in shares
    ]


def reference_work(preset: str, device: torch.device, dtype: torch.dtype, count: int) -> Callable[[], Any]:
    """Both branches of the face encoders for so many photos, and their average."""
    networks = {
        name: torch.nn.Module.to(network, dtype).eval()
        for name, network in build_networks(
            preset, device, ("image_encoder", "identity_perceiver", "face_perceiver")
        ).items()
    }
    tower: Any = networks["image_encoder"]
    perceiver: Any = networks["identity_perceiver"]
    side = tower.config.image_size
    pixels = torch.randn(count, 3, side, side, device=device, dtype=dtype)
    embeddings = torch.randn(count, perceiver.config.embedding_dim, device=device, dtype=dtype)
    return lambda: average_identity(
        encode_faces(tower, perceiver, networks["face_perceiver"], pixels, embeddings), torch.ones(count)
    )


@torch.no_grad()
def main() -> None:
    """Measure, print a table, write JSON."""
    parser = record.parser(__doc__)
    parser.add_argument("--full", action="store_true", help="CogVideoX-5B's size on a GPU")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    if args.full and not torch.cuda.is_available():
        parser.error("--full needs a CUDA device")
    device = torch.device("cuda" if args.full else "cpu")
    size = random_models.published("cogvideox-5b") if args.full else random_models.reduced(heads=4, layers=2)
    preset = "cogvideox-5b" if args.full else "preview"
    axes = Steps(size, device).axes()
    axes["references (face encoders)"] = [(n, reference_work(preset, device, size.dtype, n)) for n in (1, 2, 4, 8)]
    results, rows = {}, []
    for axis, points in axes.items():
        times = [best(work, args.runs, device) for _, work in points]
        amounts = [amount for amount, _ in points]
        results[axis] = {"amounts": amounts, "seconds": times, "exponent": slope(amounts, times)}
        shown = ", ".join(f"{amount:g}: {time:.3f}" for amount, time in zip(amounts, times, strict=True))
        rows.append([axis, shown, f"{results[axis]['exponent']:.2f}"])
    print(", ".join(f"{key} {value}" for key, value in size.facts().items()), end="\n\n")
    print(record.table(["axis", "amount: seconds", "exponent"], rows))
    record.finish("scaling", size.facts(), results, args.json)


if __name__ == "__main__":
    main()
