"""One of the processes that share a training run; started by ``torch.distributed.run`` (see ``test_processes.py``).

python -m torch.distributed.run --standalone --nproc-per-node 2 shared_run.py FOLDER SHARDS
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from magicmirror.training.batches import identity_batches
from magicmirror.training.networks import identity_objective, train_only
from magicmirror.training.trainer import Trainer, TrainingDiverged
from tests.tiny_training import build_trainable, make_config

JOINT = ("transformer", "text_encoder", "identity_perceiver", "identity_fusion")
STEPS = 4


def make_trainer(folder, shards, **changes):
    """Stills and clips, dropout, face loss and unrolled samples.

    In double precision: Adam divides a gradient that is zero but for rounding by its own size, so in single precision
    the order of a sum shows in the weights, and a mistake in sharing could hide behind it.
    """
    dropout = {"drop_all": 0.2, "drop_identity": 0.2, "unrolled_share": 0.4}
    config = make_config(max_steps=STEPS, clip_share=0.5, log_steps=2, **dropout, **changes)
    pipeline = build_trainable().to(torch.float64)
    objective = identity_objective(pipeline, config)
    train_only(objective, JOINT)
    batches = identity_batches(pipeline, [shards], config, allow_incomplete=False)
    return Trainer(config, objective.train(), batches, folder / "checkpoints", curves=folder / "curves")


class Slope(nn.Module):
    """Its loss is not finite in the second process, at step 2."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, batch, generator, part):
        return {"loss": (self.weight * batch["scale"]).sum()}


def spoilt_batches(step, part):
    return {"scale": torch.full((1,), float("nan") if (step, part.index) == (2, 1) else 1.0)}


def main():
    folder, shards = Path(sys.argv[1]), Path(sys.argv[2])
    shared = make_trainer(folder / "shared", shards)
    rows = []
    shared.trained.register_forward_pre_hook(lambda module, arguments: rows.append(len(arguments[0]["latents"])))
    losses = [shared.train_step() for _ in range(STEPS)]
    shared.save()
    again = make_trainer(folder / "shared", shards)
    index = shared.accelerator.process_index
    report = {"losses": losses, "rows": rows, "resumed": again.resume()}

    short = make_trainer(folder / "short", shards)
    short.run(max_hours=1e-9)
    report["short"] = short.step

    try:
        Trainer(make_config(max_steps=5, image_batch=2), Slope(), spoilt_batches, folder / "diverged").run()
    except TrainingDiverged as error:
        report["diverged"] = str(error)
    (folder / f"report-{index}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
