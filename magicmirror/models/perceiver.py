"""The two perceivers of the dual branch: ``tau_id`` of Eq. 3 and ``tau_face`` of Eq. 4.

``IdentityPerceiver`` at its defaults holds exactly the tensors of PhotoMaker-V2's ``qformer_perceiver``, by name and
shape, so its published weights load strictly.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


class PerceiverAttention(nn.Module):
    """Latents attend to patches and to themselves.

    Args:
        dim: Width of both inputs.
        head_dim: Width of a head.
        heads: Number of heads.
    """

    def __init__(self, dim: int, head_dim: int, heads: int) -> None:
        super().__init__()
        inner = head_dim * heads
        self.heads = heads
        self.scale = head_dim**-0.25  # on queries and keys alike, which is safer in half precision
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, patches: Tensor, latents: Tensor) -> Tensor:
        """Attend from latents (B, N, D) to patches (B, P, D) and latents; returns (B, N, D)."""
        patches, latents = self.norm1(patches), self.norm2(latents)
        query = self.to_q(latents)
        key, value = self.to_kv(torch.cat([patches, latents], dim=1)).chunk(2, dim=-1)
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        weight = (query * self.scale) @ (key * self.scale).transpose(-2, -1)
        weight = weight.float().softmax(dim=-1).to(weight.dtype)
        attended: Tensor = self.to_out((weight @ value).transpose(1, 2).flatten(2))
        return attended


def _feed_forward(dim: int, mult: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(dim), nn.Linear(dim, dim * mult, bias=False), nn.GELU(), nn.Linear(dim * mult, dim, bias=False)
    )


class PerceiverResampler(nn.Module):
    """Q-Former: latents read patches through ``depth`` layers of attention and feed-forward.

    Args:
        dim: Width of the latents.
        depth: Layers.
        head_dim: Width of a head.
        heads: Number of heads.
        patch_dim: Width of the patches.
        ff_mult: Feed-forward width over ``dim``.
    """

    def __init__(self, dim: int, depth: int, head_dim: int, heads: int, patch_dim: int, ff_mult: int = 4) -> None:
        super().__init__()
        self.proj_in = nn.Linear(patch_dim, dim)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(dim, head_dim, heads), _feed_forward(dim, ff_mult)]) for _ in range(depth)
        )
        self.proj_out = nn.Linear(dim, dim)
        self.norm_out = nn.LayerNorm(dim)

    def forward(self, latents: Tensor, patches: Tensor) -> Tensor:
        """Read patches (B, P, patch_dim) into latents (B, N, dim)."""
        patches = self.proj_in(patches)
        for attention, feed_forward in cast(Any, self.layers):
            latents = latents + attention(patches, latents)
            latents = latents + feed_forward(latents)
        out: Tensor = self.norm_out(self.proj_out(latents))
        return out


class IdentityPerceiver(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """``x_id = tau_id(q_id, f)`` (Eq. 3): a recogniser's embedding reads dense features into ID tokens.

    Args:
        embedding_dim: E, width of the recogniser's raw embedding.
        patch_dim: Width of the vision tower.
        token_dim: D_id, width of an ID token.
        num_tokens: ID tokens.
        depth: Layers of the resampler.
        head_dim: Width of a head.
        ratio: Hidden width of the token projection over ``embedding_dim``.
    """

    @register_to_config
    def __init__(
        self,
        embedding_dim: int = 512,
        patch_dim: int = 1024,
        token_dim: int = 2048,
        num_tokens: int = 2,
        depth: int = 4,
        head_dim: int = 128,
        ratio: int = 4,
    ) -> None:
        super().__init__()
        self.token_proj = nn.Sequential(
            nn.Linear(embedding_dim, embedding_dim * ratio),
            nn.GELU(),
            nn.Linear(embedding_dim * ratio, token_dim * num_tokens),
        )
        self.token_norm = nn.LayerNorm(token_dim)
        self.perceiver_resampler = PerceiverResampler(token_dim, depth, head_dim, token_dim // head_dim, patch_dim)

    def forward(self, embedding: Tensor, patches: Tensor) -> Tensor:
        """Make ID tokens.

        Args:
            embedding: (B, E) raw, un-normalised recognition embedding ``q_id``.
            patches: (B, P, patch_dim) last hidden state of the vision tower with CLS, before its last norm.

        Returns:
            (B, num_tokens, D_id).
        """
        tokens = self.token_proj(embedding).unflatten(-1, (self.config.num_tokens, -1))
        tokens = self.token_norm(tokens)
        out: Tensor = tokens + self.perceiver_resampler(tokens, patches)
        return out


class FacePerceiver(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """``x_face = tau_face(q_face, f')`` (Eq. 4): learned queries read the penultimate layer into face tokens.

    Args:
        patch_dim: Width of the vision tower.
        dim: Width inside the perceiver.
        output_dim: D, width of the transformer.
        num_queries: N, face tokens (32 in the paper).
        depth: Layers of the resampler.
        head_dim: Width of a head.
    """

    @register_to_config
    def __init__(
        self,
        patch_dim: int = 1024,
        dim: int = 2048,
        output_dim: int = 3072,
        num_queries: int = 32,
        depth: int = 4,
        head_dim: int = 128,
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, num_queries, dim) * dim**-0.5)
        self.perceiver_resampler = PerceiverResampler(dim, depth, head_dim, dim // head_dim, patch_dim)
        self.proj = nn.Linear(dim, output_dim)

    def forward(self, patches: Tensor) -> Tensor:
        """Read patches (B, P, patch_dim) into face tokens (B, N, D)."""
        queries = self.queries.expand(patches.size(0), -1, -1)
        out: Tensor = self.proj(queries + self.perceiver_resampler(queries, patches))
        return out
