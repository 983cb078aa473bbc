"""From one still portrait: a clip of that person with known motion, and other views of the same person."""

from __future__ import annotations

import numpy as np

from magicmirror.data.head_geometry import HeadShape, backward_map, head_shape, move_points
from magicmirror.data.motion import ClipSpec, PoseTrack, pose_track
from magicmirror.data.mouth import find_mouth, open_mouth, paint_inside
from magicmirror.data.style import apply_style
from magicmirror.errors import ConfigError
from magicmirror.faces.alignment import EYE_DISTANCE, EYES_X, EYES_Y, head_transform, transform_points
from magicmirror.types import Float32Array, LandmarkScheme, UInt8Array

CANVAS_OVERSAMPLING = 1.5
CANVAS_MARGIN = 0.25
SCHEME: LandmarkScheme = "dlib5"


def render_clip(
    image: UInt8Array, landmarks: Float32Array, spec: ClipSpec, num_frames: int = 17, size_px: int = 128
) -> UInt8Array:
    """Animate a portrait.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (5, 2) ``dlib5`` landmarks in px of ``image``.
        spec: Motions and style.
        num_frames: Frames F; 1 gives the still at rest.
        size_px: Side S of a frame.

    Returns:
        (F, S, S, 3) uint8 RGB; frame 0 is the aligned head crop with the style.

    Raises:
        ConfigError: When the picture or the landmarks cannot be used, or the style is unknown.
    """
    canvas, shape = _canvas(image, landmarks, size_px)
    frames = _render(canvas, shape, pose_track(spec.motions, num_frames), size_px)
    return apply_style(frames, spec.style, spec.pattern)


def reference_view(
    image: UInt8Array, landmarks: Float32Array, rng: np.random.Generator, size_px: int = 128
) -> UInt8Array:
    """Make another picture of the same person, as an aligned head crop.

    The head gets a small random pose and is aligned anew (with the small errors a landmark finder makes); light,
    colour, sharpness and compression vary.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (5, 2) ``dlib5`` landmarks in px of ``image``.
        rng: Source of all randomness.
        size_px: Side S of the crop.

    Returns:
        (S, S, 3) uint8 RGB.

    Raises:
        ConfigError: When the picture or the landmarks cannot be used.
    """
    canvas, shape = _canvas(image, landmarks, size_px)
    still = PoseTrack.at_rest(1)
    # Both signs of yaw, but never the frontal view itself.
    yaw = rng.uniform(4.0, 15.0) * rng.choice((-1.0, 1.0))
    track = PoseTrack(
        yaw=np.array([yaw], dtype=np.float32),
        pitch=np.array([rng.uniform(-8.0, 8.0)], dtype=np.float32),
        roll=still.roll,
        zoom=still.zoom,
        pan_x=still.pan_x,
        pan_y=still.pan_y,
        blink=still.blink,
        smile=np.array([rng.uniform(0.0, 0.8) if rng.random() < 0.3 else 0.0], dtype=np.float32),
        mouth=np.array([rng.uniform(0.1, 0.5) if rng.random() < 0.15 else 0.0], dtype=np.float32),
    )
    corners = shape.eyes.reshape(1, 4, 2)
    x, y = move_points(shape, corners[..., 0].copy(), corners[..., 1].copy(), track)
    view = _realigned(np.stack([x[0], y[0]], axis=-1), rng)
    return _photograph(_render(canvas, shape, track, size_px, view)[0], rng)


def _canvas(image: UInt8Array, landmarks: Float32Array, size_px: int) -> tuple[UInt8Array, HeadShape]:
    """Lay the photo on a canvas in template units with a mirrored margin, and build the head's shape."""
    import cv2

    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ConfigError(f"A portrait must be (H, W, 3) uint8, got {image.shape} {image.dtype}.")
    unit = round(size_px * CANVAS_OVERSAMPLING)
    matrix = head_transform(landmarks, SCHEME, unit)
    template = ((transform_points(matrix, landmarks) + 0.5) / unit).astype(np.float32)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:
        # A plain warp of a much larger photo would alias.
        factor = 1.0 / int(1.0 / scale)
        height, width = image.shape[:2]
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        ratio = np.array([size[0] / width, size[1] / height], dtype=np.float32)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        matrix = head_transform((landmarks + 0.5) * ratio - 0.5, SCHEME, unit)
    margin = _margin(size_px)
    matrix[:, 2] += margin
    side = unit + 2 * margin
    canvas = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(canvas, dtype=np.uint8), head_shape(template)


