"""A process that is killed while it writes checkpoints, again and again; the newest complete one must always load.

python checkpoint_writer.py FOLDER ROUNDS

Every number of the checkpoint of step n is n. A child writes as fast as it can, each step twice, as a run does that is
started again after its end; the parent kills it at some moment and reads what is there.
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
from magicmirror.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from magicmirror.training.config import TrainingConfig

KEEP = 2
CONFIG = TrainingConfig(name="written", preset="preview", max_steps=10**6, learning_rate=1.0)


def make_parts():
    torch.manual_seed(0)
    model = nn.Linear(256, 256)
    average = WeightAverage(nn.Linear(256, 256), 0.9)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    model(torch.ones(1, 256)).sum().backward()
    optimizer.step()
    return model, average, optimizer


def numbers(model, average, optimizer):
    state = [value for values in optimizer.state_dict()["state"].values() for value in values.values()]
    return [*model.parameters(), *average.values.values(), *state]


@torch.no_grad()
def write_forever(folder, pipe, parts):
    found = checkpoints(folder)
    step = int(load_checkpoint(found[-1], *parts)["step"]) if found else 0
    while True:
        step += 1
        for number in numbers(*parts):
            number.fill_(step)
        for _ in range(2):
            save_checkpoint(folder, step, CONFIG, *parts, keep=KEEP)
            os.write(pipe, b"%d\n" % step)


def kill_once(folder, wait_s, parts):
    """Let a child write for a moment and kill it; returns the last step that it says it has written."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write_forever(folder, writer, parts)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as lines:
        written = [int(lines.readline())]
        time.sleep(wait_s)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        written += [int(line) for line in lines.read().splitlines()]
    assert os.WTERMSIG(status) == signal.SIGKILL, "the child failed by itself"
    return written[-1]


def main():
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    random.seed(0)
    parts = make_parts()
    for _ in range(rounds):
        written = kill_once(folder, random.uniform(0, 0.02), parts)
        found = checkpoints(folder)
        state = load_checkpoint(found[-1], *parts)
        # The step before is the newest for the moment in which a step that is written again changes places.
        assert written - 1 <= state["step"] <= written + 1, (state["step"], written)
        assert all((number == state["step"]).all() for number in numbers(*parts))
        assert len(found) <= KEEP + 1, found
        sys.stdout.write(f"{state['step']}\n")


if __name__ == "__main__":
    main()
