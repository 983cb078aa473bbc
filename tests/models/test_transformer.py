"""The transformer beside the stock one: same bits without an identity, same keys, shared weights."""

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0

from magicmirror.errors import WeightsError
from magicmirror.models.attention import MagicMirrorAttnProcessor
from magicmirror.models.block import MagicMirrorBlock
from magicmirror.models.presets import model_preset
from magicmirror.models.transformer import MagicMirrorTransformer3DModel

VARIANTS = ("sincos", "rotary", "rotary and learned", "patches in time")
DTYPES = (torch.float32, torch.bfloat16)


def wrapped(tiny, stock, seed=5):
    """The stock model with an adapter whose weights are all random."""
    model = MagicMirrorTransformer3DModel.from_base(stock, identity_dim=8, num_face_tokens=3, can_hidden_dim=14)
    noise = tiny.randomise(MagicMirrorTransformer3DModel.from_config(model.config), seed)
    model.load_state_dict(noise.adapter_state_dict(), strict=False)
    return model


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_without_identity_it_is_the_stock_model_bit_for_bit(tiny, variant, dtype):
    stock = tiny.stock(variant, dtype)
    model = wrapped(tiny, stock)
    inputs, identity = tiny.inputs(stock), tiny.identity(model)
    expected = tiny.predict(stock, **inputs)
    assert torch.equal(tiny.predict(model, **inputs), expected)
    assert torch.equal(tiny.predict(model, **inputs, **identity, identity_scale=0.0), expected)
    assert not torch.equal(tiny.predict(model, **inputs, **identity), expected)


def test_gradients_without_identity_are_the_stock_ones(tiny):
    stock = tiny.stock("rotary")
    model = MagicMirrorTransformer3DModel(**stock.config)
    model.load_base_state_dict(stock.state_dict())
    for network in (stock, model):
        network(**tiny.inputs(stock)).sample.square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, parameter in stock.named_parameters():
        # Sums run over another memory layout, so the last bits may differ.
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)
    assert all(gradients[name] is None for name in gradients if model.is_adapter_key(name))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_fresh_adapter_adds_exactly_nothing_to_modulation_and_attention(tiny, dtype):
    stock = tiny.stock("rotary", dtype)
    model = MagicMirrorTransformer3DModel.from_base(stock, identity_dim=8, num_face_tokens=3)
    constants = model.precompute_identity(**tiny.identity(model), timesteps=torch.tensor([999, 500, 1]))
    adapted = [block for block in constants.blocks if block.residual is not None]
    assert len(adapted) == 2
    for block in adapted:
        assert not block.residual.any() and not block.face_modulation.any() and not block.cross_value.any()
        assert block.cross_key.any()
    tokens = torch.randn(2, 20, 32, dtype=dtype)
    attention, first = model.transformer_blocks[0].attn1, constants.at(0).blocks[0]
    plain = attention(tokens[:, 8:], tokens[:, :8])
    crossed = attention(tokens[:, 8:], tokens[:, :8], cross_key=first.cross_key, cross_value=first.cross_value)
    assert torch.equal(plain[0], crossed[0]) and torch.equal(plain[1], crossed[1])


def test_fresh_adapter_starts_from_the_blocks_own_keys(tiny):
    model = tiny.model(fresh=True)
    for block in model.transformer_blocks[::2]:
        assert torch.equal(block.adapter.to_k.weight, block.attn1.to_k.weight)
        assert torch.equal(block.adapter.to_k.bias, block.attn1.to_k.bias)
    assert not model.null_identity_tokens.any() and not model.null_face_tokens.any()


