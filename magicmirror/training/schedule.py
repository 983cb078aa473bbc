"""What follows from a step's number alone: its learning rate and its random draws."""

from __future__ import annotations

import math

import torch

from magicmirror.training.config import TrainingConfig


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """Learning rate of a step: linear warm-up, a plateau, and a cosine over the last ``decay_steps``."""
    rate = config.learning_rate * min(1.0, (step + 1) / max(config.warmup_steps, 1))
    into_decay = step - (config.max_steps - config.decay_steps)
    if config.decay_steps and into_decay > 0:
        rate *= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(into_decay / config.decay_steps, 1.0)))
    return rate


def step_generator(seed: int, step: int) -> torch.Generator:
    """A CPU generator that depends on nothing but the run's seed and the step."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
