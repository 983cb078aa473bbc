"""The attention processor beside the stock one."""

import pytest
import torch
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0

from magicmirror.models.attention import MagicMirrorAttnProcessor


@pytest.fixture
def attention(tiny):
    """One attention module and its video and text tokens and rotary positions."""
    model = tiny.model("rotary")
    generator = torch.Generator().manual_seed(4)
    video, text = (torch.randn(2, length, 32, generator=generator) for length in (64, 6))
    return model.transformer_blocks[0].attn1, video, text, tiny.inputs(model)["image_rotary_emb"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("with_rotary", [True, False])
def test_same_bits_as_the_stock_processor(attention, dtype, with_rotary):
    module, video, text, rotary = attention
    arguments = (video.to(dtype), text.to(dtype), None, rotary if with_rotary else None)
    module.to(dtype)
    expected = CogVideoXAttnProcessor2_0()(module, *arguments)
    found = MagicMirrorAttnProcessor()(module, *arguments)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_wider_compute_dtype_rounds_less(attention):
    module, video, text, rotary = attention
    exact = torch.cat(module.double()(video.double(), text.double(), image_rotary_emb=rotary), dim=1)
    module.bfloat16()
    errors = {}
    for compute_dtype in (None, torch.float32):
        module.processor.compute_dtype = compute_dtype
        found = torch.cat(module(video.bfloat16(), text.bfloat16(), image_rotary_emb=rotary), dim=1)
        assert found.dtype == torch.bfloat16
        errors[compute_dtype] = (found - exact).abs().mean().item()
    assert errors[torch.float32] < 0.02 and errors[None] < 0.02
    assert errors[torch.float32] <= errors[None] * 1.05


def test_face_is_asked_without_positions(attention):
    """The cross term does not change when all video tokens are turned by other rotary angles; see docs/paper_map.md."""
    module, video, text, rotary = attention
    key, value = torch.randn(2, 3, 2, 16), torch.randn(2, 3, 2, 16)

    def cross_term(angles):
        with_face = module(video, text, image_rotary_emb=angles, cross_key=key, cross_value=value)
        without = module(video, text, image_rotary_emb=angles)
        return torch.cat([a - b for a, b in zip(with_face, without, strict=True)], dim=1)

    turned = tuple(part.flip(0) for part in rotary)
    torch.testing.assert_close(cross_term(rotary), cross_term(turned), rtol=0, atol=1e-5)
    assert cross_term(rotary).abs().max() > 0.1
