"""The whole way of learning, end to end: the small model learns eight samples by heart.

Noise and timesteps are drawn anew at every step, as in any run, so what has to be learned is the samples and not the
noise. Nobody loses a condition, because eight people without names cannot be told apart.
"""

import pytest
import torch

from magicmirror.training.networks import identity_objective, train_only
from magicmirror.training.trainer import Trainer
from tests.tiny_training import build_trainable, generator, make_batch, make_config

STEPS, COPIES = 500, 4


@torch.no_grad()
def mean_loss(objective, batch, draws=20):
    """Denoising loss over fixed draws that no step of training has seen."""
    return sum(objective(batch, generator(10**9 + seed))["noise"].item() for seed in range(draws)) / draws


def test_eight_samples_are_learned_by_heart(tmp_path):
    pipeline = build_trainable()
    eight = make_batch(pipeline.tokenizer, rows=8, frames=1)
    # Each sample several times a step, with noise of its own.
    batch = {name: torch.cat([v] * COPIES) if torch.is_tensor(v) else v * COPIES for name, v in eight.items()}
    config = make_config(
        max_steps=STEPS,
        learning_rate=8e-3,
        warmup_steps=50,
        decay_steps=STEPS // 2,
        image_batch=8 * COPIES,
        weight_decay=0.0,
        ema_decay=0.98,
        drop_all=0.0,
        drop_identity=0.0,
        checkpoint_steps=STEPS,
    )
    objective = identity_objective(pipeline, config)
    train_only(objective, ("transformer", "text_encoder", "identity_perceiver", "identity_fusion", "face_perceiver"))
    trainer = Trainer(config, objective.train(), lambda step, part: batch, tmp_path)
    before = mean_loss(trainer.trained, eight)
    assert before == pytest.approx(1.3, abs=0.4)  # the latents' own variance is one, and so is the noise's
    trainer.run()
    assert mean_loss(trainer.trained, eight) < 0.05 * before
    trainer.average.copy_to(trainer.trained)
    assert mean_loss(trainer.trained, eight) < 0.05 * before
