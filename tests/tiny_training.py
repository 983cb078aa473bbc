"""What a tiny training run needs: a pipeline whose two visual inputs fit, a config, a batch, a folder of shards."""

import json

import numpy as np
import torch
from safetensors.torch import save_file

from magicmirror.data.pose_targets import NUM_POSE_VALUES
from magicmirror.data.precompute import PLAN_FILE, shard_path
from magicmirror.data.style import STYLES
from magicmirror.models.recognizer import EMBEDDING_SIZE
from magicmirror.training.batches import text_batch
from magicmirror.training.config import TrainingConfig
from tests.tiny_pipeline import TEXT_LENGTH, build_pipeline

CAPTIONS = (
    "a man img smiles",
    "the woman img in a hat",
    "a man img and the sea",
    "an old man img in the",
    "smile, a lady img",
    "a girl img in red",
)
MOTIONS = [{"name": "turn_left", "strength": "slight", "pace": "quick"}]
SIDE_PX, CHANNELS, CELLS, FRAMES = 32, 4, 4, 3


def build_trainable(seed=0):
    """The tiny pipeline with the preview's positions and recogniser, and one size for vision tower and VAE."""
    return build_pipeline(
        seed, image_size=SIDE_PX, embedding_size=EMBEDDING_SIZE, use_learned_positional_embeddings=True
    )


def make_config(**changes):
    options = {
        "name": "joint",
        "preset": "preview",
        "max_steps": 6,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "image_batch": 4,
        "clip_batch": 2,
        "mixed_precision": "no",
        **changes,
    }
    return TrainingConfig(**options)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def make_batch(tokenizer, rows=4, frames=FRAMES, seed=0):
    """A batch as ``identity_batches`` gives it."""
    random = generator(seed)
    captions = [CAPTIONS[row % len(CAPTIONS)] for row in range(rows)]
    ids, positions = text_batch(tokenizer, captions, TEXT_LENGTH)
    return {
        "latents": torch.randn(rows, frames, CHANNELS, CELLS, CELLS, generator=random),
        "crops": torch.randint(0, 256, (rows, SIDE_PX, SIDE_PX, 3), generator=random, dtype=torch.uint8),
        "embeddings": torch.randn(rows, EMBEDDING_SIZE, generator=random),
        "target_embeddings": torch.randn(rows, EMBEDDING_SIZE, generator=random),
        "poses": torch.randn(rows, frames, NUM_POSE_VALUES, generator=random),
        "styles": torch.arange(rows) % len(STYLES),
        "captions": captions,
        "input_ids": ids,
        "positions": positions,
    }


def write_shards(
    folder,
    people=8,
    stills=8,
    clips=1,
    seed=0,
    crop_px=SIDE_PX,
    embedding_dim=EMBEDDING_SIZE,
    latent=(CHANNELS, CELLS, CELLS),
    plan=(),
):
    """One shard in the form of ``precompute``, of random numbers."""
    random = generator(seed)
    folder.mkdir(parents=True)
    (folder / PLAN_FILE).write_text(json.dumps({"num_shards": 1, **dict(plan)}))
    tensors = {
        "crops": torch.randint(0, 256, (people, 3, crop_px, crop_px, 3), generator=random, dtype=torch.uint8),
        "embeddings": torch.randn(people, 3, embedding_dim, generator=random),
    }
    lines = []
    for kind, count, frames in (("image", stills, 1), ("clip", clips, FRAMES)):
        shape = (people * count, frames, *latent)
        tensors[f"{kind}_latents"] = torch.randn(shape, generator=random).half()
        tensors[f"{kind}_portraits"] = torch.arange(people, dtype=torch.int32).repeat_interleave(count)
        for row in range(people * count):
            person = f"person {row // count}"
            caption = CAPTIONS[row % len(CAPTIONS)]
            lines.append({"kind": kind, "caption": caption, "person_id": person, "stratum": "one", "motions": MOTIONS})
    shard_path(folder, 0).with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    save_file(tensors, shard_path(folder, 0))
    return folder


def moving_clips(rows=2, frames=9, side=32):
    """A bright square that wanders over a gradient, (B, F, S, S, 3) uint8."""
    clips = np.tile(np.linspace(40, 160, side, dtype=np.uint8)[:, None, None], (rows, frames, 1, side, 3))
    for row in range(rows):
        for frame in range(frames):
            clips[row, frame, 4 * row + 4 : 4 * row + 14, 2 * frame : 2 * frame + 10] = (250, 30, 90)
    return {"pixels": torch.from_numpy(clips)}


def flowing_clips(**shape):
    """Clips and the flow of their square, which the rest of the picture is given too."""
    batch = moving_clips(**shape)
    rows, frames, height, width, _ = batch["pixels"].shape
    return {**batch, "flow": torch.tensor([2.0, 0.0]).expand(rows, frames - 1, height, width, 2)}
