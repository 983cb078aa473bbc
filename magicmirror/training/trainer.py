"""The trainer: a loop over an objective, with an average of the weights and exact resume.

A run is stateless but for weights, optimiser and step: noise, timesteps, dropped conditions and data order of step n
follow from ``(seed, n)`` alone. So a run that was killed and started again by the same command goes on as if nothing
had happened.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from magicmirror.errors import MagicMirrorError
from magicmirror.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from magicmirror.training.config import TrainingConfig

logger = logging.getLogger(__name__)

Batch = Mapping[str, Any]


class TrainingDiverged(MagicMirrorError):
    """The loss or its gradient is not a finite number any more."""


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


class Trainer:
    """Runs an objective to ``config.max_steps``.

    Args:
        config: Of the run.
        objective: Module whose ``forward(batch, generator)`` returns named losses; ``loss`` is minimised. Parameters
            with ``requires_grad`` are trained.
        batch_at: The batch of a step; a function of the step alone.
        folder: Where checkpoints go.
    """

    def __init__(
        self,
        config: TrainingConfig,
        objective: nn.Module,
        batch_at: Callable[[int], Batch],
        folder: Path,
    ) -> None:
        self.config = config
        self.folder = folder
        self.batch_at = batch_at
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision, cpu=not torch.cuda.is_available())
        decayed = [p for p in objective.parameters() if p.requires_grad and p.ndim >= 2]
        plain = [p for p in objective.parameters() if p.requires_grad and p.ndim < 2]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.average = AveragedModel(objective, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        self.objective, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self.step = 0

    @property
    def trained(self) -> nn.Module:
        """The objective without accelerate's wrapping."""
        unwrapped: nn.Module = self.accelerator.unwrap_model(self.objective)
        return unwrapped

    def resume(self) -> int:
        """Load the newest checkpoint, if there is one; returns the step it goes on from."""
        found = checkpoints(self.folder)
        if found:
            state = load_checkpoint(found[-1], self.trained, self.average.module, self.optimizer)
            self.step = int(state["step"])
            # The average must go on averaging rather than copy the first weights it sees.
            self.average.n_averaged.fill_(self.step)
            logger.info("resumed from %s", found[-1].name)
        return self.step

    def run(self, max_hours: float | None = None, log_steps: int = 50) -> dict[str, float]:
        """Train until ``max_steps`` or ``max_hours``.

        Args:
            max_hours: Wall time after which the run stops with a checkpoint.
            log_steps: Steps between log lines.

        Returns:
            Mean of every named loss since the last log line.

        Raises:
            TrainingDiverged: If loss or gradient is not finite; the batch is saved beside the checkpoints.
        """
        started, first = time.monotonic(), self.step
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        means: dict[str, float] = {}
        while self.step < self.config.max_steps:
            if max_hours is not None and time.monotonic() - started > 3600 * max_hours:
                break
            for name, value in self.train_step().items():
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + 1
            if self.step % log_steps == 0:
                means = {name: sums[name] / counts[name] for name in sums}
                sums, counts = {}, {}
                rate = (self.step - first) / (time.monotonic() - started)
                eta_h = (self.config.max_steps - self.step) / rate / 3600
                text = " ".join(f"{name} {value:.4f}" for name, value in sorted(means.items()))
                logger.info("step %d %s | %.2f steps/s, %.1f h to go", self.step, text, rate, eta_h)
            if self.step % self.config.checkpoint_steps == 0 and self.step < self.config.max_steps:
                self.save()
        self.save()
        return {name: sums[name] / counts[name] for name in sums} or means

    def save(self) -> Path:
        """Write a checkpoint of the present step."""
        return save_checkpoint(
            self.folder,
            self.step,
            self.config,
            self.trained,
            self.average.module,
            self.optimizer,
            self.config.keep_checkpoints,
        )

    def train_step(self) -> dict[str, float]:
        """One optimiser step; returns the named losses."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, self.config)
        batch = send_to_device(self.batch_at(self.step), self.accelerator.device)
        with self.accelerator.autocast():
            losses: dict[str, Tensor] = self.objective(batch, step_generator(self.config.seed, self.step))
        if not torch.isfinite(losses["loss"]):
            self._report_divergence(batch, "loss")
        self.accelerator.backward(losses["loss"])
        norm = self.accelerator.clip_grad_norm_(
            [p for p in self.objective.parameters() if p.requires_grad], self.config.grad_clip
        )
        # A step along such a gradient would ruin the weights, and the next checkpoint with them.
        if norm is not None and not torch.isfinite(norm):
            self._report_divergence(batch, "gradient")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.trained)
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def _report_divergence(self, batch: Batch, what: str) -> NoReturn:
        """Save the batch that broke the run and stop."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"diverged-step-{self.step}.pt"
        torch.save(dict(batch), file)
        raise TrainingDiverged(
            f"The {what} of step {self.step} is not finite; the batch is in {file.name}.",
            "Lower the learning rate and start the same command again: it resumes from the last checkpoint.",
        )
