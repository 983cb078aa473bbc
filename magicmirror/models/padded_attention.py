"""Self-attention on whole tiles of tokens, with the softmax of the sequence as it was.

cuDNN's kernel takes about a tenth longer for a sequence that does not end with one of its tiles (docs/performance.md,
"Full size on a GPU"), and CogVideoX's does not: 226 text and 17,550 video tokens are 112 more than 138 tiles. A mask
would cost more than it saves. So the last key is repeated up to the next tile with values of zero, and what its copies
took of the softmax is given back:

    Z = sum_i exp(s_i),  Z' = Z + c exp(s_last)  with c copies,
    attended = attended' Z' / Z = attended' / (1 - c exp(s_last - log Z')).

The kernel returns log Z'. A copy of a real key can take no more than that key does, so the divisor is at least
1 / (c + 1); a key of zeros has no such bound, as all others may score far below zero.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TILE_TOKENS = 128


def padded_attention(query: Tensor, key: Tensor, value: Tensor, multiple: int = TILE_TOKENS) -> Tensor:
    """Softmax attention without mask; equal to ``scaled_dot_product_attention`` up to rounding.

    Args:
        query: (B, S, heads, head_dim), on a CPU, or in half precision on a CUDA device with cuDNN.
        key: As the query.
        value: As the query.
        multiple: Length in tokens that the kernel's sequence is a multiple of.

    Returns:
        (B, S, heads, head_dim). It has no gradient: the kernels give none for log Z'.

    Raises:
        RuntimeError: Where the device has no such kernel.
    """
    length = query.size(1)
    copies = -length % multiple
    if not copies:
        return _attend(query, key, value)[0]
    last, zeros = key[:, -1:], (0, 0, 0, 0, 0, copies)
    longer_key = torch.cat([key, last.expand(-1, copies, -1, -1)], dim=1)
    longer = _attend(F.pad(query, zeros), longer_key, F.pad(value, zeros))
    attended, log_sum = (x[:, :length] for x in longer)
    # In float32, as the kernel has it: the rest is small where the last key has nearly all of the softmax.
    score = (query.float() * last.float()).sum(dim=-1) * query.size(-1) ** -0.5
    rest = 1 - copies * torch.exp(score - log_sum)
    return (attended / rest.unsqueeze(-1)).to(attended.dtype)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Attend with the kernel that torch has for the device; (B, S, heads, head_dim) and log Z (B, S, heads) float32."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    if query.device.type == "cpu":
        attended, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    else:
        attended, log_sum, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(query, key, value, None, True)
    # Some versions of torch give cuDNN's a last axis of one.
    return attended.transpose(1, 2), log_sum.reshape(attended.shape[:-1]).transpose(1, 2)
