"""How much memory a call needs beside its weights, counted on the meta device: any size, no accelerator, no arithmetic.

Counted are the bytes of all tensors that are alive at once, as PyTorch's eager mode makes and frees them. What is not
in it: workspaces of the kernels and the allocator's rounding. ``memory_forecast`` has formulas that are fitted to it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _FusedAttention(TorchFunctionMode):
    """Attention as a fused kernel does it: its output is all that it allocates."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.nn.functional.scaled_dot_product_attention:
            return torch.empty_like(args[0] if args else kwargs["query"])
        return function(*args, **(kwargs or {}))


class _LiveBytes(TorchDispatchMode):
    """Follows every storage from its first tensor to its end."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._storages: dict[int, Any] = {}
        self._outside = {tensor.untyped_storage()._cdata for tensor in known}
        self.alive: int = 0
        self.peak: int = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._outside or key in self._storages:
            return
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)

        def gone() -> None:
            del self._storages[key]
            self.alive -= size

        self._storages[key] = weakref.finalize(storage, gone)


@torch.no_grad()
def count_activation_bytes(call: Callable[[], Any], known: Iterable[Tensor]) -> int:
    """Count the most bytes that a call keeps beside what there was before.

    Args:
        call: Works on meta tensors only.
        known: Weights, buffers and inputs, which do not count.

    Returns:
        Bytes at the worst moment.
    """
    with _FusedAttention(), _LiveBytes(known) as live:
        call()
    return int(live.peak)
