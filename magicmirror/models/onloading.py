"""Weights of a group-offloaded module, for calls of its parts that do not go through its ``forward``.

diffusers' block-level group offloading brings weights to the device in a hook around ``forward``. What is computed once
a request calls parts of the transformer and of its blocks directly, and would find their weights away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.hooks.group_offloading import _GROUP_OFFLOADING
from torch import Tensor, nn


@contextmanager
def onloaded(module: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """Have a module's own group of weights on its device; does nothing without group offloading.

    Args:
        module: Not inside of its own ``forward``, whose hook would find the weights gone afterwards.

    Yields:
        What brings a tensor to that device, as the hook around ``forward`` does with its arguments.
    """
    registry: Any = getattr(module, "_diffusers_hook", None)
    hook = registry.get_hook(_GROUP_OFFLOADING) if registry is not None else None
    if hook is None:
        yield lambda tensor: tensor
        return
    hook.group.onload_()
    if hook.group.stream is not None:
        hook.group.stream.synchronize()
    try:
        yield lambda tensor: tensor.to(hook.group.onload_device)
    finally:
        hook.group.offload_()
