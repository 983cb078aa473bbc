"""What is asked of every file of weights before its values are used, whatever network it is for."""

from __future__ import annotations

import os
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from magicmirror.errors import WeightsError

_COMPARABLE = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def tensor_headers(path: str | os.PathLike[str]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Name -> shape and safetensors' name of the type, read without the values.

    Raises:
        WeightsError: If the file cannot be read.
    """
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return {name: (tuple(each.get_shape()), str(each.get_dtype())) for name, each in slices.items()}
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from error


def unreadable(path: str | os.PathLike[str], error: Exception) -> WeightsError:
    """What to raise for a file that is not safetensors, or is cut off."""
    return WeightsError(
        f"{os.fspath(path)} cannot be read: {error}.", "Expected a safetensors file; copy or download it again."
    )


def is_floating_point(dtype: str) -> bool:
    """Whether a type is one of numbers with a point, by safetensors' names: F32, BF16, F8_E4M3."""
    return dtype.startswith(("F", "BF"))


def in_eight_bits(tensor: Tensor) -> bool:
    """Whether a tensor is one of torchao's quantised ones."""
    return hasattr(tensor, "qdata")


def is_finite(tensor: Tensor) -> bool:
    """Whether there is neither NaN nor infinity in a tensor; true for types that torch cannot compare (8-bit floats).

    The extremes are NaN as soon as one value is, and take a fortieth of the time of ``isfinite``: 0.3 s for a billion
    values on one core. Of torchao's 8-bit weights the scales are looked at.
    """
    tensor = cast(Any, tensor).scale if in_eight_bits(tensor) else tensor
    if tensor.dtype not in _COMPARABLE or tensor.is_meta or not tensor.numel():
        return True
    return all(bool(extreme.isfinite()) for extreme in tensor.aminmax())
