"""Running average of the trained weights; the frozen ones, most of a large model, are not copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from magicmirror.errors import WeightsError


class WeightAverage:
    """Exponential average of all parameters that have ``requires_grad``.

    Args:
        model: Its trained parameters are averaged; the first update copies them.
        decay: Weight of the past, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.values: dict[str, Tensor] = {name: value.detach().clone() for name, value in _trained(model)}
        self.updates = 0
        self._mix = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the present weights into the average."""
        present = [value.detach() for _, value in _trained(model)]
        own = list(self.values.values())
        if self.updates == 0:
            for value, new in zip(own, present, strict=True):
                value.copy_(new)
        else:
            self._mix(own, present, self.updates)
        self.updates += 1

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor], updates: int) -> None:
        """Go on from a saved average.

        Args:
            values: As ``values`` was.
            updates: How many it had seen, so that it goes on averaging rather than copy the first weights it sees.

        Raises:
            WeightsError: If it is of other networks; nothing is changed then.
        """
        different = sorted(set(values) ^ set(self.values))
        different += [name for name in values if name in self.values and values[name].shape != self.values[name].shape]
        if different:
            raise WeightsError(f"The saved average does not fit these networks; different: {different[:4]}.")
        for name, value in values.items():
            self.values[name].copy_(value)
        self.updates = updates

    @contextmanager
    @torch.no_grad()
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Give a model the averaged weights for a while; afterwards it has its own again, bit for bit."""
        own = {name: value.detach().clone() for name, value in _trained(model)}
        self.copy_to(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in _trained(model):
                    value.copy_(own[name])

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Write the average into a model's trained parameters."""
        for name, value in _trained(model):
            value.copy_(self.values[name])


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, value) for name, value in model.named_parameters() if value.requires_grad)
