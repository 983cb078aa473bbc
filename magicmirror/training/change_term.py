"""The change term: how a clip goes on from its first frame, each motion measured by its own size.

Not in the paper (**D6** in ``docs/paper_map.md``). A blink changes the latents of a clip by a four-hundredth of what a
pan does, so in a mean squared error nobody sees whether it happens: the small model drew as much sway into a clip of
somebody who blinks as into one of somebody who stands still. Here the error of the predicted change is taken relative
to what such a motion usually changes.

It is taken twice: over the whole picture, and weighted by how much each place changes in the clip itself. A smile fills
a dozen of 256 places; over all of them the sway of hair and background outweighs it, and the model left it out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from magicmirror.data.pose_targets import POSE_FIELDS


class Size(NamedTuple):
    """By how much, as a mean square, clips differ from their first latent frame.

    Args:
        everywhere: Mean over all places; a number, or (B,).
        where_it_changes: Mean weighted by the mean square of each place and frame; of the same shape.
    """

    everywhere: float | Tensor
    where_it_changes: float | Tensor


USUAL_CHANGE: dict[str, Size] = {
    "yaw": Size(0.1, 0.48),
    "pitch": Size(0.04, 0.25),
    "roll": Size(0.2, 0.83),
    "zoom": Size(0.2, 0.7),
    "pan_x": Size(0.2, 0.75),
    "pan_y": Size(0.2, 0.75),
    "blink": Size(0.0005, 0.06),
    "smile": Size(0.0007, 0.05),
    "mouth": Size(0.005, 0.28),
}
"""About the medians of the preview's clips with one motion: 400 clips for the first figure, 1,920 for the second."""
STILL_CHANGE = Size(0.0025, 0.02)
"""The same of clips in which somebody keeps still."""
MOVED = 0.05
"""Pose value, in units of ``POSE_SCALES``, from which on a clip has that motion."""


def usual_change(poses: Tensor) -> Size:
    """Size (B,) that the change of a clip with such motions usually has.

    It depends on which motions there are, not on how large they are: a relative error by a clip's own size would
    be least for a prediction that is too timid.

    Args:
        poses: (B, F, P) of ``latent_poses``.
    """
    moved = (poses.abs().amax(1) > MOVED).float()
    sizes = torch.tensor([USUAL_CHANGE[name] for name in POSE_FIELDS], device=poses.device)
    everywhere, where_it_changes = (moved @ sizes + torch.tensor(STILL_CHANGE, device=poses.device)).unbind(1)
    return Size(everywhere, where_it_changes)


def change_term(predicted: Tensor, latents: Tensor, poses: Tensor, keep: Tensor) -> Tensor:
    """Mean over samples, and over both ways to weight places, of log(1 + error / usual change).

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
    change = _change(latents)
    error = (_change(predicted) - change).square().mean(2).flatten(1)
    weights = change.square().mean(2).flatten(1)
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-12)
    terms = (error.mean(1) / usual.everywhere).log1p() + ((error * weights).sum(1) / usual.where_it_changes).log1p()
    return (terms / 2 * known).mean()


def _change(latents: Tensor) -> Tensor:
    return latents[:, 1:] - latents[:, :1]
