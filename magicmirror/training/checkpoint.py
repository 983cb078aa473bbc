"""Atomic checkpoints: a folder appears under its final name complete, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from magicmirror.errors import WeightsError
from magicmirror.media import complete_folder
from magicmirror.training.average import WeightAverage
from magicmirror.training.config import TrainingConfig

_PREFIX = "step-"


def save_checkpoint(
    folder: Path,
    step: int,
    config: TrainingConfig,
    model: nn.Module,
    average: WeightAverage,
    optimizer: torch.optim.Optimizer,
    keep: int,
    made_from: Mapping[str, str] | None = None,
) -> Path:
    """Write ``folder/step-N`` and drop the oldest beyond ``keep``.

    Args:
        folder: Of the run.
        step: Steps done.
        config: Of the run.
        model: Trained weights.
        average: Their running average.
        optimizer: State to go on from.
        keep: Checkpoints to keep.
        made_from: Of ``same_run.fingerprints``, to be compared when the run goes on.

    Returns:
        The new folder.

    Raises:
        WeightsError: When it cannot be written; nothing new is left then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left_behind in folder.glob(f".{_PREFIX}*"):
        shutil.rmtree(left_behind)
    final = folder / f"{_PREFIX}{step:08d}"
    with complete_folder(final, WeightsError, replace=True) as partial:
        save_file(trainable_state(model), str(partial / "model.safetensors"))
        save_file(_on_cpu(average.values), str(partial / "average.safetensors"))
        torch.save(optimizer.state_dict(), partial / "optimizer.pt")
        (partial / "config.json").write_text(
            json.dumps({"step": step, **asdict(config), "made_from": dict(made_from or {})}, indent=2) + "\n"
        )
    for old in map(_hide, checkpoints(folder)[:-keep]):
        shutil.rmtree(old)
    return final


def _hide(checkpoint: Path) -> Path:
    """Take a checkpoint's name away before it is removed: a killed run must not leave a part that looks complete."""
    hidden = checkpoint.with_name(f".{checkpoint.name}.old")
    os.replace(checkpoint, hidden)
    return hidden


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Tensors of all parameters that a run trains, by name, contiguous copies on the CPU."""
    return _on_cpu({name: value for name, value in model.named_parameters() if value.requires_grad})


def _on_cpu(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in values.items()}


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())


def read_config(path: Path) -> dict[str, Any]:
    """Settings beside a checkpoint, with its ``step``."""
    config: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return config


def load_checkpoint(
    path: Path, model: nn.Module, average: WeightAverage, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Load a checkpoint in place.

    Returns:
        The saved config with ``step``.

    Raises:
        WeightsError: If the checkpoint belongs to other networks.
    """
    config = read_config(path)
    load_trainable(model, path / "model.safetensors")
    average.load(load_file(str(path / "average.safetensors")), int(config["step"]))
    optimizer.load_state_dict(torch.load(path / "optimizer.pt", weights_only=True, map_location="cpu"))
    return config


def load_trainable(model: nn.Module, file: Path) -> None:
    """Copy the tensors of ``trainable_state`` back.

    Raises:
        WeightsError: If names or shapes differ from the model's.
    """
    saved = load_file(str(file))
    own = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    different = sorted(set(saved) ^ set(own)) + [n for n in saved if n in own and saved[n].shape != own[n].shape]
    if different:
        raise WeightsError(
            f"{file} does not fit these networks; different: {different[:4]}.", "Use the run's own preset."
        )
    with torch.no_grad():
        for name, value in saved.items():
            own[name].copy_(value)
