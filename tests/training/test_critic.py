"""The critic: what its scores see, both losses by hand, and that it makes a decoder's pictures look like photos."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from magicmirror.training.critic import FOLLOWING_NOISE, NOISE, PENALTY, PictureCritic, critic_losses
from magicmirror.training.parts import Part, take
from magicmirror.training.vae_objective import JUDGED_FRAMES, VaeObjective, as_clips
from tests.tiny_training import flowing_clips, generator, moving_clips
from tests.training.test_vae_objective import vae_config


@pytest.fixture
def critic():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PictureCritic((4, 6, 8))


def pictures(seed, count=2, side=32):
    return torch.randn(count, 3, side, side, generator=generator(seed))


def noises(seed, count=2, side=32):
    """Two for each of ``count`` pairs of pictures."""
    return pictures(seed, 2 * count, side).unflatten(0, (count, 2))


def test_a_score_sees_62_pixels_and_the_next_lies_8_further():
    critic = PictureCritic((2, 2, 2))
    picture = pictures(0, 1, 128).requires_grad_()
    scores = critic(picture)
    assert scores.shape == (1, 1, 16, 16)
    reach = []
    for column in (7, 8):
        (gradient,) = torch.autograd.grad(scores[0, 0, 8, column], picture, retain_graph=True)
        seen = gradient[0].abs().sum((0, 1)).nonzero().flatten()
        reach.append((int(seen[0]), int(seen[-1])))
    assert reach[0][1] - reach[0][0] + 1 == 62
    assert (reach[1][0] - reach[0][0], reach[1][1] - reach[0][1]) == (8, 8)


def test_light_and_colour_are_not_its_business(critic):
    photo = pictures(0)
    tinted = photo + torch.tensor([0.3, -0.1, 0.05])[None, :, None, None]
    torch.testing.assert_close(critic(tinted), critic(photo), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(critic(1.5 * photo), critic(photo), rtol=1e-2)


def test_of_a_second_frame_it_sees_what_was_not_in_the_first():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        single, double = PictureCritic((4, 6, 8)), PictureCritic((4, 6, 8), num_frames=2)
    shared = {name: value for name, value in single.state_dict().items() if name != "layers.0.weight"}
    double.load_state_dict(shared, strict=False)
    with torch.no_grad():
        double.layers[0].weight[:, :3] = single.layers[0].weight
    first, other = pictures(0), pictures(1)
    torch.testing.assert_close(double(torch.cat([first, first], dim=1)), single(first))
    with torch.no_grad():
        double.layers[0].weight[:, 3:] = single.layers[0].weight
    # w * first + w * (other - first)
    torch.testing.assert_close(double(torch.cat([first, other], dim=1)), single(other), rtol=1e-4, atol=1e-5)


def test_losses_by_hand(critic):
    made, photos, noise = pictures(1), pictures(2), noises(3)
    fooled, told = critic_losses(critic, made, photos, noise)
    of_made, of_photos = critic(made), critic(photos)
    torch.testing.assert_close(fooled, (1 + (of_photos - of_made).exp()).log().mean())
    slope = torch.cat([critic(photos + NOISE * noise[:, 0]) - of_photos, critic(made + NOISE * noise[:, 1]) - of_made])
    torch.testing.assert_close(told, (1 + (of_made - of_photos).exp()).log().mean() + PENALTY * slope.square().mean())
    fooled, told = critic_losses(critic, photos, photos, torch.zeros_like(noise))
    assert fooled.item() == pytest.approx(math.log(2)) == pytest.approx(told.item())


def test_two_frames_have_nearly_the_same_noise():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        critic = PictureCritic((4, 6, 8), num_frames=2)
    photos, noise = torch.cat([pictures(1), pictures(2)], dim=1), torch.cat([noises(3), noises(4)], dim=2)
    _, told = critic_losses(critic, photos, photos, noise)
    steps = [
        torch.cat([each[:, :3], each[:, :3] + FOLLOWING_NOISE * each[:, 3:]], dim=1)
        for each in (noise[:, 0], noise[:, 1])
    ]
    slope = torch.cat([critic(photos + NOISE * step) - critic(photos) for step in steps])
    torch.testing.assert_close(told, math.log(2) + PENALTY * slope.square().mean())


def test_neither_loss_reaches_what_the_other_trains(critic):
    made, photos, noise = pictures(1).requires_grad_(), pictures(2).requires_grad_(), noises(3)
    fooled, told = critic_losses(critic, made, photos, noise)
    fooled.backward(retain_graph=True)
    assert made.grad.abs().sum() > 0 and photos.grad is None
    assert all(parameter.grad is None for parameter in critic.parameters())
    made.grad = None
    told.backward()
    assert made.grad is None and all(parameter.grad.abs().sum() > 0 for parameter in critic.parameters())


def test_what_is_drawn_anew_in_every_frame_is_told_from_what_moves_along():
    """Every single frame looks alike, so a critic of single frames could never tell."""
    critic = PictureCritic((8, 8, 8), num_frames=2)
    optimizer = torch.optim.AdamW(critic.parameters(), lr=3e-3, betas=(0.5, 0.9))
    told = []
    for step in range(60):
        first, other = pictures(2 * step, 8, 24), pictures(2 * step + 1, 8, 24)
        photos, made = torch.cat([first, first], dim=1), torch.cat([first, other], dim=1)
        noise = torch.cat([noises(step + 10_000, 8, 24), noises(step + 20_000, 8, 24)], dim=2)
        _, loss = critic_losses(critic, made, photos, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        told.append(loss.item())
    assert np.mean(told[-10:]) < 0.3 < 0.6 < told[0]


def test_it_brings_back_the_grain_that_a_pixel_error_averages_away(critic):
    """A photo's noise cannot be foreseen: the best guess in pixels has none, what passes for a photo has some."""
    optimizer = torch.optim.AdamW(critic.parameters(), lr=3e-3, betas=(0.5, 0.9))
    strength = torch.zeros((), requires_grad=True)
    learner = torch.optim.AdamW([strength], lr=2e-2, weight_decay=0.0)
    strengths = []
    for step in range(150):
        photos, made = 0.5 * pictures(2 * step, 8, 24), strength * pictures(2 * step + 1, 8, 24)
        fooled, told = critic_losses(critic, made, photos, noises(step + 10_000, 8, 24))
        optimizer.zero_grad()
        learner.zero_grad()
        (fooled + told).backward()
        optimizer.step()
        learner.step()
        strengths.append(abs(strength.item()))
    # The two chase each other about it, once around in about 100 steps.
    assert np.mean(strengths[-100:]) == pytest.approx(0.5, abs=0.1)


