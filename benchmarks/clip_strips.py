"""Where does a moving frame get lost? Clips of one motion taken apart, as strips of pictures.

    python benchmarks/clip_strips.py --data SHARDS --output STRIPS.png [--model PIPELINE] [--motions turn_left,zoom_in]

Four rows a clip, every second frame: the clip's own latents decoded; what the denoiser predicts of them in one step
from pure noise; in two steps, as a request does; and in one step from the clip's own latents with the second step's
noise. What is soft in the first row the VAE loses; what only the others lack, the denoiser. Printed beside it: the mean
squared error of the latents of each latent frame, and the sharpness (variance of the Laplacian) of first and last.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from text_response import SHIPPED

from magicmirror.pipeline.profiles import find_profile
from magicmirror.types import UInt8Array

ROWS = ("own latents", "one step", "two steps", "own latents with noise")
GUIDANCE = find_profile("preview").guidance_scale


def rows_of(folder: Path, motion: str, count: int) -> list[dict[str, Any]]:
    """The last plain clips with this motion alone at full strength, each a batch of one.

    Raises:
        SystemExit: If there is none.
    """
    from magicmirror.data.dataset import LatentDataset, collate

    data = LatentDataset([folder], "clip", allow_incomplete=True)
    found = [
        number
        for number, row in enumerate(data.rows)
        if [cue.name for cue in row.motions] == [motion] and row.style == "none" and row.motions[0].strength == "normal"
    ]
    if not found:
        raise SystemExit(f'No plain clip in "{folder}" has the motion {motion} alone.')
    return [collate([data.sample(number, view=1)]) for number in found[-count:]]


def estimates(objective: Any, tokenizer: Any, batch: dict[str, Any]) -> list[Any]:
    """Clean latents (1, F, C, H, W) of each of ``ROWS``, by an objective whose config has the guidance."""
    import torch

    from magicmirror.training.batches import text_batch
    from magicmirror.training.predicted_latents import REQUEST_TIMESTEPS, PredictedLatents

    length = objective.transformer.config.max_text_seq_length
    ids, positions = text_batch(tokenizer, batch["captions"], length)
    given = {**batch, "input_ids": ids, "positions": positions}
    own = batch["latents"].float()
    noise = torch.randn(own.shape, generator=torch.Generator().manual_seed(0))
    predict = PredictedLatents(objective, 1.0, objective.config)

    def clean(latents: Any, timestep: int) -> Any:
        at = torch.tensor([timestep])
        return predict.clean(given, objective.scheduler.add_noise(latents, noise, at), at)

    first, second = REQUEST_TIMESTEPS
    with torch.no_grad():
        guess = clean(torch.zeros_like(own), first)
        return [own, guess, clean(guess, second), clean(own, second)]


def strips(pipeline: Any, folder: Path, motions: list[str], clips: int) -> tuple[UInt8Array, list[list[str]]]:
    """Take clips apart.

    Returns:
        One picture (H, W, 3) of all strips, and a line of figures for each.
    """
    import torch

    from magicmirror.evaluation.picture_quality import sharpness
    from magicmirror.media.optical_flow import grey_frames
    from magicmirror.training.config import TrainingConfig
    from magicmirror.training.networks import identity_objective
    from magicmirror.training.vae_objective import as_pixels

    config = TrainingConfig("clip_strips", "preview", max_steps=1, learning_rate=1e-4, guidance_scale=GUIDANCE)
    objective = identity_objective(pipeline, config).eval()
    pictures, lines = [], []
    for motion in motions:
        for batch in rows_of(folder, motion, clips):
            made = estimates(objective, pipeline.tokenizer, batch)
            for name, latents in zip(ROWS, made, strict=True):
                with torch.no_grad():
                    frames = as_pixels(pipeline.decode_latents(latents))[0].numpy()
                grey = grey_frames(frames)
                pictures.append(np.concatenate(list(frames[::2]), axis=1))
                errors = (latents - made[0]).square().mean((0, 2, 3, 4)).tolist()
                lines.append(
                    [motion, name, " ".join(f"{error:.3f}" for error in errors)]
                    + [f"{sharpness(grey[[at]]):.0f}" for at in (0, -1)]
                )
    return np.concatenate(pictures), lines


def main() -> None:
    """Write the picture, print the table."""
    import record
    import torch

    from magicmirror.media import write_image
    from magicmirror.pipeline.pipeline import MagicMirrorPipeline

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of shards")
    parser.add_argument("--output", type=Path, required=True, help="PNG")
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--motions", default="turn_left,zoom_in,tilt_left,smile", help="names, with commas")
    parser.add_argument("--clips", type=int, default=1, help="of each motion")
    args = parser.parse_args()
    pipeline = MagicMirrorPipeline.from_pretrained(str(args.model), torch_dtype=torch.float32)
    picture, lines = strips(pipeline, args.data, args.motions.split(","), args.clips)
    write_image(picture, args.output)
    print(record.table(["motion", "", "error of each latent frame", "first frame", "last frame"], lines))


if __name__ == "__main__":
    main()
