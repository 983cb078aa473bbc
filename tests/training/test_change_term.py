"""The change term: its value by hand, which samples count, and its part in the objective."""

from math import log1p

import pytest
import torch

from magicmirror.data.motion import MotionCue
from magicmirror.data.pose_targets import POSE_FIELDS, latent_poses
from magicmirror.training.change_term import STILL_CHANGE, USUAL_CHANGE, change_term, usual_change
from magicmirror.training.networks import identity_objective
from tests.tiny_training import FRAMES, build_trainable, generator, make_batch, make_config

SHAPE = (FRAMES, 2, 3, 3)


def poses_of(*names):
    return torch.from_numpy(latent_poses([MotionCue(name) for name in names], FRAMES))[None]


def test_value_by_hand():
    """Errors of 0.5 in every changed frame, for a clip that keeps still and for one that turns."""
    latents = torch.randn(2, *SHAPE, generator=generator(0))
    predicted = latents.clone()
    predicted[:, 1:] += 0.5
    poses = torch.cat([poses_of(), poses_of("turn_left")])
    turned = [still + yaw for still, yaw in zip(STILL_CHANGE, USUAL_CHANGE["yaw"], strict=True)]
    expected = sum(log1p(0.25 / size) for size in (*STILL_CHANGE, *turned)) / 4
    assert change_term(predicted, latents, poses, torch.tensor([True, True])).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_places_count_by_their_own_change():
    """Two places of nine change, by 3 and by 1 in both channels: an error of 0.5 counts nine times as much at one."""
    latents = torch.zeros(1, *SHAPE)
    latents[:, 1:, :, 0, 0] = 3.0
    latents[:, 1:, :, 2, 1] = -1.0
    poses, keep = poses_of("smile"), torch.tensor([True])
    size = usual_change(poses)
    for place, weight in (((0, 0), 0.9), ((2, 1), 0.1), ((1, 1), 0.0)):
        predicted = latents.clone()
        predicted[:, 1:, :, place[0], place[1]] += 0.5
        expected = log1p(0.25 / 9 / size.everywhere.item()) + log1p(0.25 * weight / size.where_it_changes.item())
        assert change_term(predicted, latents, poses, keep).item() == pytest.approx(expected / 2, rel=1e-5)


def test_a_clip_in_which_nothing_changes_has_a_value():
    latents = torch.zeros(1, *SHAPE)
    predicted = torch.full_like(latents, 0.1).requires_grad_()
    term = change_term(
        predicted * torch.arange(FRAMES)[None, :, None, None, None], latents, poses_of(), torch.tensor([True])
    )
    term.backward()
    assert term > 0 and predicted.grad.isfinite().all()


def test_only_the_change_counts():
    """Another person, or another background, in all frames alike is for the other terms to see."""
    latents = torch.randn(1, *SHAPE, generator=generator(0))
    other = latents + torch.randn(1, 1, *SHAPE[1:], generator=generator(1))
    keep = torch.tensor([True])
    assert change_term(other, latents, poses_of("nod"), keep).item() == pytest.approx(0, abs=1e-6)
    assert change_term(latents[:, :1].expand_as(latents), latents, poses_of("nod"), keep) > 0


def test_a_small_motion_weighs_what_a_large_one_does():
    """Left out altogether, each costs the same, though one changes the latents thirty times as much."""
    costs = {}
    for name, field in (("smile", "smile"), ("turn_left", "yaw")):
        size = usual_change(poses_of(name))
        for measured, still, own in zip(size, STILL_CHANGE, USUAL_CHANGE[field], strict=True):
            assert measured.item() == pytest.approx(still + own)
        # In places that are the share of a picture which such a motion moves: 64 and 287 of 1,400.
        latents = torch.zeros(1, FRAMES, 2, 35, 40)
        count = 1400 * (size.everywhere / size.where_it_changes).item()
        assert count == pytest.approx(round(count), abs=1e-3)
        latents.flatten(3)[:, 1:, :, : round(count)] = size.where_it_changes.item() ** 0.5
        costs[name] = change_term(torch.zeros_like(latents), latents, poses_of(name), torch.tensor([True])).item()
    assert costs["smile"] == pytest.approx(log1p(1)) == pytest.approx(costs["turn_left"])


def test_two_motions_add_up_and_strength_does_not_count():
    both = poses_of("smile", "turn_left")
    for way, still in enumerate(STILL_CHANGE):
        expected = still + USUAL_CHANGE["smile"][way] + USUAL_CHANGE["yaw"][way]
        assert usual_change(both)[way].item() == usual_change(0.5 * both)[way].item() == pytest.approx(expected)
    assert set(USUAL_CHANGE) == set(POSE_FIELDS)


def test_samples_without_caption_or_with_unknown_motion_do_not_count():
    latents = torch.randn(3, *SHAPE, generator=generator(0))
    predicted = torch.randn(3, *SHAPE, generator=generator(1)).requires_grad_()
    poses = poses_of("nod").repeat(3, 1, 1)
    poses[1] = torch.nan
    term = change_term(predicted, latents, poses, torch.tensor([True, True, False]))
    alone = change_term(predicted[:1], latents[:1], poses[:1], torch.tensor([True]))
    assert term.item() == pytest.approx(alone.item() / 3)
    term.backward()
    gradient = predicted.grad.abs().amax((1, 2, 3, 4))
    assert gradient[0] > 0 and gradient[1:].eq(0).all()


def test_stills_have_no_change():
    latents = torch.randn(4, 1, *SHAPE[1:])
    assert change_term(torch.zeros_like(latents), latents, torch.zeros(4, 1, 9), torch.ones(4, dtype=torch.bool)) == 0


def test_it_is_a_part_of_the_objective():
    """The estimate of the clean latents is that of the same step."""
    pipeline = build_trainable()
    batch = make_batch(pipeline.tokenizer)
    config = {"drop_all": 0.0, "drop_identity": 0.0}
    without = identity_objective(pipeline, make_config(**config))(batch, generator(3))
    losses = identity_objective(pipeline, make_config(change_loss=2.0, **config))(batch, generator(3))
    assert "change" not in without and losses["change"] > 0
    torch.testing.assert_close(losses["loss"], without["loss"] + 2.0 * losses["change"])
    torch.testing.assert_close(losses["noise"], without["noise"])