def test_it_is_a_part_of_the_objective(trainable, monkeypatch):
    """It looks at a few frames of each clip, at those of the photo's clip in the same place."""
    seen = []

    def recorded(critic, made, photos, noise):
        seen.append((made, photos, noise))
        return critic_losses(critic, made, photos, noise)

    monkeypatch.setattr("magicmirror.training.vae_objective.critic_losses", recorded)
    batch = flowing_clips(rows=4)
    clips = as_clips(batch["pixels"])
    plain = VaeObjective(trainable.vae, vae_config())(batch, generator(4))
    objective = VaeObjective(trainable.vae, vae_config(critic_weight=0.2, seed=5))
    losses = objective(batch, generator(4))
    assert "told" not in plain
    torch.testing.assert_close(losses["loss"], plain["loss"] + 0.2 * losses["fooled"] + losses["told"])
    ((made, photos, noise),) = seen
    assert made.shape == photos.shape == (4 * JUDGED_FRAMES, 6, 32, 32)
    assert noise.shape == (4 * JUDGED_FRAMES, 2, 6, 32, 32)
    assert made.requires_grad
    chosen = [
        [torch.equal(photo[:3], clips[row, :, frame]) for frame in range(9)].index(True)
        for row in range(4)
        for photo in photos[row * JUDGED_FRAMES : (row + 1) * JUDGED_FRAMES]
    ]
    assert all(len(set(chosen[at : at + JUDGED_FRAMES])) == JUDGED_FRAMES for at in range(0, 16, JUDGED_FRAMES))
    assert len(set(map(tuple, zip(*[iter(chosen)] * JUDGED_FRAMES, strict=True)))) > 1
    for number, frame in enumerate(chosen):
        # The square moves on by 2 px a frame: back at its place, it has left no trace but where the picture ends.
        following = clips[number // JUDGED_FRAMES, :, frame + 1]
        torch.testing.assert_close(photos[number, 3:, :, :-2], following[..., 2:], rtol=1e-4, atol=1e-5)
        assert torch.equal(photos[number, 3:, :, -2:], photos[number, :3, :, -2:])

    halves = []
    for part in (Part(0, 2), Part(1, 2)):
        halves.append(objective(take(batch, part.rows(4)), generator(4), part))
    for name in ("fooled", "told"):
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, losses[name], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.cat([each[2] for each in seen[1:]]), noise)


def test_a_critic_follows_from_the_seed_and_leaves_the_generator_alone(trainable):
    state = torch.random.get_rng_state()
    first, second, other = (
        VaeObjective(trainable.vae, vae_config(critic_weight=1.0, seed=s)).critic for s in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [functional.normalize(critic.layers[0].weight.flatten(), dim=0) for critic in (first, second, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_stills_are_judged_too(trainable):
    batch = {"pixels": moving_clips(rows=3)["pixels"][:, :1], "flow": torch.zeros(3, 0, 32, 32, 2)}
    losses = VaeObjective(trainable.vae, vae_config(critic_weight=1.0))(batch, generator(0))
    assert losses["told"].isfinite() and losses["fooled"].isfinite()
