"""From a picture or a video frame to a training frame: which window of it is shown, in which size."""

from __future__ import annotations

from typing import Literal

import numpy as np

from magicmirror.data.records import Box
from magicmirror.errors import ConfigError
from magicmirror.faces.alignment import EYE_DISTANCE, EYES_X, EYES_Y, eye_centres, eye_distance_px
from magicmirror.types import Float32Array, UInt8Array

Framing = Literal["head", "whole"]
FRAMINGS: tuple[Framing, ...] = ("head", "whole")
PHOTO_SHARE = 2 / 3
"""Share of a frame's width that the photo between black borders takes: a square in CogVideoX's 480 x 720."""


def head_window(landmarks: Float32Array) -> Box:
    """Return the upright square that shows a head as the head template does, apart from the tilt of the eyes.

    Args:
        landmarks: (5, 2) in px, ``dlib5`` order.

    Returns:
        Left, top, right, bottom in px; it may leave the picture.
    """
    side = eye_distance_px(landmarks, "dlib5") / EYE_DISTANCE
    left_eye, right_eye = eye_centres(landmarks, "dlib5")
    x, y = (left_eye + right_eye) / 2 + 0.5
    left, top = float(x) - EYES_X * side, float(y) - EYES_Y * side
    return left, top, left + side, top + side


def frame_window(box: Box, picture_size: tuple[int, int], frame_size: tuple[int, int], framing: Framing) -> Box:
    """Return the window of a picture that a training frame shows.

    Args:
        box: Square window around the head, in px of the picture.
        picture_size: Height and width of the picture in px.
        frame_size: Height and width of the frame in px.
        framing: ``head``: as high as ``box``, and as wide as the frame asks for. ``whole``: the largest window of the
            frame's shape within the picture, as near to the head as possible.

    Returns:
        Left, top, right, bottom in px, of the frame's shape; within the picture where that is large enough.
    """
    height, width = picture_size
    aspect = frame_size[1] / frame_size[0]
    window_height = min(float(height), width / aspect) if framing == "whole" else box[3] - box[1]
    window_width = window_height * aspect
    left = _inside((box[0] + box[2] - window_width) / 2, window_width, width)
    top = _inside((box[1] + box[3] - window_height) / 2, window_height, height)
    return left, top, left + window_width, top + window_height


def cut_window(image: UInt8Array, box: Box, height: int, width: int) -> UInt8Array:
    """Cut a window out of a picture and bring it to a size; outside the picture its mirror image goes on.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: Left, top, right, bottom in px.
        height: Of the result.
        width: Of the result.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ConfigError: When the window has no part of the picture.
    """
    import cv2

    rows, columns = image.shape[:2]
    left, top = round(box[0]), round(box[1])
    right, bottom = max(round(box[2]), left + 1), max(round(box[3]), top + 1)
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if not inside.size:
        raise ConfigError(f"The window {box} lies outside a picture of {columns} x {rows} px.")
    borders = (max(-top, 0), max(bottom - rows, 0), max(-left, 0), max(right - columns, 0))
    if any(borders):
        inside = np.pad(inside, (borders[:2], borders[2:], (0, 0)), mode="symmetric")
    method = cv2.INTER_AREA if inside.shape[0] > height else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(inside, (width, height), interpolation=method), dtype=np.uint8)


def bordered_photo(
    image: UInt8Array, box: Box, height: int, width: int, framing: Framing
) -> tuple[UInt8Array, Box, float]:
    """Show a picture at full height between two black borders (paper, A.1, set B).

    Args:
        image: (H, W, 3) uint8 RGB.
        box: Square window around the head, in px.
        height: Of the frame.
        width: Of the frame; the photo takes the middle two thirds.
        framing: See ``frame_window``.

    Returns:
        (height, width, 3) uint8 RGB, the window of the picture that the photo shows, and where in the frame the photo
        begins, in heights of the frame.
    """
    photo_width = round(width * PHOTO_SHARE)
    window = frame_window(box, (image.shape[0], image.shape[1]), (height, photo_width), framing)
    frame = np.zeros((height, width, 3), dtype=np.uint8)
    start = (width - photo_width) // 2
    frame[:, start : start + photo_width] = cut_window(image, window, height, photo_width)
    return frame, window, start / height


def _inside(start: float, length: float, limit: int) -> float:
    """Move an interval into [0, limit] where it fits, else to the middle."""
    return min(max(start, 0.0), limit - length) if length <= limit else (limit - length) / 2
