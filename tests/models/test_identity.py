"""Constants of a request: computed once they give what computing them inside gives, and strength acts linearly."""

import pytest
import torch

SCHEDULE = (999, 700, 313, 20)


@pytest.mark.parametrize("variant", ["sincos", "rotary", "rotary and learned", "patches in time"])
def test_precomputed_constants_give_the_same_prediction(tiny, variant):
    model = tiny.model(variant, torch.float64)
    inputs, identity = tiny.inputs(model), tiny.identity(model)
    extra = {"ofs": inputs["ofs"]} if "ofs" in inputs else {}
    with torch.no_grad():
        constants = model.precompute_identity(**identity, timesteps=torch.tensor(SCHEDULE), identity_scale=0.7, **extra)
    for step, timestep in enumerate(SCHEDULE):
        inputs["timestep"] = torch.full((2,), timestep)
        inside = tiny.predict(model, **inputs, **identity, identity_scale=0.7)
        outside = tiny.predict(model, **inputs, identity_constants=constants.at(step))
        torch.testing.assert_close(outside, inside, rtol=0, atol=1e-12)


def test_steps_of_the_constants_are_not_interchangeable(tiny):
    model = tiny.model()
    inputs = tiny.inputs(model)
    constants = model.precompute_identity(**tiny.identity(model), timesteps=torch.tensor(SCHEDULE))
    predictions = [tiny.predict(model, **inputs, identity_constants=constants.at(step)) for step in range(4)]
    assert not torch.allclose(predictions[0], predictions[3])


def test_every_row_may_have_its_own_schedule(tiny):
    model = tiny.model(dtype=torch.float64)
    inputs, identity = tiny.inputs(model, timesteps=(999, 20)), tiny.identity(model)
    constants = model.precompute_identity(**identity, timesteps=torch.tensor([[999, 20], [20, 999]]))
    torch.testing.assert_close(
        tiny.predict(model, **inputs, identity_constants=constants.at(0)),
        tiny.predict(model, **inputs, **identity),
        rtol=0,
        atol=1e-12,
    )


def test_shapes_of_the_constants(tiny):
    model = tiny.model()
    constants = model.precompute_identity(**tiny.identity(model), timesteps=torch.tensor(SCHEDULE))
    first, second, third = constants.blocks
    assert first.residual.shape == (4, 2, 12 * 32) and first.face_modulation.shape == (4, 2, 6 * 32)
    assert first.cross_key.shape == first.cross_value.shape == (2, 3, 2, 16)
    assert second == (3, None, None, None, None)
    assert third.residual.shape == first.residual.shape and not torch.equal(third.residual, first.residual)
    assert constants.at(3).blocks[0].residual.shape == (2, 12 * 32)
    assert torch.equal(constants.at(3).blocks[0].residual, first.residual[3])


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0])  # powers of two multiply exactly
def test_strength_scales_residual_and_cross_term_linearly_and_nothing_else(tiny, scale):
    model = tiny.model()
    arguments = {**tiny.identity(model), "timesteps": torch.tensor(SCHEDULE)}
    one = model.precompute_identity(**arguments).blocks[0]
    other = model.precompute_identity(**arguments, identity_scale=scale).blocks[0]
    assert torch.equal(other.residual, scale * one.residual)
    assert torch.equal(other.cross_value, scale * one.cross_value)
    assert torch.equal(other.face_modulation, one.face_modulation)
    assert torch.equal(other.cross_key, one.cross_key)


def test_cross_term_enters_attention_linearly(tiny):
    model = tiny.model(dtype=torch.float64)
    constants = model.precompute_identity(**tiny.identity(model), timesteps=torch.tensor([500])).at(0)
    attention, (_, _, _, key, value) = model.transformer_blocks[0].attn1, constants.blocks[0]
    video, text = torch.randn(2, 12, 32).double(), torch.randn(2, 9, 32).double()
    plain, *crossed = (
        torch.cat(attention(video, text, cross_key=key, cross_value=strength * value), dim=1)
        for strength in (0.0, 1.0, 0.5, 2.0)
    )
    assert (crossed[0] - plain).abs().max() > 0.1
    torch.testing.assert_close(crossed[1] - plain, 0.5 * (crossed[0] - plain), rtol=0, atol=1e-12)
    torch.testing.assert_close(crossed[2] - plain, 2.0 * (crossed[0] - plain), rtol=0, atol=1e-12)


def test_strength_zero_needs_no_constants(tiny):
    model = tiny.model()
    assert model.precompute_identity(**tiny.identity(model), timesteps=torch.tensor([1]), identity_scale=0) is None


def test_null_identity_stands_for_the_learned_tokens(tiny):
    model = tiny.model()
    tokens, face = model.null_identity(5)
    assert tokens.shape == (5, 2, 8) and face.shape == (5, 3, 32)
    for row in range(5):
        assert torch.equal(tokens[row], model.null_identity_tokens)
        assert torch.equal(face[row], model.null_face_tokens)
