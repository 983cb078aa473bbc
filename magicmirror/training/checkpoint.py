"""Atomic checkpoints: a folder appears under its final name complete, or not at all."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from magicmirror.errors import WeightsError
from magicmirror.media import complete_folder, make_writable_folder
from magicmirror.training.average import WeightAverage
from magicmirror.training.config import TrainingConfig

_PREFIX = "step-"
_MODEL, _AVERAGE, _OPTIMIZER, _CONFIG = "model.safetensors", "average.safetensors", "optimizer.pt", "config.json"
_DAMAGE = (SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, LookupError)
"""What the readers of these formats raise over a file that was cut short or written over."""

_Content = TypeVar("_Content")


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
    make_writable_folder(folder, WeightsError)
    for left_behind in folder.glob(f".{_PREFIX}*"):
        shutil.rmtree(left_behind)
    final = folder / f"{_PREFIX}{step:08d}"
    needed_bytes = num_bytes(_trained(model).values()) + num_bytes(average.values.values()) + _state_bytes(optimizer)
    with complete_folder(final, WeightsError, needed_bytes, replace=True) as partial:
        save_file(trainable_state(model), str(partial / _MODEL))
        save_file(_on_cpu(average.values), str(partial / _AVERAGE))
        save_archive(optimizer.state_dict(), partial / _OPTIMIZER)
        record = {"step": step, **asdict(config), "made_from": dict(made_from or {})}
        (partial / _CONFIG).write_text(json.dumps(record, indent=2) + "\n")
    for old in map(_hide, checkpoints(folder)[:-keep]):
        shutil.rmtree(old)
    return final


def save_archive(content: Mapping[str, Any], file: Path) -> None:
    """Write what ``torch.load`` reads; a full disk is an ``OSError``.

    torch's writer of archives stumbles over what it could not write and says no more than that. The system's own
    error stays behind it where Python does the writing.
    """
    with file.open("wb") as written:
        try:
            torch.save(content, written)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def num_bytes(values: Iterable[Tensor]) -> int:
    """Size of tensors together."""
    return sum(value.nbytes for value in values)


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    states = optimizer.state_dict()["state"].values()
    return num_bytes(value for state in states for value in state.values() if isinstance(value, Tensor))


def _hide(checkpoint: Path) -> Path:
    """Take a checkpoint's name away before it is removed: a killed run must not leave a part that looks complete."""
    hidden = checkpoint.with_name(f".{checkpoint.name}.old")
    os.replace(checkpoint, hidden)
    return hidden


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Tensors of all parameters that a run trains, by name, contiguous copies on the CPU."""
    return _on_cpu(_trained(model))


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _on_cpu(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in values.items()}


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())


def read_config(path: Path) -> dict[str, Any]:
    """Settings beside a checkpoint, with its ``step``.

    Raises:
        WeightsError: If they are missing or damaged, naming what to go on from.
    """
    return _read(path / _CONFIG, _parse_config)


def _parse_config(file: Path) -> dict[str, Any]:
    config = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or not isinstance(config.get("step"), int):
        raise ValueError("these are no settings with a step")
    return config


def load_checkpoint(
    path: Path, model: nn.Module, average: WeightAverage, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Load a checkpoint in place.

    Returns:
        The saved config with ``step``.

    Raises:
        WeightsError: If a file is missing or damaged, naming what to go on from, or if the checkpoint belongs to
            other networks. Nothing is changed then.
    """
    config = read_config(path)
    weights, averaged = (_read(path / name, load_file) for name in (_MODEL, _AVERAGE))
    state = _read(path / _OPTIMIZER, _load_state)
    own = _trained(model)
    _check_fit(path / _MODEL, weights, own)
    _check_fit(path / _AVERAGE, averaged, average.values)
    try:
        optimizer.load_state_dict(state)  # compares before it changes anything
    except ValueError as error:
        raise WeightsError(
            f"{path / _OPTIMIZER} does not fit this optimiser: {error}.", "Use the run's own preset."
        ) from error
    average.load(averaged, config["step"])
    _copy(weights, own)
    return config


def load_trainable(model: nn.Module, file: Path) -> None:
    """Copy the tensors of ``trainable_state`` back.

    Raises:
        WeightsError: If the file is missing or damaged, or if names or shapes differ from the model's. Nothing is
            changed then.
    """
    saved, own = _read(file, load_file), _trained(model)
    _check_fit(file, saved, own)
    _copy(saved, own)


def _load_state(file: Path) -> dict[str, Any]:
    state = torch.load(file, weights_only=True, map_location="cpu")
    if not isinstance(state, dict) or not {"state", "param_groups"} <= state.keys():
        raise ValueError("this is no state of an optimiser")
    return state


def _read(file: Path, reader: Callable[[Path], _Content]) -> _Content:
    """Read a file of a checkpoint.

    Raises:
        WeightsError: If it cannot be read. Only a checkpoint that is surely broken is one to remove.
    """
    try:
        return reader(file)
    except FileNotFoundError as error:
        raise WeightsError(
            f"The checkpoint {file.parent} is damaged: {file.name} is missing.", _remedy(file)
        ) from error
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror or error}.", "Allow reading it.") from error
    except _DAMAGE as error:
        if "allocate memory" in str(error):  # a RuntimeError of torch, and no fault of the file
            raise
        what = "cut short or overwritten" if file.stat().st_size else "empty"
        raise WeightsError(f"The checkpoint {file.parent} is damaged: {file.name} is {what}.", _remedy(file)) from error


def _remedy(damaged: Path) -> str:
    """Say where the run goes on once the checkpoint of a damaged file is gone."""
    newest = damaged.parent
    older = [path for path in checkpoints(newest.parent) if path.name < newest.name and _is_whole(path)]
    return f"Remove it to go on from {older[-1].name}." if older else "Remove it to begin anew."


def _is_whole(checkpoint: Path) -> bool:
    """Whether every file is there, with something in it."""
    files = [checkpoint / name for name in (_MODEL, _AVERAGE, _OPTIMIZER, _CONFIG)]
    return all(file.is_file() and file.stat().st_size for file in files)


def _check_fit(file: Path, saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    different = sorted(set(saved) ^ set(own)) + [n for n in saved if n in own and saved[n].shape != own[n].shape]
    if different:
        raise WeightsError(
            f"{file} does not fit these networks; different: {different[:4]}.", "Use the run's own preset."
        )


@torch.no_grad()
def _copy(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    for name, value in saved.items():
        own[name].copy_(value)
