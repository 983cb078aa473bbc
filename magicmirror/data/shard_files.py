"""Opening the shards of a folder: what is damaged, half there or does not fit together is refused before it is used.

``precompute`` states the format. Only headers and lines are read here, never the latents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from magicmirror.data.motion import MotionCue
from magicmirror.data.shard_items import Kind
from magicmirror.data.style import STYLES
from magicmirror.errors import ConfigError
from magicmirror.types import Float32Array

PLAN_FILE = "plan.json"
AGAIN = "Delete the shard. Compute it again."
"""What mends a shard."""


@dataclass(frozen=True)
class ShardLine:
    """What a shard's text says of one row.

    Args:
        kind: A still or a clip.
        caption: What it shows.
        person_id: Whom it shows.
        stratum: Part of the collection.
        motions: What moves; ``None`` where that is not known.
        style: Its look, one of ``STYLES``; ``None`` where that is not known.
        eyes: (pixel frames, 4) where the eyes are, see ``face_area``; ``None`` where the head template says it.
    """

    kind: str
    caption: str
    person_id: str
    stratum: str
    motions: tuple[MotionCue, ...] | None
    style: str | None
    eyes: Float32Array | None = field(compare=False)


@dataclass(frozen=True)
class SampleShape:
    """Sizes of a sample, the same for all samples of a batch.

    Args:
        latents: (F, C, H, W); ``None`` for a shard without a sample of the kind.
        crop_px: Side S of a crop.
        embedding_dim: Width E of an embedding.
    """

    latents: tuple[int, ...] | None
    crop_px: int
    embedding_dim: int


def shard_path(out: Path, index: int) -> Path:
    """Return where the tensors of a shard are."""
    return out / f"shard-{index:05d}.safetensors"


def shard_name(path: Path) -> str:
    """Return how a message names a shard: its folder and its file."""
    return f'"{path.parent.name}/{path.name}"'


def read_plan(folder: Path) -> dict[str, Any]:
    """Read what the shards of a folder depend on.

    Raises:
        ConfigError: When there is no plan, or it cannot be read.
    """
    path = folder / PLAN_FILE
    if not path.is_file():
        raise ConfigError(f'"{folder}" has no {PLAN_FILE}.', "Run the precomputation first.")
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if type(plan["num_shards"]) is int and isinstance(plan.get("config", {}), dict):
            return dict(plan)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ConfigError(f'The {PLAN_FILE} of "{folder}" is damaged.', "Delete the folder. Compute it again.")


def complete_shards(folder: Path, allow_incomplete: bool) -> list[Path]:
    """Return the shards of a folder in order.

    Raises:
        ConfigError: When the folder has no plan, or shards are missing that may not be.
    """
    count = read_plan(folder)["num_shards"]
    paths = [shard_path(folder, index) for index in range(count)]
    there = [path for path in paths if path.exists()]
    if len(there) < count and not allow_incomplete:
        raise ConfigError(f'"{folder}" has {len(there)} of {count} shards.', "Run the precomputation to its end.")
    return there


@contextmanager
def open_shard(path: Path) -> Iterator[Any]:
    """Map the tensors of a shard into memory.

    Raises:
        ConfigError: When the file is missing, empty, cut off or damaged, or lacks a tensor that is asked for.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"The shard {shard_name(path)} is damaged or only half there.", AGAIN) from error


def read_header(path: Path, kind: Kind) -> tuple[list[int], SampleShape]:
    """Read which portraits the rows of a kind show, and how large a sample is.

    Raises:
        ConfigError: When the file cannot be read, or its tensors do not belong together.
    """
    names = (f"{kind}_latents", f"{kind}_portraits", "crops", "embeddings")
    with open_shard(path) as file:
        latents, rows, crops, embeddings = (tuple(file.get_slice(name).get_shape()) for name in names)
        is_bytes = file.get_slice("crops").get_dtype() == "U8"
        portraits = file.get_tensor(f"{kind}_portraits").tolist()
    right = (
        (len(latents), len(rows), len(crops), len(embeddings)) == (5, 1, 5, 3)
        and latents[0] == rows[0]
        and crops[:2] == embeddings[:2]
        and crops[1] > 1  # the portrait itself, and a view to train with
        and crops[2] == crops[3]
        and crops[4] == 3
        and is_bytes
        and all(0 <= portrait < crops[0] for portrait in portraits)
    )
    if not right:
        raise ConfigError(f"The tensors of the shard {shard_name(path)} do not belong together.", AGAIN)
    return portraits, SampleShape(latents[1:] if rows[0] else None, crops[2], embeddings[2])


def read_lines(path: Path) -> list[ShardLine]:
    """Read what the text of a shard says of its rows.

    Args:
        path: Of the tensors; the text is beside them.

    Raises:
        ConfigError: When there is no text, or a line of it cannot be right.
    """
    try:
        texts = path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"The captions (.jsonl) of the shard {shard_name(path)} cannot be read.", AGAIN) from error
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(_parse_line(text))
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise ConfigError(
                f"Line {number} of the captions (.jsonl) of the shard {shard_name(path)} is damaged.", AGAIN
            ) from error
    return lines


def _parse_line(text: str) -> ShardLine:
    """Parse a line; what is wrong with it does not matter to the reader, only that it is."""
    line = json.loads(text)
    told = {name: line[name] for name in ("kind", "caption", "person_id", "stratum")}
    style = line.get("style")
    if not all(isinstance(value, str) for value in told.values()) or not (style is None or style in STYLES):
        raise ValueError("no line of a shard")
    motions = tuple(MotionCue(**cue) for cue in line["motions"]) if "motions" in line else None
    eyes = _parse_eyes(line["eyes"]) if "eyes" in line else None
    return ShardLine(**told, motions=motions, style=style, eyes=eyes)


def _parse_eyes(values: Any) -> Float32Array:
    eyes = np.array(values, dtype=np.float32)
    if eyes.ndim != 2 or eyes.shape[1] != 4 or not np.isfinite(eyes).all() or (eyes[:, :2] == eyes[:, 2:]).all(1).any():
        raise ValueError("no pairs of eyes")
    return eyes


def refuse_other_shape(path: Path, shape: SampleShape, other_path: Path, other: SampleShape) -> None:
    """Refuse two shards whose samples cannot be of one batch.

    Raises:
        ConfigError: Naming both and the size in which they differ.
    """
    one_size = None in (shape.latents, other.latents) or shape.latents == other.latents
    pairs = [] if one_size else [(_sides(shape.latents), _sides(other.latents), "latents of", "--size and --frames")]
    pairs += [
        (f"{shape.crop_px} px", f"{other.crop_px} px", "crops of", "--crop"),
        (f"{shape.embedding_dim} numbers", f"{other.embedding_dim} numbers", "embeddings of", "--recogniser"),
    ]
    for here, there, what, options in pairs:
        if here != there:
            raise ConfigError(
                f"The shard {shard_name(path)} has {what} {here}, {shard_name(other_path)} of {there}.",
                f"What is trained together must be prepared with the same {options}. Compute one of them again.",
            )


def _sides(latents: tuple[int, ...] | None) -> str:
    """Write a shape (F, C, H, W) for people."""
    return " x ".join(map(str, latents or ()))
