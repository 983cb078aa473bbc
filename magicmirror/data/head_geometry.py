"""A head-shaped depth over a portrait, and where each pixel of a posed frame comes from.

Everything is in *template units*: the side of the aligned head crop is 1, x to the right, y down, as in
``faces.alignment``; so one shape fits every person, and only the nose is anchored on the person's landmark.

The head is a smooth bump over the flat plane of the background, plus the nose. A pose rotates the surface point
``(x, y, depth(x, y))`` about the middle of the head (yaw, pitch) and the neck (roll); the movement is feathered to zero
around the head and below the chin, so shoulders and background stay. The forward map has slopes small enough never to
fold up to about 25 degrees of yaw, hence it has an inverse, which a fixed-point iteration finds: a frame has no
holes or torn edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from magicmirror.data.motion import PoseTrack
from magicmirror.faces.alignment import EYES_X, EYES_Y
from magicmirror.types import Float32Array

MARGIN = 0.35
"""How far the maps of a shape reach beyond the crop, in template units."""
CENTRE = (EYES_X, EYES_Y + 0.07)
HEAD_RADII = (0.44, 0.60)
HEAD_DEPTH = 0.38
NOSE_DEPTH = 0.085
NECK_Y = 0.98
MAP_PX = 96
"""Resolution of a shape's maps, per template unit."""
ITERATIONS = 10


@dataclass(frozen=True)
class HeadShape:
    """Depth and feather of one head.

    Args:
        maps: (S, S, 3) float32: depth, feather of yaw and pitch, feather of roll, over
            ``[-MARGIN, 1 + MARGIN]`` in x and y.
        eyes: (2, 2, 2) corners of the eye on the picture's left and right; outer corner first.
        mouth: (2,) estimated centre of the mouth.
        lips: (2,) like ``mouth``, but below the nose: the nose of a head that looks aside stands out, the lips do not.
    """

    maps: Float32Array
    eyes: Float32Array
    mouth: Float32Array
    lips: Float32Array


def head_shape(landmarks: Float32Array) -> HeadShape:
    """Build the shape of a head.

    Args:
        landmarks: (5, 2) ``dlib5`` landmarks in template units.

    Returns:
        Its shape.
    """
    side = round((1 + 2 * MARGIN) * MAP_PX)
    axis: Float32Array = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(MAP_PX) - np.float32(MARGIN)
    x, y = axis[None, :], axis[:, None]
    dx, dy = x - CENTRE[0], y - CENTRE[1]
    radius2 = (dx / HEAD_RADII[0]) ** 2 + (dy / HEAD_RADII[1]) ** 2
    # Flatter in front and no steeper at the sides than a paraboloid: brows stay level when the head nods.
    depth = HEAD_DEPTH * np.clip(1 - radius2**1.5, 0.0, None) ** 1.4
    nose = landmarks[4] - np.array([0.0, 0.03], dtype=np.float32)
    # The nose falls off quickly below its tip and slowly towards the bridge.
    tall = np.where(y < nose[1], 0.075, 0.045)
    depth += NOSE_DEPTH * np.exp(-0.5 * (((x - nose[0]) / 0.055) ** 2 + ((y - nose[1]) / tall) ** 2))
    radius = np.sqrt(radius2).astype(np.float32)
    shoulders = 1 - _smoothstep(y, NECK_Y - 0.08, NECK_Y + 0.16)
    turn = (1 - _smoothstep(radius, 1.0, 1.6)) * shoulders
    roll = (1 - _smoothstep(radius, 1.1, 2.4)) * shoulders
    eyes = np.stack([landmarks[[2, 3]], landmarks[[0, 1]]])
    middle = eyes.mean(axis=(0, 1))
    mouth = middle + 1.55 * (landmarks[4] - middle)
    return HeadShape(
        maps=np.stack([depth, turn, roll], axis=-1).astype(np.float32),
        eyes=eyes.astype(np.float32),
        mouth=mouth.astype(np.float32),
        lips=np.array([landmarks[4, 0], mouth[1]], dtype=np.float32),
    )


