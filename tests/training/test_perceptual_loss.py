"""The perceptual term: its value by hand, which frames and samples it looks at, and its part in the objective."""

import pytest
import torch

from magicmirror.models.recognizer import EMBEDDING_SIZE, chips_from_template
from magicmirror.training.networks import identity_objective
from magicmirror.training.objective import draw_step
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
    value = term(clean, true, frames, torch.tensor([True, False, True]))
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
def test_the_true_frames_cost_nothing_and_nothing_kept_costs_nothing(trainable, term):
    latents, frames = latents_of(trainable), torch.tensor([0, 1, 2])
    assert term(latents, latents.clone(), frames, torch.ones(3).bool()) < 1e-6
    assert term(latents, latents + 1, frames, torch.zeros(3).bool()) == 0
    assert term(latents, latents + 1, frames, torch.ones(3).bool()) > 0.01


def test_gradient_reaches_the_chosen_frames_alone(trainable, term):
    clean, true = latents_of(trainable).requires_grad_(), latents_of(trainable, seed=1)
    term(clean, true, torch.tensor([2, 0, 1]), torch.tensor([True, True, False])).backward()
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


def test_frames_are_drawn_evenly_and_a_sample_without_identity_is_left_out():
    config = make_config(perceptual_loss_samples=400, drop_identity=0.3)
    draws = draw_step(torch.zeros(3000, 5, 1, 1, 1), 1000, config, generator(0))
    assert torch.bincount(draws.frames, minlength=5).min() > 500
    assert int(draws.perceptual_kept.sum()) == 400
    assert not (draws.perceptual_kept & draws.dropout.identity).any()
