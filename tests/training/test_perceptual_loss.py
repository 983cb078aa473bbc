"""The perceptual term: its value by hand, which frames and samples it looks at, and its part in the objective."""

import pytest
import torch

from magicmirror.models.recognizer import EMBEDDING_SIZE, chips_from_template
from magicmirror.training.critic import critic_losses
from magicmirror.training.draws import draw_step
from magicmirror.training.networks import identity_objective
from magicmirror.training.parts import Part, take
from magicmirror.training.perceptual_loss import PerceptualLoss
from tests.tiny_training import generator, make_batch, make_config


@pytest.fixture
def term(trainable, recognizer):
    return PerceptualLoss(trainable.vae, recognizer, torch.full((EMBEDDING_SIZE,), 0.02))


def latents_of(trainable, seed=0):
    return make_batch(trainable.tokenizer, rows=3, seed=seed)["latents"]


@torch.no_grad()
def test_value_is_pixels_unit_features_and_embedding_of_the_chosen_frames(trainable, recognizer, term):
    clean, true = latents_of(trainable), latents_of(trainable, seed=1)
    frames = torch.tensor([0, 2, 1])
    value = term.distance(*term.pictures(clean, true, frames, torch.tensor([True, False, True])))
    expected = []
    for row in (0, 2):
        stills, maps, embeddings = [], [], []
        for latents in (clean, true):
            still = trainable.decode_latents(latents[row : row + 1, frames[row] : frames[row] + 1])[:, :, 0]
            stills.append(still)
            maps.append(recognizer.feature_maps(chips_from_template((still / 2 + 0.5).clamp(0, 1))))
            embeddings.append(recognizer.embed_aligned((still / 2 + 0.5).clamp(0, 1))[0] - 0.02)
        # Of unit vectors: |a - b|^2 = 2 - 2 cos.
        cosines = [torch.cosine_similarity(*pair, dim=1, eps=1e-12) for pair in zip(*maps, strict=True)]
        assert len(cosines) == 5
        likeness = torch.dot(*embeddings) / (embeddings[0].norm() * embeddings[1].norm())
        features = sum((2 - 2 * c).mean() for c in cosines) / 5
        expected.append((stills[0] - stills[1]).abs().mean() + features + 1 - likeness)
    torch.testing.assert_close(value, torch.stack(expected).mean(), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_the_true_frames_cost_nothing(trainable, term):
    latents, frames, everybody = latents_of(trainable), torch.tensor([0, 1, 2]), torch.ones(3).bool()
    assert term.distance(*term.pictures(latents, latents.clone(), frames, everybody)) < 1e-6
    assert term.distance(*term.pictures(latents, latents + 1, frames, everybody)) > 0.01


def test_gradient_reaches_the_chosen_frames_alone(trainable, term):
    clean, true = latents_of(trainable).requires_grad_(), latents_of(trainable, seed=1)
    pictures = term.pictures(clean, true, torch.tensor([2, 0, 1]), torch.tensor([True, True, False]))
    term.distance(*pictures).backward()
    reached = clean.grad.abs().sum((2, 3, 4)) > 0  # (B, F)
    assert reached.tolist() == [[False, False, True], [True, False, False], [False, False, False]]
    assert all(p.grad is None for p in (*trainable.vae.parameters(), *term.distance.recognizer.parameters()))


@torch.no_grad()
def test_the_objective_adds_it_by_its_weight(trainable, term):
    batch = make_batch(trainable.tokenizer, rows=4)
    losses = {
        weight: identity_objective(trainable, make_config(perceptual_loss=weight), perceptual_loss=term)(
            batch, generator(3)
        )
        for weight in (0.0, 2.0)
    }
    assert "perceptual" not in losses[0.0]
    torch.testing.assert_close(losses[2.0]["loss"] - losses[0.0]["loss"], 2.0 * losses[2.0]["perceptual"])
    assert losses[2.0]["perceptual"] > 0.01
    nobody = identity_objective(trainable, make_config(perceptual_loss=2.0, drop_all=1.0), perceptual_loss=term)
    assert nobody(batch, generator(3))["perceptual"] == 0


def test_frames_are_drawn_evenly_and_a_sample_without_identity_is_left_out():
    config = make_config(perceptual_loss_samples=400, drop_identity=0.3)
    draws = draw_step(torch.zeros(3000, 5, 1, 1, 1), 1000, config, generator(0))
    assert torch.bincount(draws.frames, minlength=5).min() > 500
    assert int(draws.perceptual_kept.sum()) == 400
    assert not (draws.perceptual_kept & draws.dropout.identity).any()


def test_samples_are_spread_evenly_so_that_each_process_has_some():
    config = make_config(perceptual_loss_samples=4, drop_all=0.0, drop_identity=0.0)
    latents = torch.zeros(12, 5, 1, 1, 1)
    kept = draw_step(latents, 1000, config, generator(0)).perceptual_kept
    assert kept.nonzero().flatten().tolist() == [2, 5, 8, 11]
    halves = [draw_step(latents[:6], 1000, config, generator(0), Part(index, 2)) for index in range(2)]
    assert [int(each.perceptual_kept.sum()) for each in halves] == [2, 2]
    assert [each.perceptual_weight for each in halves] == [1.0, 1.0]


def test_a_critic_judges_the_same_pictures(trainable, term, monkeypatch):
    seen = []

    def recorded(critic, made, photos, noise):
        seen.append((made, photos, noise))
        return critic_losses(critic, made, photos, noise)

    monkeypatch.setattr("magicmirror.training.objective.critic_losses", recorded)
    batch = make_batch(trainable.tokenizer, rows=4)
    config = make_config(perceptual_loss=2.0, critic_weight=0.3, perceptual_loss_samples=3, drop_all=0.2)
    objective = identity_objective(trainable, config, perceptual_loss=term)
    plain = identity_objective(
        trainable, make_config(perceptual_loss=2.0, perceptual_loss_samples=3, drop_all=0.2), perceptual_loss=term
    )(batch, generator(3))
    losses = objective(batch, generator(3))
    assert "told" not in plain
    torch.testing.assert_close(losses["loss"], plain["loss"] + 0.3 * losses["fooled"] + losses["told"])
    ((made, photos, noise),) = seen
    draws = draw_step(batch["latents"], 1000, config, generator(3))
    rows = draws.perceptual_kept.nonzero().flatten()
    assert len(made) == len(rows) > 1 and noise.shape == (len(rows), 2, *made.shape[1:])
    for row, photo in zip(rows, photos, strict=True):
        frame = batch["latents"][row, draws.frames[row]][None, None]
        torch.testing.assert_close(photo, trainable.decode_latents(frame)[0, :, 0], rtol=1e-4, atol=1e-5)

    losses["loss"].backward()
    assert trainable.transformer.proj_out.weight.grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in objective.critic.parameters())
    with torch.no_grad():
        parts = [Part(index, 2) for index in range(2)]
        shared = [objective(take(batch, part.rows(4)), generator(3), part) for part in parts]
    for name, value in losses.items():
        torch.testing.assert_close(sum(each[name] for each in shared) / 2, value, rtol=1e-4, atol=1e-5)


def test_a_part_without_pictures_still_has_a_gradient_for_the_critic(trainable, term):
    """Or its process would never answer the others'."""
    config = make_config(perceptual_loss=1.0, critic_weight=0.3, drop_all=1.0)
    objective = identity_objective(trainable, config, perceptual_loss=term)
    losses = objective(make_batch(trainable.tokenizer), generator(0))
    losses["loss"].backward()
    assert losses["told"] == 0
    assert all(parameter.grad is not None and parameter.grad.eq(0).all() for parameter in objective.critic.parameters())
