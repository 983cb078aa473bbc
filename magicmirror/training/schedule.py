"""What follows from a step's number and the seed alone: learning rate, random draws, and the first weights of heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch

from magicmirror.training.config import TrainingConfig

Made = TypeVar("Made")


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """Learning rate of a step: linear warm-up, a plateau, and a cosine over the last ``decay_steps``.

    In a run that is shorter than warm-up and decay together both are shortened alike, so that it too reaches its rate.
    """
    warmup, decay = config.warmup_steps, config.decay_steps
    share = min(1.0, config.max_steps / max(warmup + decay, 1))
    warmup, decay = round(warmup * share), round(decay * share)
    rate = config.learning_rate * min(1.0, (step + 1) / max(warmup, 1))
    into_decay = step - (config.max_steps - decay)
    if decay and into_decay > 0:
        rate *= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(into_decay / decay, 1.0)))
    return rate


def step_generator(seed: int, step: int) -> torch.Generator:
    """A CPU generator that depends on nothing but the run's seed and the step."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


def from_seed(seed: int, make: Callable[[], Made]) -> Made:
    """Make a module whose first weights follow from a seed; torch's global generator stays as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()
