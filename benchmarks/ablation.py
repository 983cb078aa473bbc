"""Table 3 and Fig. 12 of the paper in small: which part of the adapter keeps the face, at equal training.

    python benchmarks/ablation.py --data SHARDS --portraits PORTRAITS --manifest MANIFEST --output OUT [--steps 300]

Each variant starts from the same base, the shipped preview's, with its adapter made anew; the base is frozen and the
adapter learns for the same number of steps from the same batches with the same noise. Every ``--every`` steps the
model draws held-out people from pure noise, one still each in one step, and a recogniser compares them with their
references. One step, because it is the model's own estimate of the clean picture: what a sampler adds to it has
nothing to do with the reference. A variant whose result is there is not run again.

The base was trained together with an adapter. It may favour what that adapter had; read small differences with that in
mind.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "without CAN": {"with_can": False},
    "identity branch only": {"branches": "identity"},
    "face branch only": {"branches": "face"},
    "without images (clips only)": {"clip_share": 1.0},
}


def held_out(args: argparse.Namespace, pipeline: Any) -> dict[str, Any]:
    """A batch of held-out people: references as in training, and the embeddings of their portraits."""
    import numpy as np
    import torch

    from magicmirror.data.animation import reference_view
    from magicmirror.data.manifest import read_manifest
    from magicmirror.faces.alignment import align_head
    from magicmirror.media import load_image
    from magicmirror.models.recognizer import DlibFaceRecognizer
    from magicmirror.training.batches import text_batch

    records = read_manifest(args.manifest, "validation")
    chosen = [records[i] for i in np.random.default_rng(0).permutation(len(records))[: args.people]]
    portraits, views = [], []
    for number, record in enumerate(chosen):
        picture = load_image(args.portraits / record.path)
        portraits.append(align_head(picture, record.landmark_array, "dlib5", 128))
        views.append(reference_view(picture, record.landmark_array, np.random.default_rng(number)))
    recognizer = DlibFaceRecognizer.from_dlib_package()
    with torch.no_grad():
        own, seen = (recognizer.embed_aligned(_pixels(np.stack(crops))) for crops in (portraits, views))
    words = {"male": "man", "female": "woman"}
    captions = [f"a {words.get(record.stratum.split('_')[0], 'person')} looks at the camera" for record in chosen]
    length = pipeline.transformer.config.max_text_seq_length
    ids, positions = text_batch(pipeline.tokenizer, captions, length)
    return {
        "crops": torch.from_numpy(np.stack(views)),
        "embeddings": seen,
        "portraits": own,
        "input_ids": ids,
        "positions": positions,
        "recognizer": recognizer,
    }


def _pixels(crops: Any) -> Any:
    import torch

    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def score(objective: Any, vae: Any, people: dict[str, Any]) -> dict[str, float]:
    """Draw every person in one step from pure noise, and rank all portraits by their distance to the drawing."""
    import torch
    from first_estimate import first_estimate

    count = len(people["crops"])
    config = objective.transformer.config
    shape = (count, 1, config.in_channels, config.sample_height, config.sample_width)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    was_training = objective.training
    objective.eval()
    with torch.no_grad():
        clean = first_estimate(objective, people, noise).transpose(1, 2)
        pictures = vae.decode(clean / vae.config.scaling_factor).sample[:, :, 0]
        drawn = people["recognizer"].embed_aligned((pictures / 2 + 0.5).clamp(0, 1))
    objective.train(was_training)
    distances = torch.cdist(drawn, people["portraits"])
    own = distances.diagonal()
    ranks = (distances <= own[:, None]).sum(1)
    return {
        "own": float(own.mean()),
        "other": float((distances.sum(1) - own).mean() / (count - 1)),
        "rank_1": float((ranks <= 1).float().mean()),
        "rank_5": float((ranks <= 5).float().mean()),
    }


def run_variant(changes: dict[str, Any], args: argparse.Namespace) -> list[dict[str, float]]:
    """Train one variant; returns its scores over the steps."""
    import torch

    from magicmirror.pipeline.pipeline import MagicMirrorPipeline
    from magicmirror.pipeline.profiles import bundled_model
    from magicmirror.training.build import build_trainer
    from magicmirror.training.recipes import find_recipe

    pipeline = MagicMirrorPipeline.from_pretrained(args.start or bundled_model("preview"), dtype=torch.float32)
    torch.manual_seed(0)
    pipeline.transformer.reset_adapter()
    recipe = find_recipe("stage1_images")
    config = replace(
        recipe.config,
        max_steps=args.steps,
        warmup_steps=min(30, args.steps),
        decay_steps=args.steps // 2,
        image_batch=args.batch,
        clip_batch=max(1, args.batch // 5),  # a clip has five latent frames: the same number of tokens
        identity_loss=0.4,
        identity_loss_below=1000,
        identity_loss_samples=4,
        **changes,
    )
    people = held_out(args, pipeline)
    scores = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(replace(recipe, config=config), args.data, pipeline, Path(folder), True)
        for step in range(args.steps + 1):
            if step % args.every == 0:
                scores.append({"step": step, **score(trainer.trained, pipeline.vae, people)})
                print(json.dumps(scores[-1]), flush=True)
            if step < args.steps:
                trainer.train_step()
    return scores


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """The last score of every variant as Markdown."""
    lines = ["| variant | own distance | others' | rank-1 | rank-5 |", "|---|---|---|---|---|"]
    for name, scores in results.items():
        last = scores[-1]
        shares = " | ".join(f"{100 * last[key]:.0f} %" for key in ("rank_1", "rank_5"))
        lines.append(f"| {name} | {last['own']:.3f} | {last['other']:.3f} | {shares} |")
    return "\n".join(lines)


def draw_curves(results: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Own distance over the steps, one line a variant."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, scores in results.items():
        axes.plot([s["step"] for s in scores], [s["own"] - s["other"] for s in scores], label=name)
    axes.set_xlabel("steps of training the adapter")
    axes.set_ylabel("own distance less the others'")
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the missing variants, print the table, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True, help="folder of shards")
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="pipeline whose base is used; the shipped one by default")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--people", type=int, default=48)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    facts = {"steps": args.steps, "every": args.every, "batch": args.batch, "people": args.people}
    results = {}
    for name, changes in VARIANTS.items():
        path = args.output / f"{name.split(' (')[0].replace(' ', '_')}.json"
        if not path.exists():
            print(name, flush=True)
            path.write_text(json.dumps({**facts, "scores": run_variant(changes, args)}, indent=2) + "\n")
        saved = json.loads(path.read_text())
        if {key: saved[key] for key in facts} != facts:
            raise SystemExit(f"{path} is of other settings; choose another --output")
        results[name] = saved["scores"]
    print(table(results))
    draw_curves(results, args.output / "curves.png")


if __name__ == "__main__":
    main()
