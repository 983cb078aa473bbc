"""The motion term: its value by hand, which samples count, its part in the objective, and that it can be learned."""

from dataclasses import replace

import pytest
import torch

from magicmirror.data.motion import MOTIONS, MotionCue
from magicmirror.data.pose_targets import latent_poses
from magicmirror.data.style import STYLES
from magicmirror.errors import ConfigError
from magicmirror.training.build import _pipeline_parts
from magicmirror.training.caption_objective import CaptionObjective, caption_batches
from magicmirror.training.motion_term import STYLE_WEIGHT, MotionTerm
from magicmirror.training.networks import identity_objective, train_only
from magicmirror.training.parts import Part
from magicmirror.training.recipes import find_recipe
from tests.tiny_training import FRAMES, build_trainable, generator, make_batch, make_config


@pytest.fixture
def pipeline():
    return build_trainable()


def test_it_reads_the_mean_token_of_each_frame_and_of_the_video(pipeline):
    """The hooks keep what the blocks give; the value is worked out anew from the same outputs."""
    objective = identity_objective(pipeline, make_config(motion_loss=2.0, drop_all=0.0, drop_identity=0.0))
    seen = {}
    for name in objective.motion_term.heads:
        block = pipeline.transformer.transformer_blocks[int(name)]
        block.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output[0].detach()}))
    batch = make_batch(pipeline.tokenizer)
    losses = objective(batch, generator(3))
    errors = []
    for name, (norm, linear) in objective.motion_term.heads.items():
        for row, wanted in zip(seen[name], batch["poses"], strict=True):
            for frame, pose in zip(row.chunk(FRAMES), wanted, strict=True):
                errors.append((linear(norm(frame.mean(0))) - pose).square().mean())
    assert len(errors) == 4 * FRAMES * len(objective.motion_term.heads) > 0
    torch.testing.assert_close(losses["motion"], torch.stack(errors).mean().detach())
    misses = []
    for name, (norm, linear) in objective.motion_term.style_heads.items():
        for row, wanted in zip(seen[name], batch["styles"], strict=True):
            misses.append(-linear(norm(row.mean(0))).log_softmax(0)[wanted])
    torch.testing.assert_close(losses["style"], torch.stack(misses).mean().detach())
    without = identity_objective(pipeline, make_config(drop_all=0.0, drop_identity=0.0))(batch, generator(3))
    assert "motion" not in without
    torch.testing.assert_close(
        losses["loss"], without["loss"] + 2.0 * (losses["motion"] + STYLE_WEIGHT * losses["style"])
    )


def test_samples_without_caption_or_with_unknown_motion_or_style_do_not_count(pipeline):
    term = MotionTerm(pipeline.transformer)
    objective = identity_objective(pipeline, make_config())
    batch = make_batch(pipeline.tokenizer)

    def value(poses, keep, styles=batch["styles"]):
        objective(batch, generator(0))
        return term(poses, styles, torch.tensor(keep))

    poses, styles = batch["poses"], batch["styles"]
    unknown = poses.clone()
    unknown[1] = torch.nan
    everybody = [True] * 4
    three = [True, False, True, True]
    assert value(unknown, everybody)[0] == value(poses, three)[0]
    assert value(poses, everybody, torch.where(torch.arange(4) == 1, -1, styles))[1] == value(poses, three)[1]
    for kind in (0, 1):
        assert 0 < value(poses, three)[kind] < value(poses, everybody)[kind]
        assert value(poses, [False] * 4)[kind] == 0


def test_heads_are_trained_with_the_model_and_not_part_of_it(pipeline):
    before = set(pipeline.transformer.state_dict())
    objective = identity_objective(pipeline, make_config(motion_loss=1.0))
    names = train_only(objective, ("transformer", "motion_term"))
    assert any(name.startswith("motion_term.heads.") for name in names)
    loss = objective(make_batch(pipeline.tokenizer), generator(0))["loss"]
    loss.backward()
    assert all(p.grad is not None for p in objective.motion_term.parameters())
    assert set(pipeline.transformer.state_dict()) == before


def test_checkpointed_blocks_are_refused():
    with pytest.raises(ConfigError, match="off with the motion term"):
        make_config(motion_loss=1.0, gradient_checkpointing=True)


def test_captions_come_with_their_own_poses_and_styles(pipeline):
    config = make_config(image_batch=12)
    batch = caption_batches(pipeline, config)(5)
    assert batch["input_ids"].shape[0] == batch["styles"].shape[0] == 12 and batch["poses"].shape[1:] == (5, 9)
    again = caption_batches(pipeline, config)(5)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(batch["input_ids"], caption_batches(pipeline, config)(6)["input_ids"])
    assert int(batch["styles"].min()) >= 0 and int(batch["styles"].max()) < len(STYLES)
    moving = sum(bool(pose.abs().max() > 0.3) for pose in batch["poses"])
    assert 3 <= moving <= 12
    assert {len(latent_poses((MotionCue(name),), 5)) for name in MOTIONS} == {5}


def test_parts_of_a_step_of_captions_are_the_step(pipeline):
    """Gradients of four parts, whose poses differ in size, add up to that of the whole."""
    config = make_config(image_batch=16)
    objective = CaptionObjective(pipeline.text_encoder)
    batches = caption_batches(pipeline, config)

    def gradient(parts):
        objective.zero_grad()
        for part in parts:
            (objective(batches(3, part), generator(0), part)["loss"] / len(parts)).backward()
        return torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None])

    parts = [Part(number, 4) for number in range(4)]
    assert len({float(batches(3, part)["poses"].square().mean()) for part in parts}) > 1
    torch.testing.assert_close(gradient(parts), gradient([Part()]), rtol=1e-4, atol=1e-6)


def test_heads_follow_from_the_seed_alone(pipeline):
    """Whatever was drawn before: a run that is begun anew is the same run."""

    def heads(seed):
        torch.rand(7)
        before = torch.get_rng_state()
        config = make_config(motion_loss=1.0, seed=seed)
        made = identity_objective(pipeline, config).motion_term.state_dict()
        recipe = replace(find_recipe("captions"), config=replace(config, image_batch=2))
        captions, _ = _pipeline_parts(recipe, [], pipeline, False)
        assert torch.equal(before, torch.get_rng_state())
        return [value.clone() for value in (*made.values(), *captions.heads.state_dict().values())]

    first, again, other = heads(1), heads(1), heads(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_text_encoder_learns_what_captions_mean(pipeline):
    """A few captions, many times: pose and style come out of the text alone."""
    objective = CaptionObjective(pipeline.text_encoder)
    train_only(objective, ("text_encoder", "heads"))
    batch = caption_batches(pipeline, make_config(image_batch=8))(0)
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], lr=3e-3)
    first = objective(batch, generator(0))
    for _ in range(120):
        optimizer.zero_grad()
        losses = objective(batch, generator(0))
        losses["loss"].backward()
        optimizer.step()
    assert losses["loss"] < 0.3 * first["loss"]
    assert losses["pose"] < 0.5 and losses["style"] < 0.5 * first["style"]
