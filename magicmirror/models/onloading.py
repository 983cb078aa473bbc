"""Weights of a group-offloaded module, for calls of its parts that do not go through its ``forward``.

diffusers' block-level group offloading brings weights to the device in a hook around ``forward``. What is computed once
a request calls parts of the transformer and of its blocks directly, and would find their weights away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.hooks.group_offloading import _GROUP_OFFLOADING
from torch import nn


@contextmanager
def onloaded(module: nn.Module) -> Iterator[torch.device | None]:
    """Have a module's own group of weights on its device; does nothing without group offloading.

    Args:
        module: Not inside of its own ``forward``, whose hook would find the weights gone afterwards.

    Yields:
        That device, to which the hook around ``forward`` would move the arguments; ``None`` without offloading.
    """
    registry: Any = getattr(module, "_diffusers_hook", None)
    hook = registry.get_hook(_GROUP_OFFLOADING) if registry is not None else None
    if hook is None:
        yield None
        return
    hook.group.onload_()
    if hook.group.stream is not None:
        hook.group.stream.synchronize()
    try:
        yield hook.group.onload_device
    finally:
        hook.group.offload_()
