"""What diffusers gives a model, tried with the adapter on: saving, backends, caches, casting, compilation."""

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from magicmirror.errors import WeightsError
from magicmirror.models.attention import MagicMirrorAttnProcessor
from magicmirror.models.transformer import MagicMirrorTransformer3DModel


@pytest.fixture
def conditioned(tiny):
    """A model with random weights, and arguments with an identity."""
    model = tiny.model("rotary and learned")
    return model, {**tiny.inputs(model), **tiny.identity(model)}


@pytest.fixture
def restored_backend():
    """diffusers keeps one default backend for the whole process."""
    before = _AttentionBackendRegistry._active_backend
    yield
    _AttentionBackendRegistry._active_backend = before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_save_and_load_are_exact(tiny, tmp_path, dtype):
    model = tiny.model("rotary and learned", dtype)
    model.save_pretrained(tmp_path)
    loaded = MagicMirrorTransformer3DModel.from_pretrained(tmp_path, torch_dtype=dtype)
    expected, found = model.state_dict(), loaded.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == dtype for name, value in expected.items())
    public = [{k: v for k, v in m.config.items() if not k.startswith("_")} for m in (loaded, model)]
    assert public[0] == public[1]
    assert (loaded.config.num_layers, loaded.config.identity_dim) == (3, 8)
    loaded.load_state_dict({name: value.clone() for name, value in found.items()}, assign=True)
    arguments = {**tiny.inputs(model), **tiny.identity(model)}
    torch.testing.assert_close(tiny.predict(loaded, **arguments), tiny.predict(model, **arguments), rtol=0, atol=1e-6)


def test_loading_a_stock_checkpoint_through_the_base_class(tiny, tmp_path):
    stock = tiny.stock("rotary")
    stock.save_pretrained(tmp_path)
    model = MagicMirrorTransformer3DModel.from_base(type(stock).from_pretrained(tmp_path), identity_dim=8)
    inputs = tiny.inputs(stock)
    torch.testing.assert_close(tiny.predict(model, **inputs), tiny.predict(stock, **inputs), rtol=0, atol=1e-6)


def test_base_model_alone_is_refused(tiny, tmp_path):
    tiny.stock("rotary").save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"holds no adapter: missing \['identity_proj.bias'.* \(24\).*from_base"):
        MagicMirrorTransformer3DModel.from_pretrained(tmp_path)


def test_loading_info_is_passed_on(tiny, tmp_path):
    tiny.model().save_pretrained(tmp_path)
    model, info = MagicMirrorTransformer3DModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(model) is MagicMirrorTransformer3DModel and not model.training
    assert not info["missing_keys"] and not info["unexpected_keys"]


@pytest.mark.parametrize(("backend", "tolerance"), [("native", 0), ("_native_math", 1e-5), ("_native_flash", 1e-5)])
def test_attention_backend_reaches_every_processor(tiny, conditioned, restored_backend, backend, tolerance):
    model, arguments = conditioned
    expected = tiny.predict(model, **arguments)
    model.set_attention_backend(backend)
    processors = list(model.attn_processors.values())
    assert len(processors) == 3 and {type(processor) for processor in processors} == {MagicMirrorAttnProcessor}
    assert all(processor._attention_backend == AttentionBackendName(backend) for processor in processors)
    assert MagicMirrorAttnProcessor._attention_backend is None  # other models keep theirs
    torch.testing.assert_close(tiny.predict(model, **arguments), expected, rtol=0, atol=tolerance)
    model.reset_attention_backend()
    assert all(processor._attention_backend is None for processor in processors)


def test_layerwise_casting_keeps_adapter_and_norms_precise(tiny, conditioned):
    model, arguments = conditioned
    expected = tiny.predict(model, **arguments)
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    stored = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert stored["transformer_blocks.0.attn1.to_q.weight"] == torch.float8_e4m3fn
    assert {dtype for name, dtype in stored.items() if model.is_adapter_key(name) or "norm" in name} == {torch.float32}
    found = tiny.predict(model, **arguments)
    error = (found - expected).norm() / expected.norm()
    assert 0 < error < 0.2
    assert stored == {name: parameter.dtype for name, parameter in model.named_parameters()}
