"""Throughput of the trainer: samples a second, and the share of the time in which a step waits for its data.

    python benchmarks/training.py [--steps 6] [--recipe joint] [--data SHARDS] [--json FILE]
    python benchmarks/training.py --full-size    # CogVideoX-5B's sizes, random weights: needs a GPU of 80 GB

Without ``--data`` the shards are random numbers of the right shapes, in files, so that the loader does its real work.
Nothing is written but a temporary folder. Stills and clips are measured apart, because a run mixes them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import record

FIRST = 2
"""Steps that warm up and are not counted."""


def write_random_shards(folder: Path, latent: tuple[int, int, int, int], crop_px: int, embedding: int) -> Path:
    """Write shards in the form of ``precompute``; latent is (F, C, H, W) of a clip."""
    import torch
    from safetensors.torch import save_file

    from magicmirror.data.precompute import PLAN_FILE, shard_path

    people, stills, clips = 16, 6, 2
    folder.mkdir(parents=True)
    (folder / PLAN_FILE).write_text(json.dumps({"num_shards": 1}))
    frames, *cell = latent
    tensors = {
        "crops": torch.randint(0, 256, (people, 3, crop_px, crop_px, 3), dtype=torch.uint8),
        "embeddings": torch.randn(people, 3, embedding),
    }
    lines = []
    for kind, count, length in (("image", stills, 1), ("clip", clips, frames)):
        tensors[f"{kind}_latents"] = torch.randn(people * count, length, *cell).half()
        tensors[f"{kind}_portraits"] = torch.arange(people, dtype=torch.int32).repeat_interleave(count)
        for row in range(people * count):
            person = f"person {row // count}"
            line = {"kind": kind, "caption": "a man img turns his head", "person_id": person, "stratum": "one"}
            lines.append(json.dumps(line) + "\n")
    shard_path(folder, 0).with_suffix(".jsonl").write_text("".join(lines))
    save_file(tensors, shard_path(folder, 0))
    return folder


def preview_networks() -> Any:
    """The shipped preview model in float32."""
    import torch

    from magicmirror.pipeline.pipeline import MagicMirrorPipeline
    from magicmirror.pipeline.profiles import bundled_model

    return MagicMirrorPipeline.from_pretrained(bundled_model("preview"), dtype=torch.float32)


def full_networks() -> Any:
    """Networks of CogVideoX-5B's sizes with random weights, made on the GPU in bfloat16."""
    import torch
    from diffusers import AutoencoderKLCogVideoX
    from transformers import CLIPVisionConfig, CLIPVisionModel, T5Config, T5EncoderModel, T5Tokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from magicmirror.models.fusion import IdentityFusion
    from magicmirror.models.perceiver import FacePerceiver, IdentityPerceiver
    from magicmirror.models.presets import model_preset
    from magicmirror.models.transformer import MagicMirrorTransformer3DModel
    from magicmirror.pipeline.pipeline import MagicMirrorPipeline
    from magicmirror.pipeline.profiles import bundled_model
    from magicmirror.training.networks import noise_schedule

    sizes = model_preset("cogvideox-5b")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda"):
            parts = {
                "transformer": MagicMirrorTransformer3DModel(**sizes.transformer),
                "image_encoder": CLIPVisionModel(CLIPVisionConfig(**sizes.image_encoder)),
                "identity_perceiver": IdentityPerceiver(**sizes.identity_perceiver),
                "face_perceiver": FacePerceiver(**sizes.face_perceiver),
                "identity_fusion": IdentityFusion(**sizes.identity_fusion),
                "text_encoder": T5EncoderModel(T5Config(**sizes.text_encoder)),
                "vae": AutoencoderKLCogVideoX(**sizes.vae),
            }
    finally:
        torch.set_default_dtype(before)
    # Its ids lie within T5's vocabulary; which words they stand for does not matter to the speed.
    tokenizer = T5Tokenizer.from_pretrained(bundled_model("preview") / "tokenizer")
    return MagicMirrorPipeline(
        **parts, tokenizer=tokenizer, scheduler=noise_schedule(), feature_extractor=CLIPImageProcessorPil()
    )


def measure(recipe: Any, networks: Any, shards: list[Path], kind: str, steps: int) -> dict[str, Any]:
    """Throughput of one kind of step."""
    import torch

    from magicmirror.training.build import build_trainer

    config = replace(recipe.config, clip_share=1.0 if kind == "clip" else 0.0, max_steps=FIRST + steps)
    config = replace(config, decay_steps=0, identity_loss=0.0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(replace(recipe, config=config), shards, networks, Path(folder))
        for _ in range(FIRST):
            trainer.train_step()
        waited, started = 0.0, time.perf_counter()
        for _ in range(steps):
            trainer.train_step()  # its losses come back as numbers, so the device has finished
            waited += trainer.loader.waited_s
        seconds = time.perf_counter() - started
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
    return {
        "kind": kind,
        "samples_a_step": trainer.samples,
        "s_a_step": seconds / steps,
        "samples_a_s": trainer.samples * steps / seconds,
        "data_share": waited / seconds,
        "gpu_memory_gib": memory,
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what was asked for."""
    import torch

    from magicmirror.training.recipes import find_recipe

    if args.full_size and not torch.cuda.is_available():
        raise SystemExit("--full-size needs a GPU")
    with tempfile.TemporaryDirectory() as folder:
        if args.full_size:
            networks, recipes = full_networks(), {"image": "cogvideox_5b_stage1", "clip": "cogvideox_5b_stage2"}
            latent, crop_px, embedding = (13, 16, 60, 90), 224, 512
        else:
            networks, recipes = preview_networks(), {"image": args.recipe, "clip": args.recipe}
            latent, crop_px, embedding = (5, 16, 16, 16), 128, 128
        shards = args.data or [write_random_shards(Path(folder) / "shards", latent, crop_px, embedding)]
        rows = [measure(find_recipe(name), networks, shards, kind, args.steps) for kind, name in recipes.items()]
    return {"recipes": recipes, "rows": rows}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = record.parser(__doc__)
    parser.add_argument("--steps", type=int, default=6, help="measured steps of each kind")
    parser.add_argument("--recipe", default="joint", help="recipe of the preview")
    parser.add_argument("--data", type=Path, action="append", help="folder of shards")
    parser.add_argument("--full-size", action="store_true", help="CogVideoX-5B's sizes, on a GPU")
    args = parser.parse_args()
    result = run(args)
    keys = ("kind", "samples_a_step", "s_a_step", "samples_a_s", "data_share", "gpu_memory_gib")
    header = ("kind", "samples a step", "s a step", "samples/s", "share of waiting for data", "GPU memory, GiB")
    rows = [["" if row[key] is None else row[key] for key in keys] for row in result["rows"]]
    print(record.table(header, rows))
    settings = {"recipes": result["recipes"], "steps": args.steps, "full_size": args.full_size}
    record.finish("training", settings, result["rows"], args.json)


if __name__ == "__main__":
    main()
