"""Constants of a request: all of the adapter that does not depend on the latents, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from magicmirror.models.block import BlockIdentity, MagicMirrorBlock
from magicmirror.models.onloading import onloaded


class StepIdentity(NamedTuple):
    """The identity at one denoising step, as ``forward`` takes it.

    Args:
        face_tokens: (B, N, D) start of the face stream.
        blocks: One entry per transformer block.
    """

    face_tokens: Tensor
    blocks: tuple[BlockIdentity, ...]

    def chunk(self, chunks: int, dim: int = 0) -> tuple[StepIdentity, ...]:
        """Split the rows into equal parts, as a tensor does; FasterCache leaves the unconditional half out this way.

        Args:
            chunks: How many parts; it divides B.
            dim: 0, the rows.

        Returns:
            ``chunks`` identities of B / ``chunks`` rows.
        """
        parts = zip(*(block.chunk(chunks, dim) for block in self.blocks), strict=True)
        faces = self.face_tokens.chunk(chunks, dim)
        return tuple(StepIdentity(face, blocks) for face, blocks in zip(faces, parts, strict=True))


@dataclass(frozen=True, eq=False)
class IdentityConstants:
    """The identity over a whole schedule of S steps.

    Args:
        face_tokens: (B, N, D).
        blocks: One entry per transformer block; time-dependent tensors carry a leading axis S
            (``residual`` (S, B, 12 D), ``face_modulation`` (S, B, 6 D)), the face's keys and values do not.
    """

    face_tokens: Tensor
    blocks: tuple[BlockIdentity, ...]

    def at(self, step: int) -> StepIdentity:
        """Pick step ``step`` in [0, S)."""
        return StepIdentity(
            self.face_tokens,
            tuple(
                block
                if block.residual is None or block.face_modulation is None
                else block._replace(residual=block.residual[step], face_modulation=block.face_modulation[step])
                for block in self.blocks
            ),
        )


def block_constants(
    block: MagicMirrorBlock, temb: Tensor, identity: Tensor, face_tokens: Tensor, scale: float
) -> BlockIdentity:
    """Compute what one block needs, for all steps at once.

    Args:
        block: The block.
        temb: (S, B, time_embed_dim) time embeddings.
        identity: (B, c2) globally projected ID tokens.
        face_tokens: (B, N, D).
        scale: Identity strength; multiplies the CAN residual and the cross term.

    Returns:
        Eq. 6 and 7 for S steps, and keys and values of the cross term of Eq. 8.
    """
    if block.adapter is None:
        return BlockIdentity(face_tokens.size(1))
    with onloaded(block):
        adapter, attn = block.adapter, block.attn1
        shift = block.norm1.linear(block.norm1.silu(temb)).chunk(6, dim=-1)[0]  # mu1_vid of the base block
        condition = [temb, identity.expand(temb.size(0), -1, -1), shift]
        key = adapter.to_k(face_tokens).unflatten(-1, (attn.heads, -1))
        if attn.norm_k is not None:
            key = attn.norm_k(key)
        value = adapter.to_v(face_tokens).unflatten(-1, (attn.heads, -1))
        return BlockIdentity(
            num_face_tokens=face_tokens.size(1),
            residual=scale * adapter.can(torch.cat(condition, dim=-1)),
            face_modulation=adapter.face_modulation(temb),
            cross_key=key,
            cross_value=scale * value,
        )
