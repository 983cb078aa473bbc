"""The identity term: its value, where its gradient goes, and which samples cost something."""

import pytest
import torch
from torch.nn import functional

from magicmirror.training.identity_loss import IdentityLoss
from magicmirror.training.networks import identity_objective
from tests.tiny_training import generator, make_batch, make_config


@pytest.fixture
def term(trainable, recognizer):
    return IdentityLoss(trainable.vae, recognizer.embed_aligned)


@torch.no_grad()
def test_value_is_one_minus_cosine_of_the_decoded_first_frame(trainable, recognizer, term):
    batch = make_batch(trainable.tokenizer, rows=3)
    keep = torch.tensor([True, False, True])
    value = term(batch["latents"], batch["target_embeddings"], keep)
    expected = []
    for row in (0, 2):
        frame = trainable.decode_latents(batch["latents"][row : row + 1, :1])[0, :, 0]  # (3, H, W) in [-1, 1]
        embedding = recognizer.embed_aligned((frame / 2 + 0.5).clamp(0, 1).unsqueeze(0))
        expected.append(1 - functional.cosine_similarity(embedding[0], batch["target_embeddings"][row], dim=0))
    torch.testing.assert_close(value, torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)
    assert 0 < value < 2


@torch.no_grad()
def test_a_perfect_likeness_costs_nothing(trainable, recognizer, term):
    latents = make_batch(trainable.tokenizer, rows=1)["latents"]
    frame = trainable.decode_latents(latents[:, :1])[:, :, 0]
    embedding = recognizer.embed_aligned((frame / 2 + 0.5).clamp(0, 1))
    assert term(latents, 3.0 * embedding, torch.tensor([True])).abs() < 1e-6
    torch.testing.assert_close(term(latents, -embedding, torch.tensor([True])), torch.tensor(2.0))


@torch.no_grad()
def test_centre_is_taken_off_both_sides(trainable, recognizer):
    """What all faces have in common counts for nothing: the average face is as wrong as a stranger's."""
    batch = make_batch(trainable.tokenizer, rows=1)
    frame = trainable.decode_latents(batch["latents"][:, :1])[:, :, 0]
    drawn = recognizer.embed_aligned((frame / 2 + 0.5).clamp(0, 1))[0]
    centre, offset = torch.randn(2, 128, generator=generator(5))
    term = IdentityLoss(trainable.vae, recognizer.embed_aligned, centre)
    one = torch.tensor([True])
    assert term(batch["latents"], (centre + 2.0 * (drawn - centre))[None], one).abs() < 1e-5
    value = term(batch["latents"], (centre + offset)[None], one)
    written_out = 1 - (drawn - centre) @ offset / ((drawn - centre).norm() * offset.norm())
    torch.testing.assert_close(value, written_out, rtol=1e-4, atol=1e-5)


def test_nothing_kept_costs_nothing(term):
    decoded = []
    with term.vae.decoder.register_forward_hook(lambda *arguments: decoded.append(arguments)):
        value = term(torch.randn(2, 1, 4, 4, 4, requires_grad=True), torch.randn(2, 128), torch.zeros(2).bool())
    assert value == 0 and value.ndim == 0 and not decoded


def test_gradient_reaches_kept_samples_and_their_first_frame_alone(trainable, term):
    batch = make_batch(trainable.tokenizer, rows=3)
    clean = batch["latents"].requires_grad_()
    term(clean, batch["target_embeddings"], torch.tensor([True, False, True])).backward()
    size = clean.grad.abs().sum((2, 3, 4))  # (B, F)
    assert (size[[0, 2], 0] > 0).all()
    assert (size[1] == 0).all() and (size[:, 1:] == 0).all()
    assert all(p.grad is None and not p.requires_grad for p in trainable.vae.parameters())


def test_gradient_of_the_term_reaches_the_transformer(trainable, term):
    """The gradient of ``noise + lambda identity`` is affine in lambda, with a slope that is not zero."""
    batch = make_batch(trainable.tokenizer, rows=2, frames=1)
    slopes = []
    parameter = trainable.transformer.proj_out.weight
    for weight in (0.0, 1.0, 3.0):
        config = make_config(identity_loss=weight, identity_loss_below=1000, drop_all=0.0, drop_identity=0.0)
        objective = identity_objective(trainable, config, term)
        losses = objective(batch, generator(1))
        slopes.append(torch.autograd.grad(losses["loss"], parameter)[0])
    plain, once, thrice = slopes
    assert (once - plain).norm() > 1e-3 * plain.norm()
    torch.testing.assert_close(thrice - plain, 3 * (once - plain), rtol=1e-3, atol=1e-6)


def test_a_descent_along_the_term_makes_the_likeness_better(term):
    """Signs are right through decoder, chip and recogniser."""
    wanted = torch.randn(1, 128, generator=generator(0))
    latents = torch.randn(1, 1, 4, 4, 4, generator=generator(1)).requires_grad_()
    keep = torch.tensor([True])
    before = term(latents, wanted, keep)
    (gradient,) = torch.autograd.grad(before, latents)
    with torch.no_grad():
        after = term(latents - 0.05 * gradient / gradient.norm(), wanted, keep)
    assert after < before


@torch.no_grad()
def test_each_face_is_looked_at_where_its_eyes_are(trainable, recognizer):
    """A head that is moved within a wider frame gives the embedding of the head in its window."""
    term = IdentityLoss(trainable.vae, recognizer.embed_faces)
    head = torch.rand(2, 3, 64, 64)
    frames = torch.zeros(2, 3, 64, 128)
    frames[0, :, :, 16:80], frames[1, :, :, 48:112] = head
    template = torch.tensor([0.365, 0.45, 0.635, 0.45])
    moved = torch.stack([template + torch.tensor([x, 0, x, 0]) for x in (0.25, 0.75)])
    torch.testing.assert_close(term.recognise(frames, moved), term.recognise(head, None), atol=1e-4, rtol=1e-3)
    wide = torch.randn(3, 1, 4, 4, 8)
    keep = torch.tensor([True, False, True])
    eyes = torch.tensor([[0.5, 0.45, 0.8, 0.5], [9.0, 9.0, 9.5, 9.0], [1.1, 0.4, 1.4, 0.4]])
    pixels = trainable.vae.decode(wide[keep].transpose(1, 2) / trainable.vae.config.scaling_factor).sample[:, :, 0]
    drawn = recognizer.embed_faces((pixels / 2 + 0.5).clamp(0, 1), eyes[keep])
    wanted = torch.randn(3, 128)
    expected = (1 - torch.nn.functional.cosine_similarity(drawn, wanted[keep])).mean()
    torch.testing.assert_close(term(wide, wanted, keep, eyes), expected)
    assert abs(term(wide, wanted, keep, eyes.roll(1, 1)) - expected) > 1e-4