def _render(
    canvas: UInt8Array, shape: HeadShape, track: PoseTrack, size_px: int, view: Float32Array | None = None
) -> UInt8Array:
    """Render the poses of a head: (F, S, S, 3) uint8 RGB; ``view`` as in ``backward_map``."""
    x, y = backward_map(shape, track, size_px, view)
    speaking = np.flatnonzero(track.mouth > 1e-3)
    if not len(speaking):
        return _sample(canvas, x, y, size_px)
    margin = _margin(size_px)
    mouth = find_mouth(canvas[margin:-margin, margin:-margin], shape.lips)
    at_rest, gaps = y.copy(), np.zeros_like(y)
    for index in speaking:
        y[index], gaps[index] = open_mouth(mouth, x[index], y[index], float(track.mouth[index]))
    frames = _sample(canvas, x, y, size_px)
    for index in speaking:
        frames[index] = paint_inside(frames[index], mouth, gaps[index], at_rest[index])
    return frames


def _sample(canvas: UInt8Array, x: Float32Array, y: Float32Array, size_px: int) -> UInt8Array:
    """Read the canvas at (F, S, S) template coordinates."""
    import cv2

    unit = round(size_px * CANVAS_OVERSAMPLING)
    offset = np.float32(_margin(size_px) - 0.5)
    scale = np.float32(unit)
    # One frame at a time: OpenCV's maps end at 32,767 px a side.
    frames = [
        cv2.remap(canvas, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        for maps in zip(x * scale + offset, y * scale + offset, strict=True)
    ]
    return np.asarray(np.stack(frames), dtype=np.uint8)


def _margin(size_px: int) -> int:
    """Width in px of the canvas around the head crop."""
    return round(CANVAS_MARGIN * round(size_px * CANVAS_OVERSAMPLING))


def _realigned(corners: Float32Array, rng: np.random.Generator) -> Float32Array:
    """Align a posed head by its eyes, off by up to 1.5 px of 128, 3 % and 1.5 degrees.

    Args:
        corners: (4, 2) corners of the eye on the left and on the right, in template units.
        rng: Source of the errors.

    Returns:
        (2, 3) map from the aligned crop to the posed picture, both in template units.
    """
    left, right = (complex(*corners[[first, first + 1]].mean(axis=0)) for first in (0, 2))
    factor = (
        (right - left) / EYE_DISTANCE * np.exp(complex(rng.uniform(-0.03, 0.03), np.radians(rng.uniform(-1.5, 1.5))))
    )
    off = complex(*rng.uniform(-1.5, 1.5, 2)) / 128
    shift = (left + right) / 2 - factor * (complex(EYES_X, EYES_Y) + off)
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]], dtype=np.float32)


def _photograph(crop: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """Vary light from the side, exposure, colour temperature, sharpness, noise and compression."""
    import cv2

    size = crop.shape[0]
    values = crop.astype(np.float32) / 255.0
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    side = np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None]
    values *= (1 + rng.uniform(0.0, 0.25) * side)[..., None].astype(np.float32)
    warmth = rng.uniform(-0.10, 0.10)
    values *= np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32) * np.float32(rng.uniform(0.8, 1.18))
    values = np.clip(values, 0, 1) ** np.float32(np.exp(rng.uniform(-0.25, 0.25)))
    if rng.random() < 0.5:
        values = cv2.GaussianBlur(values, (0, 0), rng.uniform(0.3, 0.9) * size / 128)
    values = values + rng.standard_normal(values.shape, dtype=np.float32) * np.float32(rng.uniform(0.0, 0.02))
    view = np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)
    quality = int(rng.integers(50, 96))
    _, packed = cv2.imencode(".jpg", view[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    unpacked: UInt8Array = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(unpacked[..., ::-1])
