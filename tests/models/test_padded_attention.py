"""Attention on whole tiles of tokens beside plain softmax attention in double precision."""

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName
from torch._dynamo.testing import CompileCounterWithBackend

from magicmirror.models import padded_attention as module
from magicmirror.models.padded_attention import padded_attention

HEADS, HEAD_DIM = 3, 16


def random_tokens(length, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, length, HEADS, HEAD_DIM, generator=generator).to(dtype) for _ in range(3))


def plain(query, key, value):
    """Softmax attention written out."""
    query, key, value = (x.double().transpose(1, 2) for x in (query, key, value))
    scores = query @ key.transpose(-1, -2) / HEAD_DIM**0.5
    return (scores.softmax(dim=-1) @ value).transpose(1, 2)


@pytest.fixture
def kernel_lengths(monkeypatch):
    """Lengths of the sequences that reach the kernel."""
    lengths, attend = [], module._attend

    def spy(query, key, value):
        lengths.append({x.size(1) for x in (query, key, value)})
        return attend(query, key, value)

    monkeypatch.setattr(module, "_attend", spy)
    return lengths


@pytest.mark.parametrize(
    ("length", "multiple", "padded"), [(1, 128, 128), (127, 128, 128), (128, 128, 128), (129, 128, 256), (50, 16, 64)]
)
def test_equals_plain_attention_on_whole_tiles(kernel_lengths, length, multiple, padded):
    query, key, value = random_tokens(length)
    found = padded_attention(query, key, value, multiple)
    assert found.shape == query.shape and found.dtype == query.dtype and kernel_lengths == [{padded}]
    error = (found.double() - plain(query, key, value)).abs().max()
    assert error < 2e-6 * (1 + padded - length)  # one token alone leaves 1 / 128 of the softmax


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("last", [60.0, 3.0, 0.0, -60.0], ids=lambda score: f"last key scores {score:g}")
@pytest.mark.parametrize("others", [40.0, 0.0, -40.0], ids=lambda score: f"others {score:g}")
def test_any_share_of_the_last_key_is_given_back(dtype, last, others):
    query, key, value = random_tokens(20, seed=1)
    query[..., 0], key[:, :-1, :, 0], key[:, -1, :, 0] = 4.0, others, last  # 4 / sqrt(16) = 1
    query, key, value = (x.to(dtype) for x in (query, key, value))
    expected = plain(query, key, value)
    error = (padded_attention(query, key, value).double() - expected).abs().max()
    assert error < (0.03 if dtype == torch.bfloat16 else 0.005)
    copies_kept = plain(query, *(torch.cat([x, x[:, -1:].expand(-1, 108, -1, -1)], dim=1) for x in (key, value)))
    if others == last == 0.0:
        assert (copies_kept - plain(query, key, value)).abs().max() > 0.3  # the case is one in which it matters


@pytest.fixture
def request_of(tiny):
    """A model, its arguments with an identity, and its prediction without padding."""
    model = tiny.model("rotary")
    arguments = {**tiny.inputs(model), **tiny.identity(model)}
    return model, arguments, tiny.predict(model, **arguments)


def pad(model, multiple=128):
    for processor in model.attn_processors.values():
        processor.token_multiple = multiple


def test_transformer_predicts_the_same_on_padded_tokens(tiny, request_of, kernel_lengths):
    model, arguments, expected = request_of
    pad(model)
    torch.testing.assert_close(tiny.predict(model, **arguments), expected, rtol=0, atol=1e-5)
    assert kernel_lengths == [{128}] * 3  # 6 text and 64 video tokens, in two blocks 3 of the face


def test_one_graph_a_kind_of_block(tiny, request_of):
    model, arguments, expected = request_of
    pad(model)
    torch._dynamo.reset()
    compiler = CompileCounterWithBackend("eager")
    model.compile_repeated_blocks(fullgraph=True, backend=compiler)
    for _ in range(2):
        torch.testing.assert_close(tiny.predict(model, **arguments), expected, rtol=0, atol=1e-5)
    assert compiler.frame_count == 2
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    for graph in compiler.graphs:
        assert sum(node.target is kernel for node in graph.graph.nodes) == 1
    torch._dynamo.reset()


def test_gradients_masks_and_other_kernels_are_left_alone(tiny, request_of, kernel_lengths):
    model, arguments, expected = request_of
    pad(model)
    with torch.enable_grad():
        output = model(**arguments).sample
        output.sum().backward()
    torch.testing.assert_close(output.detach(), expected, rtol=0, atol=1e-5)
    assert model.transformer_blocks[0].attn1.to_k.weight.grad.abs().max() > 0
    attention, video, text = model.transformer_blocks[0].attn1, torch.randn(1, 8, 32), torch.randn(1, 4, 32)
    mask = torch.ones(12, 12, dtype=torch.bool).tril()
    with torch.no_grad():
        masked = torch.cat(attention(video, text, attention_mask=mask), dim=1)
        assert not torch.allclose(masked, torch.cat(attention(video, text), dim=1), atol=1e-3)
    assert kernel_lengths.pop() == {128} and not kernel_lengths
    for processor in model.attn_processors.values():
        processor._attention_backend = AttentionBackendName._NATIVE_MATH
    torch.testing.assert_close(tiny.predict(model, **arguments), expected, rtol=0, atol=1e-5)
    assert not kernel_lengths


def test_shapes_of_the_cuda_kernel():
    tokens = torch.empty(2, 200, 48, 64, device="meta", dtype=torch.bfloat16)
    found = padded_attention(tokens, tokens, tokens)
    assert (found.shape, found.dtype, found.device.type) == (tokens.shape, torch.bfloat16, "meta")


@pytest.mark.gpu
@pytest.mark.parametrize("length", [200, 17_776, 17_808])
def test_equals_plain_attention_on_a_gpu(length):
    generator = torch.Generator("cuda").manual_seed(0)
    tokens = [
        torch.randn(2, length, 4, 64, generator=generator, device="cuda").to(torch.bfloat16) * scale
        for scale in (2.0, 2.0, 1.0)
    ]
    by_head = [x.transpose(1, 2) for x in tokens]
    expected = torch.nn.functional.scaled_dot_product_attention(*by_head).transpose(1, 2)
    torch.testing.assert_close(padded_attention(*tokens), expected, rtol=0, atol=0.02)
    graph = torch.compile(padded_attention, fullgraph=True)
    torch.testing.assert_close(graph(*tokens), expected, rtol=0, atol=0.02)
