"""Eq. 5 position by position, and what the fusion leaves alone."""

import math

import pytest
import torch

from magicmirror.models.fusion import IdentityFusion


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    identity = torch.randn(2, 2, 5, generator=generator, dtype=torch.float64)
    text = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[0, [2, 3]] = True
    mask[1, [0, 5]] = True  # rows differ, and the two places need not touch
    return identity, text, mask


def test_fusion_follows_equation_5(tiny, inputs):
    fusion = tiny.randomise(IdentityFusion(5, 4, 7)).double()
    state, (identity, text, mask) = fusion.state_dict(), inputs
    expected = text.clone()
    for row in range(2):
        places = [place for place in range(6) if mask[row, place]]
        for token, place in enumerate(places):  # the first ID token goes to the first place
            x = torch.cat([identity[row, token], text[row, place]])
            x = (x - x.mean()) / ((x - x.mean()).square().mean() + 1e-5).sqrt()
            x = state["mlp.0.weight"] @ (x * state["norm.weight"] + state["norm.bias"]) + state["mlp.0.bias"]
            x = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
            expected[row, place] += state["mlp.2.weight"] @ x + state["mlp.2.bias"]
    torch.testing.assert_close(fusion(*inputs), expected, rtol=0, atol=1e-12)


def test_words_outside_the_mask_keep_their_bits(tiny, inputs):
    fusion, (_, text, mask) = tiny.randomise(IdentityFusion(5, 4, 7)).double(), inputs
    fused = fusion(*inputs)
    assert torch.equal(fused[~mask], text[~mask])
    assert (fused[mask] != text[mask]).all()


def test_untrained_fusion_leaves_the_text_as_it_is(inputs):
    assert torch.equal(IdentityFusion(5, 4, 7).double()(*inputs), inputs[1])


def test_half_precision_text_stays_half_precision(tiny, inputs):
    identity, text, mask = inputs
    fused = tiny.randomise(IdentityFusion(5, 4, 7)).bfloat16()(identity, text.bfloat16(), mask)
    assert fused.dtype == torch.bfloat16


@pytest.mark.parametrize("places", [[2], [1, 2, 3], []])
def test_mask_must_mark_one_place_for_each_id_token(inputs, places):
    identity, text, _ = inputs
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[0, [2, 3]] = True
    mask[1, places] = True
    with pytest.raises(ValueError, match=rf"must mark 2 positions, got \[2, {len(places)}\]"):
        IdentityFusion(5, 4, 7).double()(identity, text, mask)
