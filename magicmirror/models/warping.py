"""Cutting a face out of a picture by a similarity, differentiably in the picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def as_complex(points: Tensor) -> Tensor:
    """Turn (..., 2) points into complex numbers ``x + iy``: a similarity is then one multiplication and one sum."""
    return torch.view_as_complex(points.contiguous())


def cut_similar(frames: Tensor, factor: Tensor, centre: Tensor, size: int) -> Tensor:
    """Cut a square picture out of each frame, turned and scaled.

    Args:
        frames: (B, C, H, W) of any range.
        factor: (B,) complex; px of the frame a px of the cut-out, and the turn.
        centre: (B,) complex; index of the px of the frame that becomes the middle of the cut-out.
        size: Side of the cut-out in px.

    Returns:
        (B, C, size, size), zero where it reaches beyond its frame.
    """
    # A bilinear sample reads two px; a coarser step would skip px.
    reduction = max(1, int(factor.abs().min()))
    if reduction > 1:
        frames = functional.avg_pool2d(frames, reduction)
    steps = torch.arange(size, device=frames.device, dtype=torch.float32) - (size - 1) / 2
    offsets = torch.complex(steps.expand(size, size), steps[:, None].expand(size, size))
    index = factor.view(-1, 1, 1) * offsets + centre.view(-1, 1, 1)
    # grid_sample's -1 and 1 are the outer edges of the frame; px that averaging cut off lie beyond them.
    height, width = frames.shape[-2:]
    covered = torch.tensor([width, height], device=frames.device) * reduction
    grid = (2 * torch.view_as_real(index) + 1) / covered - 1
    return functional.grid_sample(frames, grid.to(frames.dtype), mode="bilinear", align_corners=False)
