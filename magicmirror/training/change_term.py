"""The change term: how a clip goes on from its first frame, each motion measured by its own size.

Not in the paper (**D6** in ``docs/paper_map.md``). A blink changes the latents of a clip by a four-hundredth of what a
pan does, so in a mean squared error nobody sees whether it happens: the small model drew as much sway into a clip of
somebody who blinks as into one of somebody who stands still. Here the error of the predicted change is taken relative
to what such a motion usually changes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from magicmirror.data.pose_targets import POSE_FIELDS

USUAL_CHANGE: dict[str, float] = {
    "yaw": 0.1,
    "pitch": 0.04,
    "roll": 0.2,
    "zoom": 0.2,
    "pan_x": 0.2,
    "pan_y": 0.2,
    "blink": 0.0005,
    "smile": 0.0007,
    "mouth": 0.005,
}
"""Median mean square by which clips with one motion differ from their first latent frame (400 clips of the preview)."""
STILL_CHANGE = 0.0025
"""The same of clips in which somebody keeps still."""
MOVED = 0.05
"""Pose value, in units of ``POSE_SCALES``, from which on a clip has that motion."""


def usual_change(poses: Tensor) -> Tensor:
    """Mean square change that a clip with such motions usually has, (B,).

    It depends on which motions there are, not on how large they are: a relative error by a clip's own size would
    be least for a prediction that is too timid.

    Args:
        poses: (B, F, P) of ``latent_poses``.
    """
    moved = poses.abs().amax(1) > MOVED
    sizes = torch.tensor([USUAL_CHANGE[name] for name in POSE_FIELDS], device=poses.device)
    return STILL_CHANGE + (moved * sizes).sum(1)


def change_term(predicted: Tensor, latents: Tensor, poses: Tensor, keep: Tensor) -> Tensor:
    """Mean over samples of log(1 + error / usual change).

    The logarithm keeps falling snow and other chance, which no model can foresee, from outweighing everything.

    Args:
        predicted: (B, F, C, H, W) estimate of the clean latents.
        latents: (B, F, C, H, W) clean.
        poses: (B, F, P) of ``latent_poses``; not-a-number where a sample's motion is unknown.
        keep: (B,) bool; samples that have their caption.

    Returns:
        Scalar; zero if no sample counts, as with stills. Its mean over equal parts of a step is that of the step.
    """
    if latents.size(1) == 1:
        return predicted.new_zeros(())
    known = keep & poses.isfinite().all(dim=(1, 2))
    usual = usual_change(torch.where(known[:, None, None], poses, 0.0))
    error = (_change(predicted) - _change(latents)).square().mean((1, 2, 3, 4))
    return ((error / usual).log1p() * known).mean()


def _change(latents: Tensor) -> Tensor:
    return latents[:, 1:] - latents[:, :1]
