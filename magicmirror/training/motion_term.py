"""The motion term: the video tokens of early blocks must tell the pose that the caption asks for.

Not in the paper (**D6** in ``docs/paper_map.md``). CogVideoX's base knows what "turns to the left" looks like; the
small model learns it together with everything else, and did not: what it predicted from pure noise moved the same way
under any caption (``docs/training.md`` has the figures). The denoising loss rewards a motion only once it is drawn at
the right place, which needs the words first. So linear heads read the pose of each latent frame
off the mean token of that frame; they are trained with the model and left behind by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from magicmirror.data.pose_targets import NUM_POSE_VALUES
from magicmirror.models.transformer import MagicMirrorTransformer3DModel

PROBED_BLOCKS = (1, 3)
"""Early ones, so that the blocks after them can draw with what the heads read."""


class MotionTerm(nn.Module):
    """Heads on the outputs of some blocks of a transformer.

    Args:
        transformer: Its blocks get forward hooks, which keep their last output until the term has read it.
        blocks: Indices; those that the transformer does not have are left out.
    """

    def __init__(self, transformer: MagicMirrorTransformer3DModel, blocks: tuple[int, ...] = PROBED_BLOCKS) -> None:
        super().__init__()
        width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
        self.heads = nn.ModuleDict(
            {
                str(index): nn.Sequential(nn.LayerNorm(width), nn.Linear(width, NUM_POSE_VALUES))
                for index in blocks
                if index < len(transformer.transformer_blocks)
            }
        )
        self._seen: dict[str, Tensor] = {}
        for name in self.heads:
            transformer.transformer_blocks[int(name)].register_forward_hook(self._keeper(name))

    def forward(self, poses: Tensor, keep: Tensor) -> Tensor:
        """Mean squared error over samples, frames, pose values and heads, after a forward pass of the transformer.

        Args:
            poses: (B, F, P) of ``latent_poses``; not-a-number where a sample's motion is unknown.
            keep: (B,) bool; samples that have their caption.

        Returns:
            Scalar; zero if no sample counts. Its mean over equal parts of a step is that of the step, because
            the mean is over all B samples.
        """
        known = keep & poses.isfinite().all(dim=(1, 2))
        wanted = torch.where(known[:, None, None], poses, 0.0)
        errors = []
        for name, head in self.heads.items():
            tokens = self._seen.pop(name).float()
            frames = tokens.unflatten(1, (poses.size(1), -1)).mean(2)
            errors.append((head(frames) - wanted).square().mean((1, 2)))
        return (torch.stack(errors).mean(0) * known).mean()

    def _keeper(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def keep(_module: nn.Module, _inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
            if torch.is_grad_enabled():
                self._seen[name] = output[0]

        return keep