def test_full_size_takes_the_stock_keys_strictly():
    config = model_preset("cogvideox-5b").transformer
    adapter = ("identity_dim", "num_face_tokens", "identity_proj_dim", "can_hidden_dim")
    with torch.device("meta"):
        stock = CogVideoXTransformer3DModel(**{k: v for k, v in config.items() if k not in adapter})
        model = MagicMirrorTransformer3DModel(**config)
    assert sum(parameter.numel() for parameter in stock.parameters()) == 5_570_283_072  # of THUDM/CogVideoX-5b
    model.load_base_state_dict(stock.state_dict(), assign=True)
    assert len(model.transformer_blocks) == 42
    assert all(type(block) is MagicMirrorBlock for block in model.transformer_blocks)
    adapted = [index for index, block in enumerate(model.transformer_blocks) if block.adapter is not None]
    assert adapted == list(range(0, 42, 2)) and len(adapted) == 21
    assert (model.config.num_face_tokens, model.config.num_identity_tokens) == (32, 2)
    base = {name: value.shape for name, value in model.state_dict().items() if not model.is_adapter_key(name)}
    assert base == {name: value.shape for name, value in stock.state_dict().items()}


def test_base_weights_of_another_model_are_refused(tiny):
    model, state = tiny.model(), tiny.stock().state_dict()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lost = state.pop("proj_out.bias")
    with pytest.raises(WeightsError, match=r"missing \['proj_out.bias'\] \(1\), unknown \['more'\] \(1\)"):
        model.load_base_state_dict({**state, "more": lost})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrapping_shares_the_base_and_leaves_it_alone(tiny, variant):
    stock = tiny.stock(variant, torch.bfloat16)
    inputs = tiny.inputs(stock)
    before, state = tiny.predict(stock, **inputs), {k: v.clone() for k, v in stock.state_dict().items()}
    model = wrapped(tiny, stock)
    own = dict(model.named_parameters())
    for name, parameter in stock.named_parameters():
        assert own[name].data_ptr() == parameter.data_ptr(), name
    assert {value.dtype for value in own.values()} == {torch.bfloat16}
    assert not any(value.is_meta for value in (*own.values(), *model.buffers()))
    assert all(type(processor) is CogVideoXAttnProcessor2_0 for processor in stock.attn_processors.values())
    assert all(type(processor) is MagicMirrorAttnProcessor for processor in model.attn_processors.values())
    assert type(stock.transformer_blocks[0]).__name__ == "CogVideoXBlock"
    tiny.predict(model, **inputs, **tiny.identity(model))
    assert stock.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in stock.state_dict().items())
    assert torch.equal(tiny.predict(stock, **inputs), before)


def test_wrapping_keeps_the_mode_and_refuses_unknown_settings(tiny):
    stock = tiny.stock()
    assert not MagicMirrorTransformer3DModel.from_base(stock.eval()).training
    assert MagicMirrorTransformer3DModel.from_base(stock.train()).training
    with pytest.raises(TypeError, match=r"not adapter settings: \['num_layers'\]"):
        MagicMirrorTransformer3DModel.from_base(stock, num_layers=2)


def test_odd_blocks_hand_the_face_on_untouched(tiny):
    model = tiny.model()
    constants = model.precompute_identity(**tiny.identity(model), timesteps=torch.tensor([500])).at(0)
    block, of_block = model.transformer_blocks[1], constants.blocks[1]
    assert block.adapter is None and of_block.residual is None
    video, text = torch.randn(2, 12, 32), torch.randn(2, 6, 32)
    face, temb = torch.randn(2, 3, 32), torch.randn(2, 16)
    expected = block(video, text, temb)
    found = block(video, torch.cat([text, face], dim=1), temb, identity=of_block)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], torch.cat([expected[1], face], dim=1))


def test_one_kind_of_token_alone_is_refused(tiny):
    model = tiny.model()
    identity = tiny.identity(model)
    for name in identity:
        with pytest.raises(ValueError, match="go together"):
            model(**tiny.inputs(model), **{name: identity[name]})


def test_rows_of_a_batch_do_not_mix(tiny):
    model = tiny.model(dtype=torch.float64)
    inputs, identity = tiny.inputs(model), tiny.identity(model)
    both = tiny.predict(model, **inputs, **identity)
    for row in range(2):
        one = {k: v if k == "image_rotary_emb" else v[row : row + 1] for k, v in {**inputs, **identity}.items()}
        torch.testing.assert_close(tiny.predict(model, **one), both[row : row + 1], rtol=0, atol=1e-6)
    identity["face_tokens"][1] += 1
    changed = tiny.predict(model, **inputs, **identity)
    assert torch.equal(changed[0], both[0]) and not torch.equal(changed[1], both[1])
