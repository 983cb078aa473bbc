"""The start of the cross keys: fitted to places, and nothing else touched."""

import pytest
import torch

from magicmirror.training.cross_alignment import align_cross_keys
from magicmirror.training.draws import Dropout
from magicmirror.training.networks import identity_objective
from tests.tiny_training import build_trainable, generator, make_batch, make_config

PLACES = 4  # patches a frame, and face tokens


@pytest.fixture
def objective(trainable):
    return identity_objective(trainable, make_config())


def cross_weights(objective, batch, seed):
    """Attention of the video's queries over the face tokens in adapted blocks, by hand: (B, heads, N, N) each."""
    transformer = objective.transformer
    seen = []
    hooks = [
        block.attn1.norm_q.register_forward_hook(lambda module, arguments, output: seen.append(output[:, -PLACES:]))
        for block in transformer.transformer_blocks[::2]
    ]
    random = generator(seed)
    rows = len(batch["latents"])
    nothing = torch.zeros(rows, dtype=torch.bool)
    text, identity_tokens, face_tokens = objective.encode_conditions(batch, Dropout(nothing, nothing))
    noise = torch.randn(batch["latents"].shape, generator=random)
    steps = torch.randint(850, 1000, (rows,), generator=random)
    transformer(
        hidden_states=objective.scheduler.add_noise(batch["latents"], noise, steps),
        encoder_hidden_states=text,
        timestep=steps,
        image_rotary_emb=objective.rotary(1, 4, 4),
        identity_tokens=identity_tokens,
        face_tokens=face_tokens,
    )
    for hook in hooks:
        hook.remove()
    weights = []
    for block, query in zip(transformer.transformer_blocks[::2], seen, strict=True):
        key = block.attn1.norm_k(block.adapter.to_k(face_tokens).unflatten(-1, (2, 16)))
        weights.append((query.transpose(1, 2) @ key.permute(0, 2, 3, 1) / 4).softmax(-1))
    return weights


@torch.no_grad()
def test_cross_attention_finds_its_own_place(trainable, objective):
    """Shares of the attention on the diagonal: near chance before, above it after."""
    batch = make_batch(trainable.tokenizer, rows=16, frames=1)
    for block in trainable.transformer.transformer_blocks[::2]:
        block.adapter.to_v.weight.zero_()  # as in the paper's start: what one block attends to moves no other
        block.adapter.to_v.bias.zero_()
    before = [w.diagonal(dim1=-2, dim2=-1).mean().item() for w in cross_weights(objective, batch, 5)]
    shares = align_cross_keys(objective, batch, generator(5))
    after = [w.diagonal(dim1=-2, dim2=-1).mean().item() for w in cross_weights(objective, batch, 5)]
    assert shares == pytest.approx(after, rel=1e-4) and len(shares) == 2
    assert before == pytest.approx([1 / PLACES] * 2, abs=0.03)
    assert all(share > 1.3 / PLACES for share in shares)


def test_only_cross_keys_change_and_the_same_way_every_time(trainable, objective):
    batch = make_batch(trainable.tokenizer, rows=6, frames=1)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    processors = dict(trainable.transformer.attn_processors)
    shares = align_cross_keys(objective, batch, generator(5))
    changed = {name for name, value in objective.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {
        f"transformer.transformer_blocks.{block}.adapter.to_k.{kind}" for block in (0, 2) for kind in ("weight", "bias")
    }
    assert all(trainable.transformer.attn_processors[name] is kept for name, kept in processors.items())
    again = identity_objective(build_trainable(), make_config())
    assert align_cross_keys(again, batch, generator(5)) == shares
    assert torch.equal(
        again.transformer.transformer_blocks[2].adapter.to_k.weight,
        objective.transformer.transformer_blocks[2].adapter.to_k.weight,
    )
