"""What two clips that should be equal differ in, beyond their pixels: edges, texture, what changes, what swims.

* The *edge* term is what the eye asks for and the pixel error forgives, a blurred outline or a flicker.
* What 64 cells of latents cannot hold, as every single hair, these two answer with their mean, which is smooth; the
  *texture* term asks for as much fine detail in each place as there was, wherever it lies. It asks each direction and
  scale apart: of the Laplacian alone a fine checkerboard has the most, and a decoder draws one.
* A smile changes one pixel in twenty, so in the mean over all of them a decoder may leave it out, and did; the *change*
  term looks where the clip changes.
* Detail that stands still while the face moves under it, or is drawn anew in every frame, is as far from the truth as
  detail that moves along at the wrong place, but only the former is seen to flicker: that is the *warping* term (as in
  arXiv 1808.00449).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

SCALES = 3
TEXTURE_SCALES = 2
TEXTURE_WINDOW = 8
CHANGE_WINDOW = 5
"""Side in px of the window over which a change is spread: its edge counts like its middle."""
# The three details of the Haar wavelet: along the width, along the height, and across both.
_HAAR = (((1.0, -1.0), (1.0, -1.0)), ((1.0, 1.0), (-1.0, -1.0)), ((1.0, -1.0), (-1.0, 1.0)))


def edge_error(clips: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error of differences between neighbours in time, height and width, mean over scales.

    Args:
        clips: (B, 3, F, H, W).
        wanted: Of the same shape.
    """
    error = clips - wanted
    errors = []
    for _ in range(SCALES):
        errors += [difference.abs().mean() for difference in _differences(error)]
        if min(error.shape[-2:]) < 4:
            break
        error = functional.avg_pool3d(error, (1, 2, 2))
    return torch.stack(errors).mean()


def texture_error(clips: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of local detail: root mean squares of Haar's three details in windows of 8 x 8.

    Args:
        clips: (B, 3, F, H, W).
        wanted: Of the same shape.

    Returns:
        Mean over windows, details and the two scales.
    """
    made, asked = (each.mean(1).flatten(0, 1)[:, None] for each in (clips, wanted))
    errors = []
    for _ in range(TEXTURE_SCALES):
        errors.append((_detail(made) - _detail(asked)).abs().mean())
        if min(made.shape[-2:]) < 4:
            break
        made, asked = functional.avg_pool2d(made, 2), functional.avg_pool2d(asked, 2)
    return torch.stack(errors).mean()


def change_error(clips: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error, each place and frame weighted by how much the wanted clip differs there from its start.

    Args:
        clips: (B, 3, F, H, W).
        wanted: Of the same shape.

    Returns:
        Mean over samples; 0 for stills, and for a clip in which nothing changes.
    """
    change = (wanted - wanted[:, :, :1]).abs().mean(1).flatten(0, 1)[:, None]
    change = functional.avg_pool2d(change, CHANGE_WINDOW, stride=1, padding=CHANGE_WINDOW // 2)
    weights = change.view(len(wanted), -1)
    errors = (clips - wanted).abs().mean(1).view(len(wanted), -1)
    return ((weights * errors).sum(1) / weights.sum(1).clamp_min(1e-6)).mean()


def warping_error(clips: Tensor, wanted: Tensor, flow: Tensor) -> Tensor:
    """Mean absolute error of what changes from frame to frame along the motion.

    Args:
        clips: (B, 3, F, H, W).
        wanted: Of the same shape.
        flow: (B, F - 1, H, W, 2) of the wanted clips, from each frame to the next, x and y in px.

    Returns:
        Mean over samples, and in each over all places from which the flow stays inside the picture; 0 for stills.
    """
    if wanted.size(2) == 1:
        return clips.new_zeros(())
    error = (clips - wanted).transpose(1, 2)
    following, inside = brought_back(error[:, 1:].flatten(0, 1), flow.flatten(0, 1))
    swimming = (following - error[:, :-1].flatten(0, 1)).abs().mean(1)
    swimming, inside = (each.view(len(wanted), -1) for each in (swimming, inside))
    return ((swimming * inside).sum(1) / inside.sum(1).clamp_min(1)).mean()


def brought_back(frames: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Bring frames to the places of those before them.

    Args:
        frames: (N, C, H, W).
        flow: (N, H, W, 2) from the frames before to these, x and y in px.

    Returns:
        (N, C, H, W), and (N, H, W) bool: whether the flow stays inside the picture.
    """
    height, width = frames.shape[-2:]
    across = torch.arange(width, device=flow.device) + flow[..., 0]
    down = torch.arange(height, device=flow.device)[:, None] + flow[..., 1]
    # Corners of ``grid_sample`` are the middles of the pixels in the corners.
    places = torch.stack([2 * across / (width - 1) - 1, 2 * down / (height - 1) - 1], dim=-1)
    brought = functional.grid_sample(frames, places, padding_mode="border", align_corners=True)
    return brought, (places.abs() <= 1).all(-1)


def _detail(grey: Tensor) -> Tensor:
    """Strength of the details of grey pictures (N, 1, H, W), (N, 3, h, w)."""
    energy = functional.conv2d(grey, grey.new_tensor(_HAAR)[:, None] / 2).square()
    window = min(TEXTURE_WINDOW, *energy.shape[-2:])
    # The root of zero has no derivative.
    return (functional.avg_pool2d(energy, window, max(1, window // 2)) + 1e-6).sqrt()


def _differences(clips: Tensor) -> Iterator[Tensor]:
    """Differences along each of F, H and W that has more than one entry."""
    return (clips.diff(dim=dim) for dim in (2, 3, 4) if clips.size(dim) > 1)
