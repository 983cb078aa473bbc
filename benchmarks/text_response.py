"""Does the text decide the motion? What the first prediction from pure noise explains of clips, per motion word.

    python benchmarks/text_response.py --data SHARDS [--model PIPELINE] [--clips 96] [--output FILE.json]

At the noisiest timestep nothing but caption and reference tells how a clip goes on. The prediction's change from the
first frame is compared with the clip's own: once with the clip's caption, and once with captions that are dealt out
anew among the clips; if both columns are alike, the model does not listen. "Of the mean" is what the average change of
all clips with the same motion explains, which a model reaches without looking at the person.

Use shards that the model was not trained on for figures to report; for a look during training those of the run will do.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parents[1] / "assets" / "models" / "preview"


def clips_of_one_motion(folder: Path, count: int) -> tuple[dict[str, Any], list[str]]:
    """The last clips of a folder of shards that have one motion: a batch, and their motions."""
    from magicmirror.data.dataset import LatentDataset, collate

    data = LatentDataset([folder], "clip", allow_incomplete=True)
    rows = [number for number, row in enumerate(data.rows) if row.motions and len(row.motions) == 1][-count:]
    motions = [data.rows[number].motions[0].name for number in rows]
    return collate([data.sample(number, view=1) for number in rows]), motions


def predicted_changes(pipeline: Any, batch: dict[str, Any], shift: int, size: int = 16) -> Any:
    """Change (B, F - 1, C, H, W) from the first frame, predicted from noise; captions are those ``shift`` rows on."""
    import torch
    from first_estimate import first_estimate

    from magicmirror.training.batches import text_batch
    from magicmirror.training.config import TrainingConfig
    from magicmirror.training.networks import identity_objective

    config = TrainingConfig("text_response", "preview", max_steps=1, learning_rate=1e-4)
    objective = identity_objective(pipeline, config).eval()
    latents = batch["latents"]
    captions = batch["captions"][shift:] + batch["captions"][:shift]
    ids, positions = text_batch(pipeline.tokenizer, captions, pipeline.transformer.config.max_text_seq_length)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    parts = []
    for start in range(0, len(latents), size):
        rows = slice(start, start + size)
        part = {
            "input_ids": ids[rows],
            "positions": positions[rows],
            "crops": batch["crops"][rows],
            "embeddings": batch["embeddings"][rows],
        }
        parts.append(change(first_estimate(objective, part, noise[rows])))
    return torch.cat(parts)


def change(latents: Any) -> Any:
    """Later frames less the first, (B, F - 1, C, H, W)."""
    return latents[:, 1:] - latents[:, :1]


def explained(predicted: Any, true: Any, rows: list[int]) -> float:
    """1 - error over mean square, over some rows."""
    return float(1 - (predicted[rows] - true[rows]).square().mean() / true[rows].square().mean())


def report(pipeline: Any, folder: Path, count: int) -> list[dict[str, Any]]:
    """One line a motion, and one for all."""
    import torch

    batch, motions = clips_of_one_motion(folder, count)
    true = change(batch["latents"])
    own, dealt = (predicted_changes(pipeline, batch, shift) for shift in (0, 7))
    groups: dict[str, list[int]] = defaultdict(list)
    for row, motion in enumerate(motions):
        groups[motion].append(row)
    means = torch.empty_like(true)
    for rows in groups.values():
        means[rows] = true[rows].mean(0)
    lines = []
    for name, rows in [("all", list(range(len(motions)))), *sorted(groups.items())]:
        figures = {"own caption": own, "dealt caption": dealt, "of the mean": means}
        line = {key: round(explained(value, true, rows), 3) for key, value in figures.items()}
        lines.append({"motion": name, "clips": len(rows), **line})
    return lines


def main() -> None:
    """Print the table."""
    import torch

    from magicmirror.pipeline.pipeline import MagicMirrorPipeline

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    pipeline = MagicMirrorPipeline.from_pretrained(str(args.model), torch_dtype=torch.float32)
    lines = report(pipeline, args.data, args.clips)
    print("| motion | clips | own caption | dealt caption | of the mean |\n|---|---|---|---|---|")
    for line in lines:
        print("| " + " | ".join(str(value) for value in line.values()) + " |")
    if args.output:
        args.output.write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
