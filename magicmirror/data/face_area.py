"""The face area, in which half of the samples of the full model are judged (paper, section 3.4).

It is an ellipse from brow to chin around the eyes. A rendered portrait has its eyes where the head template puts them;
of a real picture or video, a shard's text says where they are in every frame (``eyes``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from magicmirror.data.records import Box
from magicmirror.faces.alignment import eye_centres
from magicmirror.models.recognizer import TEMPLATE_EYES
from magicmirror.types import Float32Array

CENTRE = (0.5, 0.54)
RADII = (0.34, 0.36)
"""Of the ellipse, in sides of the head template, whose eyes lie at 0.45 of the height, 0.27 of the width apart. The
face spans about 0.62 of the width and reaches from 0.25 to 0.85 of the height; the margin covers motion."""

Eyes = tuple[float, float, float, float]
"""Eye centres in a frame: x and y of the one on the picture's left, then of the other, in heights of the frame."""


@lru_cache
def template_area(num_frames: int, height: int, width: int) -> Tensor:
    """Face area of a canonically framed head in the middle of a frame, (F, H, W) float32 of zeros and ones."""
    return _inside([template_eyes(height, width)], height, width).expand(num_frames, -1, -1)


def template_eyes(height: int, width: int) -> Eyes:
    """Where the eyes of a canonically framed head are, in the middle of a frame of H x W."""
    x0, y0, x1, y1 = TEMPLATE_EYES
    aside = (width / height - 1) / 2
    return x0 + aside, y0, x1 + aside, y1


def latent_face_areas(eyes: Float32Array, num_latent_frames: int, height: int, width: int) -> Tensor:
    """Face areas of a picture or a clip, as latents see them.

    Args:
        eyes: (pixel frames, 4): one, then as many for each further latent frame (CogVideoX's causal VAE: four).
        num_latent_frames: F.
        height: H, cells of a latent frame.
        width: W.

    Returns:
        (F, H, W) float32 of zeros and ones: 1 where the face is in any of the pixel frames of a latent frame.
    """
    inside = _inside(eyes, height, width)
    if num_latent_frames == 1:
        return inside[:1]
    later = inside[1:].unflatten(0, (num_latent_frames - 1, -1)).amax(1)
    return torch.cat([inside[:1], later])


def eyes_in_window(landmarks: Float32Array, window: Box, left: float = 0.0) -> Eyes:
    """Say where a face's eyes are in a frame that shows a window of a picture.

    Args:
        landmarks: (5, 2), x and y in px of the picture, ``dlib5`` order.
        window: Left, top, right, bottom in px of the picture; it fills the frame's height.
        left: Where in the frame it begins, in heights of the frame.
    """
    # A landmark names the centre of a pixel, a window its edge.
    points = np.concatenate(eye_centres(landmarks, "dlib5")) + 0.5
    height = window[3] - window[1]
    x0, y0, x1, y1 = ((points - [*window[:2], *window[:2]]) / height).tolist()
    return round(x0 + left, 4), round(y0, 4), round(x1 + left, 4), round(y1, 4)


def eyes_between(known: Sequence[tuple[int, Eyes]], frames: Sequence[int]) -> list[Eyes]:
    """Say where the eyes are in frames between those in which they were found: on straight lines in between.

    Args:
        known: Number of a frame, and the eyes in it; in order, one or more.
        frames: Numbers of the wanted frames; before the first known and after the last they stay where they were.
    """
    numbers = [number for number, _ in known]
    columns = [np.interp(frames, numbers, column) for column in zip(*(eyes for _, eyes in known), strict=True)]
    return [(round(a, 4), round(b, 4), round(c, 4), round(d, 4)) for a, b, c, d in np.stack(columns, 1).tolist()]


def _inside(eyes: Float32Array | Sequence[Eyes], height: int, width: int) -> Tensor:
    """(frames, H, W) float32: which cells' centres lie in the ellipse of each pair of eyes."""
    points = torch.as_tensor(eyes, dtype=torch.float64)
    left, right = torch.complex(points[:, 0], points[:, 1]), torch.complex(points[:, 2], points[:, 3])
    own_left, own_right = complex(*TEMPLATE_EYES[:2]), complex(*TEMPLATE_EYES[2:])
    y = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    x = (torch.arange(width, dtype=torch.float64) + 0.5) / height  # cells are square
    cells = torch.complex(x.expand(height, width), y[:, None].expand(height, width))
    # Two pairs of points fix a similarity, as in ``faces.alignment.head_transform``.
    factor = (own_right - own_left) / (right - left)
    placed = own_left + factor[:, None, None] * (cells - left[:, None, None])
    far = ((placed.real - CENTRE[0]) / RADII[0]).square() + ((placed.imag - CENTRE[1]) / RADII[1]).square()
    return (far <= 1.0).float()
