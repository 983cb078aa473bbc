"""A start for the cross keys that looks where the face is: queries of a place find the face token of that place.

From the paper's start (keys copied, values zero) the small model's cross-attention stays uniform for thousands of
steps: 1/64 of the weight is on the face token of the query's own place, so only the mean of the face gets through. The
queries do carry their place, though. So before the recipe ``joint`` the cross keys are fitted, by least squares, to the
part of the queries that depends on the place alone. ``docs/preview_training.md`` has what it changed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from magicmirror.models.attention import MagicMirrorAttnProcessor
from magicmirror.models.block import MagicMirrorBlock
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.training.draws import Dropout
from magicmirror.training.objective import IdentityVideoObjective
from magicmirror.training.parts import Batch

NOISY_FROM = 850
RIDGE = 1e-3
KEY_SCALE = 3.0  # before the key's layer norm, so only the size against the norm's epsilon matters


class _QueryRecorder(MagicMirrorAttnProcessor):
    """Attends as ever and keeps the queries of the cross term, (B, S, heads, head_dim)."""

    queries: Tensor | None = None

    def _cross_attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self.queries = query.detach()
        return super()._cross_attend(query, key, value)


def adapter_is_untrained(transformer: MagicMirrorTransformer3DModel) -> bool:
    """Whether every cross value projection is exactly zero, as in the paper's start; one step of training ends that."""
    return not any(bool(value.any()) for block in _adapted(transformer) for value in _values_of(block))


@torch.no_grad()
def align_cross_keys(objective: IdentityVideoObjective, batch: Batch, generator: torch.Generator) -> list[float]:
    """Fit the cross keys of every adapted block to the places of its queries.

    Needs as many face tokens as a frame has patches, in the same order (recipe ``tower``).

    Args:
        objective: Its transformer's adapters are changed.
        batch: Stills, as the objective takes them.
        generator: Of the noise.

    Returns:
        For each adapted block, the mean share of the cross-attention that then falls on the face token of the query's
        own place; 1 / N would be chance.
    """
    transformer = objective.transformer
    face_tokens, queries = _record_queries(objective, batch, generator)
    return [_fit(block, face_tokens, query) for block, query in zip(_adapted(transformer), queries, strict=True)]


def _adapted(transformer: MagicMirrorTransformer3DModel) -> list[MagicMirrorBlock]:
    blocks = transformer.transformer_blocks
    return [block for block in blocks if isinstance(block, MagicMirrorBlock) and block.adapter is not None]


def _values_of(block: MagicMirrorBlock) -> list[Tensor]:
    assert block.adapter is not None
    return [parameter.detach() for parameter in block.adapter.to_v.parameters()]


def _record_queries(
    objective: IdentityVideoObjective, batch: Batch, generator: torch.Generator
) -> tuple[Tensor, list[Tensor]]:
    """Face tokens (B, N, D), and the video queries (B, N, heads, head_dim) of every adapted block at high noise."""
    transformer: MagicMirrorTransformer3DModel = objective.transformer
    latents = batch["latents"]
    rows, frames, _, height, width = latents.shape
    nothing = torch.zeros(rows, dtype=torch.bool, device=latents.device)
    text, identity_tokens, face_tokens = objective.encode_conditions(batch, Dropout(nothing, nothing))
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    steps = torch.randint(NOISY_FROM, objective.scheduler.config.num_train_timesteps, (rows,), generator=generator)
    steps = steps.to(latents.device)
    before: dict[str, Any] = dict(transformer.attn_processors)
    recorders = {name: _QueryRecorder() for name in before}
    transformer.set_attn_processor(dict(recorders))
    try:
        transformer(
            hidden_states=objective.scheduler.add_noise(latents, noise, steps),
            encoder_hidden_states=text,
            timestep=steps,
            image_rotary_emb=objective.rotary(frames, height, width),
            identity_tokens=identity_tokens,
            face_tokens=face_tokens,
        )
    finally:
        transformer.set_attn_processor(before)
    places = face_tokens.size(1)
    return face_tokens, [r.queries[:, -places:] for r in recorders.values() if r.queries is not None]


def _fit(block: MagicMirrorBlock, face_tokens: Tensor, queries: Tensor) -> float:
    """Ridge regression of the queries' place-dependent part on the face tokens; returns the share on the diagonal."""
    adapter, attn = block.adapter, block.attn1
    assert adapter is not None
    place = queries.mean(0)  # (N, heads, head_dim)
    place = place - place.mean(0, keepdim=True)
    place = place / (place.square().mean(-1, keepdim=True).sqrt() + 1e-6)
    rows, tokens, width = face_tokens.shape
    inputs = torch.cat([face_tokens.flatten(0, 1), face_tokens.new_ones(rows * tokens, 1)], dim=1).double()
    targets = place.flatten(1).repeat(rows, 1).double()
    ridge = RIDGE * len(inputs) * torch.eye(width + 1, dtype=torch.float64, device=inputs.device)
    solution = KEY_SCALE * torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ targets).to(face_tokens.dtype)
    adapter.to_k.weight.copy_(solution[:-1].T)
    adapter.to_k.bias.copy_(solution[-1])

    keys = adapter.to_k(face_tokens).unflatten(-1, (attn.heads, -1))
    keys = attn.norm_k(keys) if attn.norm_k is not None else keys
    weights = torch.einsum("bihd,bjhd->bhij", queries, keys).mul(queries.size(-1) ** -0.5).softmax(-1)
    return float(torch.diagonal(weights, dim1=-2, dim2=-1).mean())
