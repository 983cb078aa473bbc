"""Gradients: they reach every tensor of the adapter, only the adapter, and are the same with checkpointing."""

import pytest
import torch

from magicmirror.models.fusion import IdentityFusion
from magicmirror.models.perceiver import FacePerceiver


def loss_of(model, inputs, identity):
    return model(**inputs, **identity).sample.square().mean()


@pytest.mark.parametrize("with_identity", [True, False])
def test_checkpointing_gives_the_same_gradients(tiny, with_identity):
    gradients = []
    for checkpointing in (False, True):
        model = tiny.model("rotary").train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        inputs, identity = tiny.inputs(model), tiny.identity(model) if with_identity else {}
        identity = {name: value.requires_grad_() for name, value in identity.items()}
        loss_of(model, inputs, identity).backward()
        gradients.append({n: p.grad for n, p in (*model.named_parameters(), *identity.items()) if p.grad is not None})
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys() and len(plain) > 60
    assert ("face_tokens" in plain) == with_identity
    assert all(torch.equal(checkpointed[name], value) for name, value in plain.items())


def test_checkpointing_recomputes_the_blocks(tiny):
    model, calls = tiny.model().train(), []
    model.enable_gradient_checkpointing()
    model.transformer_blocks[0].ff.register_forward_hook(lambda *_: calls.append(1))
    loss_of(model, tiny.inputs(model), tiny.identity(model)).backward()
    assert len(calls) == 2


def test_gradients_reach_the_whole_adapter_after_one_step(tiny):
    torch.manual_seed(0)
    model = tiny.model("rotary", fresh=True)
    perceiver, fusion = FacePerceiver(20, 16, 32, 3, 1, 8), IdentityFusion(8, 12, 16)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(model.is_adapter_key(name))
    inputs, tokens = tiny.inputs(model), tiny.identity(model)["identity_tokens"]
    text, patches = inputs.pop("encoder_hidden_states"), torch.randn(2, 5, 20)
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[:, 1:3] = True
    trained = [parameter for module in (model, perceiver, fusion) for parameter in module.parameters()]
    optimizer = torch.optim.SGD([parameter for parameter in trained if parameter.requires_grad], lr=0.1)

    def backward():
        optimizer.zero_grad()
        null_tokens, null_face = model.null_identity(1)  # the second row is an unconditional one
        identity = {
            "identity_tokens": torch.cat([tokens[:1], null_tokens]),
            "face_tokens": torch.cat([perceiver(patches)[:1], null_face]),
        }
        fused = torch.cat([fusion(tokens, text, mask)[:1], text[1:]])
        loss_of(model, {**inputs, "encoder_hidden_states": fused}, identity).backward()

    def without_gradient():
        named = [(n, p) for module in (model, perceiver, fusion) for n, p in module.named_parameters()]
        return {name for name, p in named if p.requires_grad and (p.grad is None or not p.grad.any())}

    backward()
    # Behind a zero layer there is no gradient yet; the zero layers themselves have one.
    waiting = without_gradient()
    assert "transformer_blocks.0.adapter.can.0.weight" in waiting and "mlp.0.weight" in waiting
    assert not {name for name in waiting if "can.2" in name or "to_v" in name or "face_modulation" in name}
    optimizer.step()
    backward()
    # Softmax does not see a shift of all its scores, so a key's bias moves only through the norm after it.
    assert without_gradient() == set()
    assert all(p.grad is None for n, p in model.named_parameters() if not model.is_adapter_key(n))


def test_training_the_adapter_reduces_the_loss_and_keeps_the_base(tiny):
    model = tiny.model("rotary", fresh=True)
    base = {name: value.clone() for name, value in model.state_dict().items() if not model.is_adapter_key(name)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(model.is_adapter_key(name))
    inputs, identity = tiny.inputs(model), tiny.identity(model)
    target = torch.randn(inputs["hidden_states"].shape, generator=torch.Generator().manual_seed(3))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = (model(**inputs, **identity).sample - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in base.items())
