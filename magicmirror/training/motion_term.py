"""The motion term: the video tokens of early blocks must tell the pose and the style that the caption asks for.

Not in the paper (**D6** in ``docs/paper_map.md``). CogVideoX's base knows what "turns to the left" looks like; the
small model learns it together with everything else, and did not: what it predicted from pure noise moved the same way
under any caption (``docs/preview_training.md`` has the figures). The denoising loss rewards a motion only once it is
drawn at the right place, which needs the words first. So linear heads read the pose of each latent frame off the mean
token of that frame, and the style off the mean token of the video; they are trained with the model and left behind by
it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from magicmirror.data.pose_targets import NUM_POSE_VALUES
from magicmirror.data.style import STYLES
from magicmirror.models.transformer import MagicMirrorTransformer3DModel

PROBED_BLOCKS = (1, 3)
"""Early ones, so that the blocks after them can draw with what the heads read."""
STYLE_WEIGHT = 0.3
"""Of a cross entropy in nats, beside a mean squared error of poses."""


class MotionTerm(nn.Module):
    """Heads on the outputs of some blocks of a transformer.

    Args:
        transformer: Its blocks get forward hooks, which keep their last output until the term has read it.
        blocks: Indices; those that the transformer does not have are left out.
    """

    def __init__(self, transformer: MagicMirrorTransformer3DModel, blocks: tuple[int, ...] = PROBED_BLOCKS) -> None:
        super().__init__()
        width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
        probed = [str(index) for index in blocks if index < len(transformer.transformer_blocks)]
        self.heads = nn.ModuleDict({name: _head(width, NUM_POSE_VALUES) for name in probed})
        self.style_heads = nn.ModuleDict({name: _head(width, len(STYLES)) for name in probed})
        self._seen: dict[str, Tensor] = {}
        for name in self.heads:
            transformer.transformer_blocks[int(name)].register_forward_hook(self._keeper(name))

    def forward(self, poses: Tensor, styles: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """What the heads read, after a forward pass of the transformer, against what the captions ask for.

        Args:
            poses: (B, F, P) of ``latent_poses``; not-a-number where a sample's motion is unknown.
            styles: (B,) indices into ``STYLES``; -1 where a sample's style is unknown.
            keep: (B,) bool; samples that have their caption.

        Returns:
            Two scalars: the mean squared error over samples, frames, pose values and heads, and the cross entropy of
            the styles in nats, mean over samples and heads. Zero if no sample counts. Their means over equal parts
            of a step are those of the step, because the means are over all B samples.
        """
        moves_known, style_known = keep & poses.isfinite().all(dim=(1, 2)), keep & (styles >= 0)
        wanted = torch.where(moves_known[:, None, None], poses, 0.0)
        motion, style = [], []
        for name, head in self.heads.items():
            tokens = self._seen.pop(name).float()
            frames = tokens.unflatten(1, (poses.size(1), -1)).mean(2)
            motion.append((head(frames) - wanted).square().mean((1, 2)))
            guesses = self.style_heads[name](frames.mean(1))
            style.append(functional.cross_entropy(guesses, styles.clamp_min(0), reduction="none"))
        return (torch.stack(motion).mean(0) * moves_known).mean(), (torch.stack(style).mean(0) * style_known).mean()

    def _keeper(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def keep(_module: nn.Module, _inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
            if torch.is_grad_enabled():
                self._seen[name] = output[0]

        return keep


def _head(width: int, values: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, values))
