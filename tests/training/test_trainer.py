"""The trainer: schedule, average, checkpoints, exact resume, and the guard against numbers that are none."""

import math
import os
import time
from itertools import pairwise

import pytest
import torch
from torch import nn

from magicmirror.errors import ConfigError
from magicmirror.media import load_image, read_video
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.training.batches import identity_batches
from magicmirror.training.checkpoint import checkpoints, trainable_state
from magicmirror.training.critic import CRITIC_BETAS, CRITIC_RATE
from magicmirror.training.identity_loss import IdentityLoss
from magicmirror.training.networks import identity_objective, train_only
from magicmirror.training.parts import WHOLE
from magicmirror.training.perceptual_loss import PerceptualLoss
from magicmirror.training.schedule import learning_rate_at, step_generator
from magicmirror.training.trainer import Trainer, TrainingDiverged
from magicmirror.training.validation import PipelineValidation
from tests.tiny_training import build_trainable, make_config

JOINT = ("transformer", "text_encoder", "identity_perceiver", "identity_fusion")


class Line(nn.Module):
    """Fits a line to noisy points; ``batch`` scales the loss."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((2, 2), 0.5))
        self.bias = nn.Parameter(torch.zeros(2))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)

    def forward(self, batch, generator, part=WHOLE):
        points = torch.randn(4, 2, generator=generator)
        loss = (points @ self.weight + self.bias - points @ self.frozen).square().mean() * batch["scale"]
        return {"loss": loss, "noise": loss.detach()}


def line_trainer(folder, batch_at=lambda step, part=WHOLE: {"scale": torch.ones(())}, objective=None, **changes):
    return Trainer(make_config(**changes), objective or Line(), batch_at, folder)


def weights(module):
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def test_learning_rate_warms_up_stays_and_decays():
    config = make_config(max_steps=100, learning_rate=2.0, warmup_steps=4, decay_steps=20)
    rates = [learning_rate_at(step, config) for step in range(101)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4:81] == [2.0] * 77
    half = 2.0 * (0.01 + 0.99 / 2)
    assert rates[90] == pytest.approx(half) and rates[100] == pytest.approx(0.02)
    quarter = 2.0 * (0.01 + 0.99 * (1 + math.cos(math.pi / 4)) / 2)
    assert rates[85] == pytest.approx(quarter)
    assert all(late < early for early, late in pairwise(rates[80:]))
    steady = make_config(max_steps=100, learning_rate=2.0, warmup_steps=0)
    assert {learning_rate_at(step, steady) for step in range(100)} == {2.0}


@pytest.mark.parametrize("steps", [10, 60, 119, 120])
def test_a_run_shorter_than_its_warm_up_and_decay_reaches_its_rate_all_the_same(steps):
    config = make_config(max_steps=steps, learning_rate=2.0, warmup_steps=20, decay_steps=100)
    rates = [learning_rate_at(step, config) for step in range(steps)]
    assert max(rates) > 1.9 and rates[-1] < 0.1
    peak = rates.index(max(rates))
    assert peak <= steps / 5 and rates[peak:] == sorted(rates[peak:], reverse=True)


def test_generator_of_a_step_depends_on_seed_and_step():
    draws = {(seed, step): torch.rand(3, generator=step_generator(seed, step)) for seed in (0, 1) for step in (0, 1)}
    assert torch.equal(draws[1, 1], torch.rand(3, generator=step_generator(1, 1)))
    values = list(draws.values())
    assert not any(torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])


def test_optimiser_gets_rate_decay_and_clipped_gradients(tmp_path):
    trainer = line_trainer(tmp_path, max_steps=20, learning_rate=0.1, warmup_steps=10, weight_decay=0.3, grad_clip=0.01)
    groups = trainer.optimizer.param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.3), (1, 0.0)]
    norms = []

    def watch(optimizer, *arguments):
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.cat([grad.flatten() for grad in grads]).norm().item())

    trainer.optimizer.optimizer.register_step_pre_hook(watch)
    trainer.train_step()
    assert [group["lr"] for group in groups] == [pytest.approx(0.01)] * 2
    trainer.train_step()
    assert [group["lr"] for group in groups] == [pytest.approx(0.02)] * 2
    assert norms == [pytest.approx(0.01, rel=1e-3)] * 2
    assert torch.equal(trainer.trained.frozen, torch.ones(2, 2))


@pytest.mark.parametrize("critic", ["critic", "latent_critic"])
def test_a_critic_learns_faster_by_a_fixed_factor(tmp_path, critic):
    """It keeps ahead of what it judges; with Adam a step is as long as the rate, however small the loss."""
    objective = Line()
    setattr(objective, critic, nn.Linear(2, 2))
    plain = objective.forward

    def forward(batch, generator, part=WHOLE):
        losses = plain(batch, generator, part)
        losses["loss"] = losses["loss"] + 1e-3 * getattr(objective, critic)(torch.ones(2)).sum()
        return losses

    objective.forward = forward
    changes = {"learning_rate": 0.1, "warmup_steps": 0, "weight_decay": 0.0}
    trainer = line_trainer(tmp_path, objective=objective, **changes)
    before = weights(trainer.trained)
    trainer.train_step()
    moved = {name: (value - before[name]).abs().max().item() for name, value in weights(trainer.trained).items()}
    assert moved["weight"] == pytest.approx(0.1, rel=1e-3) == pytest.approx(moved["bias"], rel=1e-3)
    assert moved[f"{critic}.weight"] == pytest.approx(0.1 * CRITIC_RATE, rel=1e-3)
    groups = trainer.optimizer.param_groups
    assert sorted(group["lr"] for group in groups) == pytest.approx([0.1, 0.1, 0.1 * CRITIC_RATE, 0.1 * CRITIC_RATE])
    assert {group["betas"] for group in groups} == {(0.9, 0.99), CRITIC_BETAS}


def test_average_is_exponential_from_the_first_step_on(tmp_path):
    trainer = line_trainer(tmp_path, ema_decay=0.9, learning_rate=0.1)
    trainer.train_step()
    expected = weights(trainer.trained)
    for _ in range(3):
        trainer.train_step()
        for name, value in weights(trainer.trained).items():
            expected[name] = 0.9 * expected[name] + 0.1 * value
    assert set(trainer.average.values) == {"weight", "bias"}  # what is frozen has no average
    for name, value in trainer.average.values.items():
        torch.testing.assert_close(value, expected[name])
    assert not torch.equal(trainer.average.values["weight"], trainer.trained.weight)


def test_a_run_writes_checkpoints_and_ends(tmp_path):
    trainer = line_trainer(
        tmp_path, max_steps=7, checkpoint_steps=3, keep_checkpoints=2, log_steps=5, learning_rate=0.05
    )
    means = trainer.run()
    assert trainer.step == 7 and set(means) == {"loss", "noise"}
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000006", "step-00000007"]
    # The same command after the end: nothing more to do.
    again = line_trainer(tmp_path, max_steps=7, checkpoint_steps=3, learning_rate=0.05)
    assert again.resume() == 7 and again.run() == {}
    assert torch.equal(again.trained.weight, trainer.trained.weight)


def test_means_are_of_the_steps_since_the_last_line(tmp_path):
    trainer = line_trainer(tmp_path / "b", max_steps=4)
    losses = [trainer.train_step()["loss"] for _ in range(4)]
    means = line_trainer(tmp_path / "c", max_steps=4, log_steps=2).run()
    assert means["loss"] == pytest.approx((losses[2] + losses[3]) / 2)
    means = line_trainer(tmp_path / "d", max_steps=4, log_steps=3).run()
    assert means["loss"] == pytest.approx(losses[3])


def test_wall_time_ends_a_run_with_a_checkpoint(tmp_path):
    trainer = line_trainer(tmp_path, max_steps=10**6)
    trainer.run(max_hours=0.2 / 3600)
    assert 0 < trainer.step < 10**6
    assert checkpoints(tmp_path)[-1].name == f"step-{trainer.step:08d}"


def spoil(step_of_harm, value):
    return lambda step, part=WHOLE: {"scale": torch.tensor(value if step == step_of_harm else 1.0), "step": step}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run_and_saves_the_batch(tmp_path, value):
    folder = tmp_path / "checkpoints"
    trainer = line_trainer(folder, batch_at=spoil(4, value), checkpoint_steps=3, max_steps=9)
    with pytest.raises(TrainingDiverged, match=r"loss of step 4 .*diverged-step-4\.pt"):
        trainer.run()
    assert trainer.step == 4 and sorted(os.listdir(folder)) == ["diverged-step-4.pt", "step-00000003"]
    batch = torch.load(folder / "diverged-step-4.pt", weights_only=True)
    assert batch["step"] == 4 and not torch.isfinite(batch["scale"])
    assert all(p.isfinite().all() for p in trainer.trained.parameters())
    # Started again without the cause it goes on from the checkpoint.
    again = line_trainer(folder, checkpoint_steps=3, max_steps=9)
    assert again.resume() == 3
    again.run()
    assert again.step == 9


class SteepLine(Line):
    """Its loss is finite at the third step, but the gradient is not."""

    def forward(self, batch, generator, part=WHOLE):
        losses = super().forward(batch, generator, part)
        cliff = (self.bias - self.bias.detach()).abs().sum().sqrt() if batch["step"] == 2 else 0.0
        return {**losses, "loss": losses["loss"] + cliff}


def test_a_gradient_that_is_no_number_does_not_reach_the_weights(tmp_path):
    trainer = line_trainer(tmp_path, spoil(-1, 1.0), SteepLine(), max_steps=9)
    with pytest.raises(TrainingDiverged, match="gradient of step 2"):
        trainer.run()
    assert trainer.step == 2 and all(p.isfinite().all() for p in trainer.trained.parameters())
    assert all(p.isfinite().all() for p in trainer.average.values.values())


REPORTED = ("identity", "perceptual", "fooled", "told", "latents_fooled", "latents_told")


def joint_trainer(folder, shards, recognizer, perturb=0):
    """Stills, clips, dropout, face loss, identity term, critics, unrolled; ``perturb`` spoils all that is trained."""
    config = make_config(
        max_steps=6,
        warmup_steps=2,
        decay_steps=3,
        clip_share=0.5,
        identity_loss=0.5,
        identity_loss_below=1000,
        identity_loss_samples=1,
        perceptual_loss=0.3,
        perceptual_loss_samples=2,
        critic_weight=0.1,
        latent_critic_weight=0.1,
        unrolled_share=0.4,
        drop_all=0.2,
        drop_identity=0.2,
        ema_decay=0.8,
    )
    pipeline = build_trainable()
    terms = IdentityLoss(pipeline.vae, recognizer.embed_faces), PerceptualLoss(pipeline.vae, recognizer)
    objective = identity_objective(pipeline, config, *terms)
    train_only(objective, (*JOINT, "critic", "latent_critic"))
    with torch.no_grad():
        for parameter in objective.parameters():
            if parameter.requires_grad and perturb:
                parameter.add_(perturb)
    batch_at = identity_batches(pipeline, [shards], config, allow_incomplete=False)
    return Trainer(config, objective.train(), batch_at, folder)


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, shards, recognizer):
    straight = joint_trainer(tmp_path / "straight", shards, recognizer)
    expected = [straight.train_step() for _ in range(6)]

    torch.manual_seed(11)
    first = joint_trainer(tmp_path / "run", shards, recognizer)
    seen = [first.train_step() for _ in range(3)]
    first.save()
    torch.manual_seed(22)
    second = joint_trainer(tmp_path / "run", shards, recognizer, perturb=0.1)
    assert second.resume() == 3
    seen += [second.train_step() for _ in range(3)]

    assert seen == expected
    assert len({losses["loss"] for losses in seen}) == 6
    assert all(any(losses[name] > 0 for losses in seen) for name in REPORTED)
    trained = trainable_state(second.trained), trainable_state(straight.trained)
    for state, other in (trained, (second.average.values, straight.average.values)):
        assert state.keys() == other.keys() and len(state) > 100
        assert [name for name in state if not torch.equal(state[name], other[name])] == []
    assert second.average.updates == straight.average.updates == 6
    ours, theirs = second.optimizer.state_dict(), straight.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"] and ours["state"].keys() == theirs["state"].keys()
    for index, values in ours["state"].items():
        assert values.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(value, theirs["state"][index][name]) for name, value in values.items())


def test_mixed_precision_keeps_weights_and_losses_in_float32(tmp_path):
    trainer = line_trainer(tmp_path, mixed_precision="bf16")
    seen = []
    trainer.trained.register_forward_hook(
        lambda module, arguments, output: seen.append(torch.is_autocast_enabled("cpu"))
    )
    trainer.train_step()
    assert seen == [True]
    assert {p.dtype for p in trainer.trained.parameters()} == {torch.float32}


def recorded(trainer):
    """Losses of all steps, and all that is trained, at the end."""
    losses = [trainer.train_step() for _ in range(trainer.config.max_steps)]
    return losses, trainable_state(trainer.trained), trainer.average.values


def tiny_trainer(folder, shards, dtype=torch.float32, **changes):
    config = make_config(max_steps=4, clip_share=0.5, **{"image_batch": 4, "clip_batch": 2, **changes})
    pipeline = build_trainable() if dtype == torch.float32 else build_trainable().to(dtype)
    objective = identity_objective(pipeline, config)
    train_only(objective, JOINT)
    batches = identity_batches(pipeline, [shards], config, allow_incomplete=False)
    return Trainer(config, objective.train(), batches, folder)


def test_micro_batches_add_up_to_the_step(tmp_path, shards):
    # In double precision, for the reason that shared_run.py gives.
    whole, weights_of_whole, _ = recorded(tiny_trainer(tmp_path, shards, torch.float64))
    trainer = tiny_trainer(tmp_path, shards, torch.float64, micro_batch=1)
    rows = []
    trainer.trained.register_forward_pre_hook(lambda module, arguments: rows.append(len(arguments[0]["latents"])))
    small, weights_of_small, _ = recorded(trainer)
    assert set(rows) == {1} and len(rows) > 8
    for ours, expected in zip(small, whole, strict=True):
        assert ours == pytest.approx(expected, abs=1e-6)
    assert all((weights_of_small[name] - value).abs().max() < 1e-9 for name, value in weights_of_whole.items())


def test_other_settings_are_refused_before_anything_is_loaded(tmp_path):
    trainer = line_trainer(tmp_path, max_steps=2)
    trainer.run()
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.001, is 0\.1"):
        line_trainer(tmp_path, max_steps=2, learning_rate=0.1).resume()
    assert line_trainer(tmp_path, max_steps=2, learning_rate=0.1).resume(new_settings=True) == 2
    longer = line_trainer(tmp_path, max_steps=5, checkpoint_steps=1, log_steps=7)
    assert longer.resume() == 2
    longer.run()
    assert longer.step == 5


def test_wall_time_leaves_room_for_the_last_checkpoint(tmp_path):
    """Steps of 30 ms and checkpoints of 200 ms: the last checkpoint is complete before the time is up."""

    class SlowLine(Line):
        def forward(self, batch, generator, part=WHOLE):
            time.sleep(0.03)
            return super().forward(batch, generator, part)

    trainer = line_trainer(tmp_path, objective=SlowLine(), max_steps=10**6, checkpoint_steps=2)
    quick = trainer.save

    def save():
        started = time.monotonic()
        path = quick()
        time.sleep(0.2)
        trainer._note("save", started)
        return path

    trainer.save = save
    started = time.monotonic()
    trainer.run(max_hours=2.0 / 3600)
    assert 0.8 < time.monotonic() - started < 2.0
    assert checkpoints(tmp_path)[-1].name == f"step-{trainer.step:08d}" and trainer.step >= 2


def test_a_run_with_validation_is_the_run_without(tmp_path, shards):
    """Pictures and videos are made with the average at fixed seeds, and no number of the run changes."""
    plain = tiny_trainer(tmp_path / "plain", shards)
    plain.run()
    trainer = tiny_trainer(tmp_path / "shown", shards, validation_steps=2)
    objective = trainer.trained
    pipeline = MagicMirrorPipeline(
        **{name: getattr(objective, name) for name, _ in objective.named_children()},
        scheduler=objective.scheduler,
        **{name: getattr(build_trainable(), name) for name in ("vae", "tokenizer", "feature_extractor")},
    )
    show = PipelineValidation(pipeline, trainer.loader.source, trainer.config, tmp_path / "validation")
    seen = []

    def validate(step):
        seen.append((step, {n: p.detach().clone() for n, p in objective.named_parameters() if p.requires_grad}))
        torch.rand(3)  # a careless validation draws, too
        return show(step)

    trainer.validate = validate
    before = torch.random.get_rng_state()
    trainer.run()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [step for step, _ in seen] == [2, 4]
    assert all(torch.equal(seen[1][1][name], value) for name, value in trainer.average.values.items())
    assert objective.training and pipeline.scheduler is objective.scheduler

    newest = [checkpoints(folder)[-1] for folder in (tmp_path / "plain", tmp_path / "shown")]
    for name in ("model.safetensors", "average.safetensors", "optimizer.pt"):
        assert (newest[0] / name).read_bytes() == (newest[1] / name).read_bytes()
    cases = len(trainer.loader.source(0)["captions"])
    for step in (2, 4):
        folder = tmp_path / "validation" / f"step-{step:08d}"
        videos = [f"case-{number}.mp4" for number in range(cases)]
        assert [p.name for p in sorted(folder.iterdir()) if p.suffix != ".json"] == [*videos, "grid.png"]
        grid = load_image(folder / "grid.png")
        assert grid.shape == (cases * 32, 4 * 32, 3)  # reference, first, middle and last frame of each
        assert len(read_video(folder / "case-1.mp4")[0]) == 9
