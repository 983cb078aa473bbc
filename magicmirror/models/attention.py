"""Joint self-attention with the decoupled cross-attention of Eq. 8."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor

from magicmirror.models.padded_attention import padded_attention


class MagicMirrorAttnProcessor:
    """Attention of one block over [text, face, video].

    Without ``cross_key`` this is diffusers' ``CogVideoXAttnProcessor2_0`` bit for bit, but dispatched, so that
    ``set_attention_backend`` and context parallelism reach it. With it, Eq. 8 is computed:
    ``T_SA(W_qkv(x_full)) + T_CA(W_q(x_full), W_hat_kv(x_face))``, one query and one output projection for both terms.
    """

    # Read and written by diffusers' set_attention_backend and enable_parallelism.
    _attention_backend: Any = None
    _parallel_config: Any = None
    # Precision of the two attentions where it differs from the surrounding one. On CPUs the backward pass of bfloat16
    # attention is slower than that of float32 (docs/training.md), so the trainer asks for float32 there.
    compute_dtype: torch.dtype | None = None
    # Length that self-attention pads its tokens to a multiple of, where nothing is differentiated, masked or shared by
    # several devices and no other kernel was chosen; ``None`` leaves them as they are.
    token_multiple: int | None = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        cross_key: Tensor | None = None,
        cross_value: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            attn: The block's attention module.
            hidden_states: (B, V, D) modulated video tokens.
            encoder_hidden_states: (B, T + N, D) modulated text tokens, then face tokens; no rotary embedding.
            attention_mask: Mask for the self-attention, or ``None``.
            image_rotary_emb: cosines and sines, each (V, D / heads).
            cross_key: (B, N, heads, D / heads) keys of the face, already normalised.
            cross_value: (B, N, heads, D / heads) values of the face, already scaled by the identity scale.

        Returns:
            Video (B, V, D) and text with face (B, T + N, D).
        """
        prefix = encoder_hidden_states.size(1)
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query, key, value = (
            projection(tokens).unflatten(-1, (attn.heads, -1)) for projection in (attn.to_q, attn.to_k, attn.to_v)
        )
        if attn.norm_q is not None:
            query = attn.norm_q(query)
        if attn.norm_k is not None:
            key = attn.norm_k(key)

        # The face has no place in the video, so the cross term asks before the rotation.
        cross = None
        if cross_key is not None and cross_value is not None:
            cross = self._cross_attend(query, cross_key, cross_value)
        if image_rotary_emb is not None:
            query, key = (_rotate(x, prefix, image_rotary_emb) for x in (query, key))
        query, key, value = (_by_head(x) for x in (query, key, value))

        if (multiple := self._padding(attention_mask)) is not None:
            attended = padded_attention(query, key, value, multiple)
        else:
            attended = self._attend(query, key, value, attn_mask=attention_mask, parallel_config=self._parallel_config)
        if cross is not None:
            # Into the same memory where nothing remembers it for a backward pass.
            attended = attended + cross if torch.is_grad_enabled() else attended.add_(cross)
        attended = attended.flatten(2)
        attended = attn.to_out[1](attn.to_out[0](attended))
        text_and_face, video = attended.split([prefix, attended.size(1) - prefix], dim=1)
        return video, text_and_face

    def _padding(self, mask: Tensor | None) -> int | None:
        """Return ``token_multiple`` where padded tokens may be used, else ``None``."""
        others = (mask, self._attention_backend, self._parallel_config, self.compute_dtype)
        return None if torch.is_grad_enabled() or any(x is not None for x in others) else self.token_multiple

    def _cross_attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The cross term of Eq. 8; keys and values are replicas on every rank, so without context parallelism."""
        return self._attend(query, key, value)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        """Dispatch one attention; (B, S, heads, head_dim) in and out."""
        options["backend"] = self._attention_backend
        if self.compute_dtype is None:
            return dispatch_attention_fn(query, key, value, **options)  # type: ignore[no-any-return]
        with torch.autocast(query.device.type, enabled=False):
            query, key, wide = (x.to(self.compute_dtype) for x in (query, key, value))
            return dispatch_attention_fn(query, key, wide, **options).to(value.dtype)  # type: ignore[no-any-return]


def _rotate(x: Tensor, prefix: int, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the tokens after ``prefix``; x is (B, S, heads, head_dim)."""
    rotated = apply_rotary_emb(x[:, prefix:], rotary, sequence_dim=1)
    if x.device.type == "cpu":  # the same values, laid out as ``_by_head`` wants them without another copy
        return torch.cat([x[:, :prefix].transpose(1, 2), rotated.transpose(1, 2)], dim=2).transpose(1, 2)
    return torch.cat([x[:, :prefix], rotated], dim=1)


def _by_head(x: Tensor) -> Tensor:
    """Lay (B, S, heads, head_dim) out head by head on a CPU, whose attention reads it 4 % faster; a GPU's does not."""
    return x.transpose(1, 2).contiguous().transpose(1, 2) if x.device.type == "cpu" else x
