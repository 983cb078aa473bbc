"""Whether a run that goes on is the one that was begun: settings, data, and the weights that it keeps frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from magicmirror.data.precompute import PLAN_FILE
from magicmirror.errors import ConfigError
from magicmirror.training.config import TrainingConfig
from magicmirror.training.schedule import learning_rate_at

MAY_CHANGE = frozenset(
    {"checkpoint_steps", "keep_checkpoints", "log_steps", "validation_steps"}
    # These compute the same sums in another order, so the result is equal to rounding.
    | {"micro_batch", "gradient_checkpointing"}
)
"""Settings that may differ when a run goes on; so may ``max_steps`` while the learning rates of the steps done stay the
same, or to end with them. Every other one changes what comes out."""

SAMPLED_VALUES = 64
"""Of each frozen tensor that the fingerprint looks at: all of a full-size model would take longer than a step."""


def changed_settings(saved: Mapping[str, Any], present: TrainingConfig) -> list[str]:
    """Say which settings that change what comes out of a run differ, with both values.

    Args:
        saved: Settings beside the checkpoint, and its ``step``; a setting that the checkpoint does not know yet had its
            default value.
        present: Settings of this call.
    """
    now = asdict(present)
    defaults = {field.name: field.default for field in fields(TrainingConfig)}
    before = {name: saved.get(name, defaults[name]) for name in now}
    differing = [name for name in now if name not in MAY_CHANGE and before[name] != now[name]]
    if differing == ["max_steps"]:
        earlier = TrainingConfig(**before)
        steps = range(int(saved.get("step", 0)))
        # One that ends with what is done takes no step more.
        if present.max_steps <= len(steps) or all(
            learning_rate_at(step, earlier) == learning_rate_at(step, present) for step in steps
        ):
            return []
    return [f"{name} was {before[name]!r}, is {now[name]!r}" for name in differing]


def changed_sources(saved: Mapping[str, Any], present: Mapping[str, str]) -> list[str]:
    """Say which of the things that a run is made from are others now.

    Args:
        saved: Beside the checkpoint; ``made_from`` is missing in older ones, of which nothing is known.
        present: Of ``fingerprints``.
    """
    before = saved.get("made_from", {})
    return [f"{name} are others" for name in present if name in before and before[name] != present[name]]


def check_same_run(
    saved: Mapping[str, Any], present: TrainingConfig, made_from: Mapping[str, str] | None = None
) -> None:
    """Refuse to go on with a run under what would change what comes out of it.

    Args:
        saved: Settings beside the checkpoint.
        present: Settings of this call.
        made_from: Of ``fingerprints``.

    Raises:
        ConfigError: Naming everything that differs; of settings both values.
    """
    differing = changed_settings(saved, present) + changed_sources(saved, made_from or {})
    if differing:
        late = " The steps done would have had other learning rates." if differing[0].startswith("max_steps") else ""
        raise ConfigError(
            f"The checkpoints are of a run with other settings: {'; '.join(differing)}.{late}",
            "Go on with its settings, choose another output folder, or ask for --new-settings.",
        )


def fingerprints(data: Sequence[Path], objective: nn.Module) -> dict[str, str]:
    """What a run is made from besides its settings, as hashes.

    Args:
        data: Folders of shards, of which the plans count, or manifests.
        objective: Of the run, once it is settled what it trains.

    Returns:
        ``data`` and ``frozen weights``, hexadecimal.
    """
    files = [path / PLAN_FILE if path.is_dir() else path for path in data]
    read = hashlib.sha256()
    for file in files:
        read.update(hashlib.sha256(file.read_bytes()).digest())
    frozen = hashlib.sha256()
    for name, value in objective.named_parameters():
        if not value.requires_grad:
            frozen.update(f"{name} {tuple(value.shape)}".encode() + _some_values(value))
    return {"data": read.hexdigest(), "frozen weights": frozen.hexdigest()}


def _some_values(tensor: Tensor) -> bytes:
    """Evenly spaced values of a tensor, as bytes of float32."""
    flat = tensor.detach().flatten()
    return bytes(flat[:: max(1, flat.numel() // SAMPLED_VALUES)].to("cpu", torch.float32).numpy().tobytes())
