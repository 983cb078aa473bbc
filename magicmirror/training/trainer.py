"""The trainer: a loop over an objective, with an average of the weights and exact resume.

A run is stateless but for weights, optimiser and step: noise, timesteps, dropped conditions and data order of step n
follow from ``(seed, n)`` alone. So a run that was killed and started again by the same command goes on as if nothing
had happened, and any number of processes (``accelerate launch``) share out the same steps (``parts``).
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs, send_to_device
from torch import Tensor, nn

from magicmirror.errors import ConfigError, MagicMirrorError, WeightsError
from magicmirror.media import complete_file, make_writable_folder
from magicmirror.training.average import WeightAverage
from magicmirror.training.checkpoint import (
    checkpoints,
    load_checkpoint,
    num_bytes,
    read_config,
    save_archive,
    save_checkpoint,
)
from magicmirror.training.config import TrainingConfig
from magicmirror.training.critic import CRITIC_BETAS, CRITIC_RATE, CRITICS
from magicmirror.training.loader import BatchLoader
from magicmirror.training.parts import Batch, BatchSource, Part, fewest_parts, row_count, take
from magicmirror.training.progress import Progress
from magicmirror.training.same_run import changed_settings, changed_sources, check_same_run
from magicmirror.training.schedule import learning_rate_at, step_generator

logger = logging.getLogger(__name__)

Validate = Callable[[int], object]

# Others wait while the first process makes validation videos, which takes minutes at full size.
_PATIENCE = timedelta(hours=2)
_SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


class TrainingDiverged(MagicMirrorError):
    """The loss or its gradient is not a finite number any more."""


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """Make what knows devices, processes and precision, as ``accelerate launch`` has set them up.

    Raises:
        ConfigError: If it is set up for a way of sharing that the trainer does not know.
    """
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        cpu=not torch.cuda.is_available(),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
    if accelerator.distributed_type not in _SUPPORTED:
        raise ConfigError(
            f"This trainer cannot share its work by {accelerator.distributed_type}.",
            "Set up accelerate for MULTI_GPU (docs/training.md has the memory that it takes).",
        )
    return accelerator


class Trainer:
    """Runs an objective to ``config.max_steps``.

    Args:
        config: Of the run.
        objective: Module whose ``forward(batch, generator, part)`` returns named losses of its part of the step's
            samples; the mean of ``loss`` over the parts is minimised. Parameters with ``requires_grad`` are trained.
        batches: A part's batch of a step; a function of step and part alone.
        folder: Where checkpoints go.
        curves: Where TensorBoard's curves go, or ``None``.
        load_ahead: Make the next batch in a thread; ``None`` does so where a GPU computes.
        accelerator: Of ``make_accelerator``; ``None`` makes one.
        made_from: Hashes of what the run is made from, see ``same_run.fingerprints``; a run of others is refused.

    Attributes:
        step: Steps done.
        samples: Of the last step, over all processes.
        average: Of the trained weights.
        validate: Called with the step every ``config.validation_steps``, by the first process alone, while the
            averaged weights are in the networks.
    """

    def __init__(
        self,
        config: TrainingConfig,
        objective: nn.Module,
        batches: BatchSource,
        folder: Path,
        curves: Path | None = None,
        load_ahead: bool | None = None,
        accelerator: Accelerator | None = None,
        made_from: Mapping[str, str] | None = None,
    ) -> None:
        self.config = config
        self.made_from = dict(made_from or {})
        self.folder = folder
        self.accelerator = accelerator or make_accelerator(config)
        self.own_part = Part(self.accelerator.process_index, self.accelerator.num_processes)
        self.objective, self.optimizer = self.accelerator.prepare(objective, _optimizer(objective, config))
        self.average = WeightAverage(self.trained, config.ema_decay)
        on_gpu = self.accelerator.device.type == "cuda"
        self.loader = BatchLoader(batches, self.own_part, on_gpu if load_ahead is None else load_ahead)
        self.validate: Validate | None = None
        self.step = self.samples = 0
        self._saved_step = -1
        self._curves = curves
        self._longest_s = {"step": 0.0, "save": 0.0, "validate": 0.0}

    @property
    def trained(self) -> nn.Module:
        """The objective without accelerate's wrapping."""
        unwrapped: nn.Module = self.accelerator.unwrap_model(self.objective)
        return unwrapped

    def resume(self, new_settings: bool = False) -> int:
        """Load the newest checkpoint, if there is one; returns the step it goes on from.

        Args:
            new_settings: Go on although settings differ that change the result: what comes out is then neither the
                run of the old settings nor that of the new ones.

        Raises:
            ConfigError: If it is of a run with other settings, data or frozen weights, see ``same_run``.
            WeightsError: If it is of other networks.
        """
        found = checkpoints(self.folder)
        if found:
            saved = read_config(found[-1])
            if new_settings:
                changed = changed_settings(saved, self.config) + changed_sources(saved, self.made_from)
                logger.warning("goes on with new settings: %s", "; ".join(changed) or "none")
            else:
                check_same_run(saved, self.config, self.made_from)
            state = load_checkpoint(found[-1], self.trained, self.average, self.optimizer)
            self.step = self._saved_step = int(state["step"])
            if self.accelerator.is_main_process:
                logger.info("resumed from %s", found[-1].name)
        self.accelerator.wait_for_everyone()
        return self.step

    def run(self, max_hours: float | None = None) -> dict[str, float]:
        """Train until ``max_steps`` or ``max_hours``.

        Args:
            max_hours: Wall time of this call. The run stops as soon as one more step and a checkpoint, as long as the
                longest so far, might not fit in, so that the last checkpoint is complete by then.

        Returns:
            Mean of every named loss since the last log line.

        Raises:
            TrainingDiverged: If loss or gradient is not finite; the batch is saved beside the checkpoints.
        """
        end_s = None if max_hours is None else time.monotonic() + 3600 * max_hours
        config, main = self.config, self.accelerator.is_main_process
        progress = Progress(config.max_steps, config.log_steps, self._curves, silent=not main)
        while self.step < config.max_steps and not self._out_of_time(end_s):
            started = time.monotonic()
            losses = self.train_step()
            self._note("step", started)
            progress.add(losses, self.samples, self.loader.waited_s)
            if progress.due(self.step):
                progress.report(self.step, learning_rate_at(self.step - 1, config))
            started = time.monotonic()
            if self.step % config.checkpoint_steps == 0 and self.step < config.max_steps:
                self.save()
            if config.validation_steps and self.step % config.validation_steps == 0:
                self._show()
            progress.pause(time.monotonic() - started)
        if self.step != self._saved_step:  # a run that was over already has written it
            self.save()
        progress.close()
        return progress.means

    def save(self) -> Path | None:
        """Write a checkpoint of the present step; only the first process does, and returns its folder."""
        started = time.monotonic()
        path = None
        if self.accelerator.is_main_process:
            path = save_checkpoint(
                self.folder,
                self.step,
                self.config,
                self.trained,
                self.average,
                self.optimizer,
                self.config.keep_checkpoints,
                self.made_from,
            )
        self.accelerator.wait_for_everyone()
        self._saved_step = self.step
        self._note("save", started)
        return path

    def train_step(self) -> dict[str, float]:
        """One optimiser step; returns the named losses, means over the samples of all processes."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, self.config) * group.get("rate", 1.0)
        batch = self.loader.at(self.step, last=self.step + 1 >= self.config.max_steps)
        own = row_count(batch)
        self.samples = self.own_part.of_all(own)
        parts = self.own_part.split(fewest_parts(own, self.config.micro_batch))
        sums: dict[str, Tensor] = {}
        for number, part in enumerate(parts):
            micro = batch if len(parts) == 1 else take(batch, Part(number, len(parts)).rows(own))
            for name, value in self._accumulate(micro, part, last=part is parts[-1]).items():
                sums[name] = sums[name] + value if name in sums else value
        self._descend(batch)
        return self._mean_of_processes({name: value / len(parts) for name, value in sums.items()})

    def _accumulate(self, batch: Batch, part: Part, last: bool) -> dict[str, Tensor]:
        """Add the gradient of one micro-batch; returns its losses, detached."""
        batch = send_to_device(batch, self.accelerator.device)
        # Processes exchange gradients once a step, with the last micro-batch.
        with nullcontext() if last else self.accelerator.no_sync(self.objective):
            with self.accelerator.autocast():
                losses: dict[str, Tensor] = self.objective(batch, step_generator(self.config.seed, self.step), part)
            self._check(losses["loss"], batch)
            self.accelerator.backward(losses["loss"] / (part.count // self.own_part.count))
        return {name: value.detach() for name, value in losses.items()}

    def _descend(self, batch: Batch) -> None:
        """Clip the gradient and take the step along it."""
        norm = self.accelerator.clip_grad_norm_(
            [p for p in self.objective.parameters() if p.requires_grad], self.config.grad_clip
        )
        # A step along such a gradient would ruin the weights, and the next checkpoint with them. The norm is the same
        # in every process, so all stop together.
        if norm is not None and not torch.isfinite(norm):
            self._report_divergence(batch, "gradient")
        if self.step == 0 and self.accelerator.is_main_process:
            _report_unused(self.trained)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.trained)
        self.step += 1

    def _check(self, loss: Tensor, batch: Batch) -> None:
        """Stop every process if the loss of any is not finite."""
        finite = torch.isfinite(loss.detach())
        alone = self.accelerator.num_processes == 1
        if not (finite if alone else self.accelerator.reduce(finite.float(), "sum") == self.own_part.count):
            self._report_divergence(batch, "loss", seen_here=not finite)

    def _report_divergence(self, batch: Batch, what: str, seen_here: bool = True) -> NoReturn:
        """Save the batch that broke the run and stop."""
        index = self.accelerator.process_index
        suffix = f"-process-{index}" if index else ""
        file = self.folder / f"diverged-step-{self.step}{suffix}.pt"
        where = f"the batch is in {file.name}" if seen_here else "another process saved the batch"
        if seen_here:
            try:
                make_writable_folder(self.folder, WeightsError)
                needed_bytes = num_bytes(value for value in batch.values() if isinstance(value, Tensor))
                with complete_file(file, WeightsError, needed_bytes) as partial:
                    save_archive(dict(batch), partial)
            except WeightsError as error:
                where = f"the batch could not be saved: {error.message.removesuffix('.')}"
        raise TrainingDiverged(
            f"The {what} of step {self.step} is not finite; {where}.",
            "Start the same command with a lower --learning-rate and --new-settings to go on from the last checkpoint.",
        )

    def _show(self) -> None:
        """Validate with the averaged weights; only the first process does."""
        started = time.monotonic()
        if self.validate is not None and self.accelerator.is_main_process:
            with torch.random.fork_rng(), self.average.applied(self.trained):
                self.validate(self.step)
        self.accelerator.wait_for_everyone()
        self._note("validate", started)

    def _out_of_time(self, end_s: float | None) -> bool:
        """Whether the next step and a checkpoint might end after ``end_s``; the first process decides for all."""
        if end_s is None:
            return False
        due = self.config.validation_steps and (self.step + 1) % self.config.validation_steps == 0
        needed_s = self._longest_s["step"] + self._longest_s["save"] + (self._longest_s["validate"] if due else 0)
        out = time.monotonic() + needed_s > end_s
        if self.accelerator.num_processes == 1:
            return out
        decided = torch.tensor(float(out and self.accelerator.is_main_process), device=self.accelerator.device)
        return bool(self.accelerator.reduce(decided, "sum") > 0)

    def _mean_of_processes(self, losses: dict[str, Tensor]) -> dict[str, float]:
        if self.accelerator.num_processes > 1:
            losses = self.accelerator.reduce(losses, "mean")
        return {name: float(value) for name, value in losses.items()}

    def _note(self, what: str, started_s: float) -> None:
        self._longest_s[what] = max(self._longest_s[what], time.monotonic() - started_s)


def _optimizer(objective: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW; matrices decay, biases, norms and other vectors do not. A critic has to keep ahead of what it judges."""
    kinds: dict[tuple[bool, bool], list[nn.Parameter]] = defaultdict(list)
    for name, value in objective.named_parameters():
        if value.requires_grad:
            kinds[name.partition(".")[0] in CRITICS, value.ndim < 2].append(value)
    groups = [
        {
            "params": kinds[of_critic, plain],
            "weight_decay": 0.0 if plain else config.weight_decay,
            "rate": CRITIC_RATE if of_critic else 1.0,
            "betas": CRITIC_BETAS if of_critic else (0.9, 0.99),
        }
        for of_critic, plain in sorted(kinds)
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _report_unused(model: nn.Module) -> None:
    """Say which trained parameters the loss does not reach: they would stay as they are."""
    unused = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    if unused:
        logger.warning("%d trained tensors get no gradient: %s", len(unused), ", ".join(unused[:4]))
