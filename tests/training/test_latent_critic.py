"""The critic of latents: what its scores see, both losses by hand, and that it decides what a mean leaves open."""

import pytest
import torch
from torch.nn import functional

from magicmirror.training.critic import LATENT_NOISE, LATENT_PENALTY, LatentCritic, critic_losses
from magicmirror.training.networks import identity_objective
from magicmirror.training.parts import Part, take
from magicmirror.training.schedule import from_seed
from tests.tiny_training import CHANNELS, generator, make_batch, make_config


def small_critic(seed=0, channels=2):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LatentCritic(channels, (8, 8, 8))


def clips(seed, count=2, channels=2):
    return torch.randn(count, 3, channels, 8, 8, generator=generator(seed))


def test_a_score_sees_7_frames_of_13_cells_and_the_next_lies_2_further():
    critic = small_critic()
    latents = torch.randn(1, 11, 2, 32, 32, generator=generator(0)).requires_grad_()
    scores = critic(latents)
    assert scores.shape == (1, 1, 11, 16, 16)
    reach = []
    for column in (7, 8):
        (gradient,) = torch.autograd.grad(scores[0, 0, 5, 8, column], latents, retain_graph=True)
        frames = gradient[0].abs().sum((1, 2, 3)).nonzero().flatten().tolist()
        rows = gradient[0].abs().sum((0, 1, 3)).nonzero().flatten().tolist()
        columns = gradient[0].abs().sum((0, 1, 2)).nonzero().flatten().tolist()
        assert frames == list(range(2, 9)) and len(rows) == len(columns) == 13
        reach.append(columns[0])
    assert reach[1] - reach[0] == 2


def test_losses_by_hand():
    critic = small_critic()
    made, real, noise = clips(1), clips(2), torch.stack([clips(3), clips(4)], dim=1)
    fooled, told = critic_losses(critic, made, real, noise)
    of_made, of_real = critic(made), critic(real)
    torch.testing.assert_close(fooled, (1 + (of_real - of_made).exp()).log().mean())
    steps = critic(real + LATENT_NOISE * noise[:, 0]) - of_real, critic(made + LATENT_NOISE * noise[:, 1]) - of_made
    expected = (1 + (of_made - of_real).exp()).log().mean() + LATENT_PENALTY * torch.cat(steps).square().mean()
    torch.testing.assert_close(told, expected)


def test_it_takes_one_side_where_the_least_error_is_at_both():
    """A blob lies here or there, and nothing says where: the mean has half of it at both places, and is never seen."""
    places = torch.zeros(2, 1, 1, 8, 8)
    places[0, ..., 2:4, 1:3] = places[1, ..., 2:4, 5:7] = 1.0

    def learnt(critic_weight):
        critic = small_critic(channels=1)
        share = torch.tensor([0.4], requires_grad=True)
        optimizer = torch.optim.AdamW(critic.parameters(), lr=4e-3, betas=(0.5, 0.99))
        learner = torch.optim.AdamW([share], lr=5e-2, weight_decay=0.0)
        random = generator(0)
        for _ in range(150):
            real = places[torch.randint(2, (8,), generator=random)]
            there = share.sigmoid()
            made = ((1 - there) * places[0] + there * places[1]).expand(8, -1, -1, -1, -1)
            noise = torch.randn(8, 2, 1, 1, 8, 8, generator=random)
            fooled, told = critic_losses(critic, made, real, noise)
            optimizer.zero_grad()
            learner.zero_grad()
            ((made - real).square().mean() + critic_weight * fooled + told).backward()
            optimizer.step()
            learner.step()
        return share.sigmoid().item()

    assert learnt(0.0) == pytest.approx(0.5, abs=0.1)
    assert learnt(1.0) > 0.85


def test_it_is_a_part_of_the_objective(trainable):
    batch = make_batch(trainable.tokenizer, rows=4)
    plain = identity_objective(trainable, make_config())(batch, generator(3))
    objective = identity_objective(trainable, make_config(latent_critic_weight=0.3))
    losses = objective(batch, generator(3))
    assert "latents_told" not in plain
    judged = 0.3 * losses["latents_fooled"] + losses["latents_told"]
    torch.testing.assert_close(losses["loss"], plain["loss"] + judged)
    losses["loss"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in objective.latent_critic.parameters())

    # Its verdict reaches the denoiser.
    gradients = []
    for weight in (0.0, 0.3):
        trainable.transformer.zero_grad()
        made = identity_objective(trainable, make_config(latent_critic_weight=weight))
        made(batch, generator(3))["loss"].backward()
        gradients.append(trainable.transformer.proj_out.weight.grad.clone())
    assert not torch.allclose(gradients[0], gradients[1], rtol=1e-2)

    with torch.no_grad():
        shared = [objective(take(batch, Part(n, 2).rows(4)), generator(3), Part(n, 2)) for n in range(2)]
    for name, value in losses.items():
        torch.testing.assert_close(sum(each[name] for each in shared) / 2, value, rtol=1e-4, atol=1e-5)


def test_stills_are_judged_too(trainable):
    objective = identity_objective(trainable, make_config(latent_critic_weight=0.3))
    losses = objective(make_batch(trainable.tokenizer, frames=1), generator(0))
    assert losses["latents_told"].isfinite() and losses["latents_fooled"].isfinite()


def test_it_follows_from_the_seed_and_leaves_the_generator_alone():
    state = torch.random.get_rng_state()
    made = [from_seed(seed, lambda: LatentCritic(CHANNELS)) for seed in (1, 1, 2)]
    first, second, other = (critic.layers[0].weight for critic in made)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, second)
    assert functional.cosine_similarity(first.flatten(), other.flatten(), dim=0) < 0.5
