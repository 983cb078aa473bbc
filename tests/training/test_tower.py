"""The first recipe: what its loss is, and that it can be learned."""

import pytest
import torch
from torch import nn

from magicmirror.pipeline.conditioning import preprocess_crops
from magicmirror.training.networks import train_only
from magicmirror.training.tower import TowerObjective, clip_pixels
from tests.tiny_training import generator, make_batch

PARTS = ("image_encoder", "face_perceiver")


@pytest.fixture
def objective(trainable):
    return TowerObjective(trainable.image_encoder, trainable.face_perceiver, trainable.transformer)


@pytest.fixture
def batch(trainable):
    return make_batch(trainable.tokenizer, frames=1)


def test_pixels_are_those_of_the_image_processor(trainable, batch):
    expected = preprocess_crops(trainable.feature_extractor, [crop.numpy() for crop in batch["crops"]])
    torch.testing.assert_close(clip_pixels(batch["crops"]), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_target_is_what_the_transformer_makes_of_the_reference_as_a_frame(trainable, objective, batch):
    """Patch embedding and position of the first frame, as the transformer's own layer adds them after the text."""
    config = trainable.transformer.config
    text = torch.zeros(4, config.max_text_seq_length, config.text_embed_dim)
    embedded = trainable.transformer.patch_embed(text, batch["latents"])[:, config.max_text_seq_length :]
    hidden = trainable.image_encoder(clip_pixels(batch["crops"]), output_hidden_states=True).hidden_states
    tokens = trainable.face_perceiver(hidden[-2])
    assert tokens.shape == embedded.shape == (4, 4, 32)
    losses = objective(batch, generator(0))
    torch.testing.assert_close(losses["loss"], (tokens - embedded).square().mean())
    variance = (embedded - embedded.mean(0)).square().sum(0).mean() / 3
    torch.testing.assert_close(losses["unexplained"], losses["loss"] / variance)


def test_it_is_learned_by_tower_and_perceiver_alone(objective, batch):
    names = train_only(objective, PARTS)
    assert {name.split(".")[0] for name in names} == set(PARTS)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], lr=3e-3)
    first = objective(batch, generator(0))["loss"].item()
    for _ in range(30):
        optimizer.zero_grad()
        objective(batch, generator(0))["loss"].backward()
        optimizer.step()
    assert objective(batch, generator(0))["loss"].item() < 0.5 * first
    assert torch.equal(objective.proj.weight, before["proj.weight"])
    assert not torch.equal(objective.face_perceiver.queries, before["face_perceiver.queries"])


def test_positions_are_not_saved_with_it(objective):
    assert "position" not in objective.state_dict() and "position" in dict(objective.named_buffers())
    assert isinstance(objective.proj, nn.Conv2d)
