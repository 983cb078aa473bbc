"""A run that is killed at any moment and started again, until it ends; it must end like one that was left alone.

python killed_run.py FOLDER KILLS
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from magicmirror.training.average import WeightAverage
from magicmirror.training.checkpoint import checkpoints, load_checkpoint
from magicmirror.training.config import TrainingConfig
from magicmirror.training.parts import WHOLE
from magicmirror.training.trainer import Trainer

CONFIG = TrainingConfig(
    name="killed",
    preset="preview",
    max_steps=40,
    learning_rate=1e-2,
    warmup_steps=5,
    checkpoint_steps=1,
    mixed_precision="no",
)


class Network(nn.Module):
    """Learns to double random numbers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 32))

    def forward(self, batch, generator, part=WHOLE):
        numbers = torch.randn(8, 32, generator=generator)
        return {"loss": (self.layers(numbers) - 2 * numbers).square().mean() + 0 * batch["step"]}


def train(folder):
    """The whole run, or what is left of it."""
    trainer = Trainer(CONFIG, Network(), lambda step, part=WHOLE: {"step": torch.tensor(float(step))}, folder)
    trainer.resume()
    trainer.run()


def child(folder):
    """Start a process that trains."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            train(folder)
            status = 0
        finally:
            os._exit(status)
    return process


def check_newest(folder):
    """Load the newest checkpoint; returns its step."""
    found = checkpoints(folder)
    if not found:
        return 0
    model = Network()
    groups = [{"params": [p for p in model.parameters() if (p.ndim >= 2) == matrices]} for matrices in (True, False)]
    optimizer = torch.optim.AdamW(groups)
    return int(load_checkpoint(found[-1], model, WeightAverage(model, 0.9), optimizer)["step"])


def main():
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    random.seed(1)
    alone = child(folder / "alone")
    assert os.waitpid(alone, 0)[1] == 0
    steps = []
    for _ in range(kills):
        process = child(folder / "killed")
        before = checkpoints(folder / "killed")[-1:]
        while checkpoints(folder / "killed")[-1:] == before:  # it is under way
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.05))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        steps.append(check_newest(folder / "killed"))
        sys.stdout.write(f"{steps[-1]}\n")
    process = child(folder / "killed")
    assert os.waitpid(process, 0)[1] == 0
    for name in ("model.safetensors", "average.safetensors", "optimizer.pt", "config.json"):
        ours, expected = (checkpoints(folder / run)[-1] / name for run in ("killed", "alone"))
        assert ours.read_bytes() == expected.read_bytes(), name


if __name__ == "__main__":
    main()
