"""Fusion of the identity into the text at the person word (Eq. 5)."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


class IdentityFusion(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """``MLP_fuse`` of Eq. 5, residual on the text so that an untrained fusion leaves the prompt as it was.

    Args:
        identity_dim: D_id, width of an ID token.
        text_dim: Width of the text embedding.
        hidden_dim: Hidden width of the network.
    """

    @register_to_config
    def __init__(self, identity_dim: int = 2048, text_dim: int = 4096, hidden_dim: int = 4096) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(identity_dim + text_dim)
        first, last = nn.Linear(identity_dim + text_dim, hidden_dim), nn.Linear(hidden_dim, text_dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(first, nn.GELU(), last)

    def forward(self, identity_tokens: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Put fused embeddings where the mask is true.

        Args:
            identity_tokens: (B, K, D_id), K = 2 ID tokens.
            text: (B, T, text_dim).
            mask: (B, T) bool, exactly K true a row: the positions of the person word.

        Returns:
            (B, T, text_dim): ``m * x_id_hat + (1 - m) * x_txt``.

        Raises:
            ValueError: If a row of the mask has not exactly K positions.
        """
        count = identity_tokens.size(1)
        if not bool((mask.sum(dim=1) == count).all()):
            raise ValueError(f"each row of the mask must mark {count} positions, got {mask.sum(dim=1).tolist()}.")
        words = text[mask].view(text.size(0), count, -1)
        fused = words + self.mlp(self.norm(torch.cat([identity_tokens.to(words.dtype), words], dim=-1)))
        return text.masked_scatter(mask.unsqueeze(-1), fused.to(text.dtype))