def move_points(shape: HeadShape, x: Float32Array, y: Float32Array, track: PoseTrack) -> tuple[Float32Array, ...]:
    """Move points of the photo to where the head's pose puts them (before the camera).

    Args:
        shape: The head.
        x: (F, ...) in template units.
        y: Like ``x``.
        track: Pose of the F frames.

    Returns:
        x and y after the motion.
    """
    import cv2

    scale, offset = np.float32(MAP_PX), np.float32(MARGIN * MAP_PX - 0.5)
    map_x, map_y = (np.atleast_3d(values * scale + offset) for values in (x, y))
    # One frame at a time: OpenCV's maps end at 32,767 px a side.
    sampled = np.stack(
        [
            cv2.remap(shape.maps, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for maps in zip(map_x, map_y, strict=True)
        ]
    ).reshape(*x.shape, 3)
    depth, turn, tilt = sampled[..., 0], sampled[..., 1], sampled[..., 2]
    (sin_yaw, cos_yaw), (sin_pitch, cos_pitch), (sin_roll, cos_roll) = (
        _sin_cos(angle, x.ndim) for angle in (track.yaw, track.pitch, track.roll)
    )
    dx, dy = x - np.float32(CENTRE[0]), y - np.float32(CENTRE[1])
    turned_x = dx * cos_yaw + depth * sin_yaw
    turned_depth = depth * cos_yaw - dx * sin_yaw
    turned_y = dy * cos_pitch - turned_depth * sin_pitch
    x1, y1 = x + turn * (turned_x - dx), y + turn * (turned_y - dy)
    dx, dy = x1 - np.float32(CENTRE[0]), y1 - np.float32(NECK_Y)
    rolled_x, rolled_y = dx * cos_roll - dy * sin_roll, dx * sin_roll + dy * cos_roll
    return x1 + tilt * (rolled_x - dx), y1 + tilt * (rolled_y - dy)


def backward_map(
    shape: HeadShape, track: PoseTrack, size_px: int, view: Float32Array | None = None
) -> tuple[Float32Array, Float32Array]:
    """Find where each pixel of each frame comes from.

    The head's motion is inverted on a grid of half the resolution (it is smooth) by ``p <- p + (q - move(p))``; the
    camera (zoom, pan) is inverted exactly, and eyelids and mouth are warped at full resolution.

    Args:
        shape: The head.
        track: Pose of the F frames.
        size_px: Side of a frame.
        view: (2, 3) affine map from a frame to the picture that the camera sees; identity where it is not given.

    Returns:
        x and y of the source in template units, each (F, size, size) float32.
    """
    x, y = _camera_rays(track, max(size_px // 2, 2), view)
    from_x, from_y = x, y
    if any(np.any(angle) for angle in (track.yaw, track.pitch, track.roll)):
        for _ in range(ITERATIONS):
            moved_x, moved_y = move_points(shape, from_x, from_y, track)
            from_x, from_y = from_x + (x - moved_x), from_y + (y - moved_y)
    fine_x, fine_y = _camera_rays(track, size_px, view)
    fine_x = fine_x + _enlarge(from_x - x, size_px)
    fine_y = fine_y + _enlarge(from_y - y, size_px)
    for index in np.flatnonzero(track.blink > 1e-3):
        for eye in shape.eyes:
            fine_y[index] = _close_eye(eye, fine_x[index], fine_y[index], float(track.blink[index]))
    for index in np.flatnonzero(track.smile > 1e-3):
        fine_x[index], fine_y[index] = _smile(shape.mouth, fine_x[index], fine_y[index], float(track.smile[index]))
    return fine_x, fine_y


def _camera_rays(track: PoseTrack, size_px: int, view: Float32Array | None) -> tuple[Float32Array, Float32Array]:
    """Undo the view and the camera for the pixel centres: (F, size, size) x and y in template units."""
    axis = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px
    seen_x, seen_y = axis[None, :], axis[:, None]
    if view is not None:
        (xx, xy, x0), (yx, yy, y0) = np.asarray(view, dtype=np.float32)
        seen_x, seen_y = xx * seen_x + xy * seen_y + x0, yx * seen_x + yy * seen_y + y0
    zoom = track.zoom[:, None, None]
    shape = (track.num_frames, size_px, size_px)
    x = (seen_x - CENTRE[0]) / zoom + CENTRE[0] + track.pan_x[:, None, None]
    y = (seen_y - CENTRE[1]) / zoom + CENTRE[1] + track.pan_y[:, None, None]
    return (
        np.ascontiguousarray(np.broadcast_to(x, shape), dtype=np.float32),
        np.ascontiguousarray(np.broadcast_to(y, shape), dtype=np.float32),
    )


def _enlarge(field: Float32Array, size_px: int) -> Float32Array:
    """Resize (F, h, w) to (F, size, size) linearly."""
    import cv2

    size = (size_px, size_px)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in field]).astype(np.float32)


def _close_eye(eye: Float32Array, x: Float32Array, y: Float32Array, closed: float) -> Float32Array:
    """Pull the upper lid over one eye: returns the source y of (H, W) points.

    Per column the skin between brow and lid is stretched down, and the eye is pressed into a line above the lower lid.
    """
    centre = eye.mean(axis=0)
    half_width = float(np.hypot(*(eye[1] - eye[0]))) / 2 * 1.25
    height = 0.42 * half_width
    top, bottom = -2.1, 1.5
    across = (x - centre[0]) / half_width
    slope = float((eye[1, 1] - eye[0, 1]) / (eye[1, 0] - eye[0, 0]))
    v = (y - centre[1] - slope * (x - centre[0])) / height
    lid = -1 + closed * 1.75 * np.clip(1 - across**2, 0.0, None) ** 0.75
    skin = top + (v - top) * (-1 - top) / (lid - top)
    ball = bottom + (v - bottom) * (bottom + 1) / (bottom - lid)
    source = np.where(v < lid, skin, ball)
    inside = (np.abs(across) < 1) & (v > top) & (v < bottom)
    return np.asarray(np.where(inside, y + (source - v) * height, y), dtype=np.float32)


def _smile(mouth: Float32Array, x: Float32Array, y: Float32Array, extent: float) -> tuple[Float32Array, Float32Array]:
    """Lift and widen the corners of the mouth: returns the source of (H, W) points."""
    dy = y - mouth[1]
    shift_x, shift_y = np.zeros_like(x), np.zeros_like(y)
    for side in (-1.0, 1.0):
        dx = x - (mouth[0] + side * 0.105)
        weight = np.exp(-0.5 * ((dx / 0.05) ** 2 + (dy / 0.055) ** 2))
        shift_x += weight * side * 0.033
        shift_y -= weight * 0.039
    return (x - extent * shift_x).astype(np.float32), (y - extent * shift_y).astype(np.float32)


def _smoothstep(values: Float32Array, low: float, high: float) -> Float32Array:
    u = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.asarray(u * u * (3 - 2 * u), dtype=np.float32)


def _sin_cos(degrees: Float32Array, ndim: int) -> tuple[Float32Array, Float32Array]:
    """Sine and cosine, (F, 1, ..., 1)."""
    angle = np.radians(degrees).astype(np.float32).reshape(-1, *([1] * (ndim - 1)))
    return np.sin(angle), np.cos(angle)
