"""Convolutions in space and time on processors, without torch's slow path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class DirectConvolutions(TorchFunctionMode):
    """Has oneDNN compute float32 convolutions in three dimensions, as it does those in two.

    torch leaves small ones of a single clip (batch * channels * frames * height up to 20,480, of any width) to an
    implementation that copies every neighbourhood first: all of the preview's VAE, which is made of large small ones.
    Results are the same to rounding. Whatever oneDNN cannot take is computed as ever, and so is what has a gradient.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute one function of torch's."""
        if func is functional.conv3d and not kwargs and len(args) == 7 and _fits(*args):
            values, weight, bias, stride, padding, dilation, groups = args
            return torch.mkldnn_convolution(values, weight, bias, padding, stride, dilation, groups)
        return func(*args, **(kwargs or {}))


def _fits(
    values: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> bool:
    """Whether oneDNN takes a convolution."""
    return bool(
        all(isinstance(sizes, tuple) for sizes in (stride, padding, dilation))
        and values.device.type == weight.device.type == "cpu"
        and values.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not (torch.is_grad_enabled() and (values.requires_grad or weight.requires_grad))
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
    )
