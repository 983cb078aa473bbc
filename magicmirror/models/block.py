"""A CogVideoX block with a place for the identity adapter (paper section 3.3)."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock
from torch import Tensor, nn

from magicmirror.errors import ConfigError
from magicmirror.models.attention import MagicMirrorAttnProcessor
from magicmirror.models.weights_files import in_eight_bits


class BlockIdentity(NamedTuple):
    """What a block needs of the identity; everything here is free of the latents.

    Blocks without an adapter get only ``num_face_tokens``.

    Args:
        num_face_tokens: N, how many of the last ``encoder_hidden_states`` are face tokens.
        residual: (B, 12 D) CAN residual of Eq. 7, scaled; order as ``BlockAdapter.can``.
        face_modulation: (B, 6 D) modulation of the face stream, Eq. 6.
        cross_key: (B, N, heads, D / heads) for the cross term of Eq. 8.
        cross_value: as ``cross_key``, scaled by the identity scale.
    """

    num_face_tokens: int
    residual: Tensor | None = None
    face_modulation: Tensor | None = None
    cross_key: Tensor | None = None
    cross_value: Tensor | None = None

    def chunk(self, chunks: int, dim: int = 0) -> tuple[BlockIdentity, ...]:
        """Split the rows into equal parts; see ``StepIdentity.chunk``."""
        count, *tensors = self
        split = [(None,) * chunks if tensor is None else tensor.chunk(chunks, dim) for tensor in tensors]
        return tuple(BlockIdentity(count, *part) for part in zip(*split, strict=True))


class BlockAdapter(nn.Module):
    """The trained parts of one adapted block.

    Args:
        dim: D, width of the transformer (c3 in the paper).
        time_embed_dim: Width of the time embedding (c1).
        identity_dim: Width of the globally projected ID tokens (c2).
        hidden_dim: Hidden width of the CAN network.
        attention_bias: Whether the block's key and value projections have a bias.
    """

    def __init__(
        self, dim: int, time_embed_dim: int, identity_dim: int, hidden_dim: int, attention_bias: bool = True
    ) -> None:
        super().__init__()
        # phi_face of Eq. 6 has the form of the block's own modulation: SiLU, then one linear layer.
        self.face_modulation = nn.Sequential(nn.SiLU(), nn.Linear(time_embed_dim, 6 * dim))
        # phi_cond of Eq. 7. Output order: video (mu1, sigma1, gamma1, mu2, sigma2, gamma2), then text likewise.
        self.can = nn.Sequential(
            nn.Linear(time_embed_dim + identity_dim + dim, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, 12 * dim)
        )
        # W_hat_kv of Eq. 8.
        self.to_k = nn.Linear(dim, dim, bias=attention_bias)
        self.to_v = nn.Linear(dim, dim, bias=attention_bias)

    @torch.no_grad()
    def reset(self, to_k: nn.Linear) -> None:
        """Start as the paper does: modulation predictors zero, cross term adding nothing.

        Args:
            to_k: The block's own key projection, which the cross keys start from; may be stored in 8 bits.
        """
        for linear in (self.face_modulation[-1], self.can[-1], self.to_v):
            for parameter in linear.parameters():
                parameter.zero_()
        cast(nn.Linear, self.can[0]).reset_parameters()
        for name, value in to_k.named_parameters():
            stored: Any = value
            self.to_k.get_parameter(name).copy_(stored.dequantize() if in_eight_bits(stored) else stored)


class MagicMirrorBlock(CogVideoXBlock):  # type: ignore[misc]
    """CogVideoX block; with an adapter it also carries the face stream.

    Face tokens ride at the end of ``encoder_hidden_states`` and the block returns exactly two tensors, because the
    library's cache hooks know no third. Blocks without an adapter hand the face tokens on untouched.
    """

    def __init__(self, adapter: BlockAdapter | None = None, **block_config: Any) -> None:
        super().__init__(**block_config)
        self.attn1.set_processor(MagicMirrorAttnProcessor())
        self.adapter = adapter

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        identity: BlockIdentity | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the block.

        Args:
            hidden_states: (B, V, D) video tokens.
            encoder_hidden_states: (B, T, D) text tokens, or (B, T + N, D) with the face tokens last.
            temb: (B, time_embed_dim).
            image_rotary_emb: cosines and sines, each (V, D / heads).
            attention_kwargs: Passed to the attention processor.
            identity: What belongs to the identity; ``None`` runs the stock block.

        Returns:
            Video tokens and text (with face) tokens, shaped as given.
        """
        if identity is None:
            return super().forward(  # type: ignore[no-any-return]
                hidden_states, encoder_hidden_states, temb, image_rotary_emb, attention_kwargs
            )
        text_length = encoder_hidden_states.size(1) - identity.num_face_tokens
        if self.adapter is None:
            text, face = encoder_hidden_states[:, :text_length], encoder_hidden_states[:, text_length:]
            hidden_states, text = super().forward(hidden_states, text, temb, image_rotary_emb, attention_kwargs)
            return hidden_states, torch.cat([text, face], dim=1)
        return self._forward_adapted(
            hidden_states, encoder_hidden_states, temb, image_rotary_emb, attention_kwargs or {}, identity
        )

    def _forward_adapted(
        self,
        video: Tensor,
        text_and_face: Tensor,
        temb: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        attention_kwargs: dict[str, Any],
        identity: BlockIdentity,
    ) -> tuple[Tensor, Tensor]:
        """Eq. 6-8: three streams, each with its own modulation, through the block's own projections."""
        assert identity.residual is not None and identity.face_modulation is not None
        text, face = text_and_face.split(
            [text_and_face.size(1) - identity.num_face_tokens, identity.num_face_tokens], dim=1
        )
        streams = [text, face, video]
        residual_video, residual_text = identity.residual.chunk(2, dim=-1)
        face_both = identity.face_modulation.chunk(2, dim=-1)
        for half, norm in enumerate((self.norm1, self.norm2)):
            base_video, base_text = norm.linear(norm.silu(temb)).chunk(2, dim=-1)
            modulations = [
                base_text + residual_text.chunk(2, dim=-1)[half],
                face_both[half],
                base_video + residual_video.chunk(2, dim=-1)[half],
            ]
            parts = [m.unsqueeze(1).chunk(3, dim=-1) for m in modulations]  # (mu, sigma, gamma) a stream
            modulated = [norm.norm(x) * (1 + sigma) + mu for x, (mu, sigma, _) in zip(streams, parts, strict=True)]
            if half == 0:
                outputs = self._attend(modulated, rotary, attention_kwargs, identity)
            else:
                outputs = self.ff(torch.cat(modulated, dim=1)).split([x.size(1) for x in streams], dim=1)
            streams = [x + gamma * y for x, y, (_, _, gamma) in zip(streams, outputs, parts, strict=True)]
        return streams[2], torch.cat(streams[:2], dim=1)

    def _attend(
        self,
        modulated: list[Tensor],
        rotary: tuple[Tensor, Tensor] | None,
        attention_kwargs: dict[str, Any],
        identity: BlockIdentity,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. 8 over the modulated [text, face, video]; returns the three streams' parts."""
        text, face, video = modulated
        if not isinstance(self.attn1.processor, MagicMirrorAttnProcessor):
            # Diffusers would leave the face's keys out with no more than a line in the log.
            raise ConfigError(
                f"{type(self.attn1.processor).__name__} knows no cross term, and the face would get lost.",
                "Leave fuse_qkv_projections() and other attention processors out; kernels are chosen by attention=.",
            )
        video_out, text_and_face = self.attn1(
            hidden_states=video,
            encoder_hidden_states=torch.cat([text, face], dim=1),
            image_rotary_emb=rotary,
            cross_key=identity.cross_key,
            cross_value=identity.cross_value,
            **attention_kwargs,
        )
        text_out, face_out = text_and_face.split([text.size(1), face.size(1)], dim=1)
        return text_out, face_out, video_out


# The cache hooks (FirstBlockCache, MagCache, ...) look blocks up by their exact class.
TransformerBlockRegistry.register(
    MagicMirrorBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=1),
)
