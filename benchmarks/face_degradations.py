"""Ways to spoil a good portrait step by step, each in a unit that does not depend on the photo's size.

Every function takes a photo, (H, W, 3) uint8 RGB, its (5, 2) ``dlib5`` landmarks in px, and one step, and returns the
spoilt photo. ``FAMILIES`` names them, with their steps from mild to severe; ``face_quality.py`` measures what they do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from magicmirror.data.head_geometry import backward_map, head_shape
from magicmirror.data.motion import PoseTrack
from magicmirror.faces.alignment import eye_distance_px, head_transform, transform_points
from magicmirror.types import Float32Array, UInt8Array

TURNED_SIDE_PX = 320
TURNED_MARGIN = 0.15
"""A turned head is rendered with this much around the head template, in its sides, so that a detector finds it."""

Spoil = Callable[[UInt8Array, Float32Array, float], UInt8Array]


@dataclass(frozen=True)
class Family:
    """One way to spoil a photo.

    Args:
        check: The check of ``magicmirror.faces.quality`` that should notice it; empty for none.
        unit: What a step is measured in.
        steps: From mild to severe.
        spoil: Does it.
    """

    check: str
    unit: str
    steps: tuple[float, ...]
    spoil: Spoil


def shrink(image: UInt8Array, landmarks: Float32Array, eyes_px: float) -> UInt8Array:
    """Reduce the photo until the eyes are ``eyes_px`` apart."""
    ratio = eyes_px / eye_distance_px(landmarks, "dlib5")
    height, width = image.shape[:2]
    return _resized(image, (max(1, round(width * ratio)), max(1, round(height * ratio))))


def enlarge_small(image: UInt8Array, landmarks: Float32Array, eyes_px: float) -> UInt8Array:
    """Reduce the photo until the eyes are ``eyes_px`` apart and enlarge it again: large, but without detail."""
    height, width = image.shape[:2]
    return _resized(shrink(image, landmarks, eyes_px), (width, height))


def blur(image: UInt8Array, landmarks: Float32Array, sigma: float) -> UInt8Array:
    """Blur with a Gaussian; sigma in percent of the eye distance."""
    sigma_px = sigma / 100 * eye_distance_px(landmarks, "dlib5")
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), dtype=np.uint8)


def smear(image: UInt8Array, landmarks: Float32Array, length: float) -> UInt8Array:
    """Blur by a sideways motion; length in percent of the eye distance."""
    length_px = length / 100 * eye_distance_px(landmarks, "dlib5")
    taps = 2 * int(np.ceil(length_px / 2)) + 1
    offsets = np.abs(np.arange(taps) - taps // 2)
    kernel = np.clip(length_px / 2 + 0.5 - offsets, 0.0, 1.0)
    return np.asarray(cv2.filter2D(image, -1, (kernel / kernel.sum())[None, :].astype(np.float32)), dtype=np.uint8)


def noise(image: UInt8Array, landmarks: Float32Array, deviation: float) -> UInt8Array:
    """Add noise of this standard deviation in grey levels; the same for the same photo."""
    rng = np.random.default_rng(int(image.sum()))
    return _to_uint8(image + rng.normal(0.0, deviation, image.shape))


def compress(image: UInt8Array, landmarks: Float32Array, quality: float) -> UInt8Array:
    """Store as JPEG of this quality."""
    _, packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return np.ascontiguousarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1], dtype=np.uint8)


def expose(image: UInt8Array, landmarks: Float32Array, stops: float) -> UInt8Array:
    """Expose by more or fewer stops: twice or half the light each, in linear light, cut at white."""
    linear = (image.astype(np.float32) / 255) ** 2.2 * 2.0**stops
    return _to_uint8(255 * np.clip(linear, 0, 1) ** (1 / 2.2))


def fade(image: UInt8Array, landmarks: Float32Array, contrast: float) -> UInt8Array:
    """Reduce the contrast about a light grey, as haze or a dirty lens does."""
    return _to_uint8(170 + (image.astype(np.float32) - 170) * contrast)


def turn(image: UInt8Array, landmarks: Float32Array, yaw: float, pitch: float) -> UInt8Array:
    """Turn the head by ``data.head_geometry``; signs as in ``data.motion``. (320, 320, 3), also at rest."""
    matrix = head_transform(landmarks, "dlib5", TURNED_SIDE_PX)
    template = ((transform_points(matrix, landmarks) + 0.5) / TURNED_SIDE_PX).astype(np.float32)
    track = PoseTrack.at_rest(1)
    track.yaw[0], track.pitch[0] = yaw, pitch
    zoom = 1 + 2 * TURNED_MARGIN
    view = np.array([[zoom, 0, -TURNED_MARGIN], [0, zoom, -TURNED_MARGIN]], dtype=np.float32)
    x, y = backward_map(head_shape(template), track, TURNED_SIDE_PX, view)
    inverse = cv2.invertAffineTransform(matrix)
    points = np.stack([x[0], y[0]], axis=-1) * TURNED_SIDE_PX - 0.5
    source = transform_points(np.asarray(inverse, dtype=np.float32), points)
    frame = cv2.remap(image, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(frame, dtype=np.uint8)


def roll(image: UInt8Array, landmarks: Float32Array, degrees: float) -> UInt8Array:
    """Turn the whole photo clockwise about the face; positive tilts the head's top to +x."""
    centre = landmarks.mean(axis=0)
    matrix = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), -degrees, 1.0)
    height, width = image.shape[:2]
    turned = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(turned, dtype=np.uint8)


def cut(image: UInt8Array, landmarks: Float32Array, share: float, side: str) -> UInt8Array:
    """Cut the photo so that this share (percent) of the head template is lost at one side."""
    matrix = cv2.invertAffineTransform(head_transform(landmarks, "dlib5", 100))
    along = share if side in {"left", "top"} else 100 - share
    point = np.array([along, 50.0] if side in {"left", "right"} else [50.0, along], dtype=np.float32)
    x, y = (max(round(float(value)), 0) for value in transform_points(np.asarray(matrix, np.float32), point))
    kept = {"left": image[:, x:], "right": image[:, :x], "top": image[y:], "bottom": image[:y]}[side]
    return np.ascontiguousarray(kept)


# Outline of one lens about its centre, in eye distances, for the eye on the picture's right; the other is mirrored.
_ANGLES = np.linspace(0, 2 * np.pi, 48, endpoint=False)
LENSES: dict[str, Float32Array] = {
    "round": np.stack([0.36 * np.cos(_ANGLES), 0.36 * np.sin(_ANGLES)], axis=-1).astype(np.float32),
    "square": np.array([[-0.38, -0.25], [0.46, -0.28], [0.40, 0.26], [-0.30, 0.26]], dtype=np.float32),
    "aviator": np.array(
        [[-0.40, -0.22], [0.42, -0.24], [0.44, 0.05], [0.30, 0.36], [0.02, 0.44], [-0.26, 0.28]], dtype=np.float32
    ),
    "narrow": np.array([[-0.36, -0.16], [0.44, -0.18], [0.40, 0.16], [-0.32, 0.16]], dtype=np.float32),
}


def wear(image: UInt8Array, landmarks: Float32Array, opacity: float, lens: str) -> UInt8Array:
    """Draw dark glasses; opacity in percent. Lenses have a soft reflection, so they are not of one colour."""
    side = 4 * TURNED_SIDE_PX
    inverse = np.asarray(cv2.invertAffineTransform(head_transform(landmarks, "dlib5", side)), dtype=np.float32)
    eyes = 0.27 * side
    mask = np.zeros(image.shape[:2], dtype=np.float32)
    for sign in (-1.0, 1.0):
        outline = np.array([0.5, 0.455], dtype=np.float32) * side + eyes * (
            (LENSES[lens] + np.array([0.5, 0.0], dtype=np.float32)) * np.array([sign, 1.0], dtype=np.float32)
        )
        _fill(mask, transform_points(inverse, outline))
    bridge = np.array([[-0.16, -0.12], [0.16, -0.12], [0.16, -0.05], [-0.16, -0.05]], dtype=np.float32)
    _fill(mask, transform_points(inverse, np.array([0.5, 0.455], dtype=np.float32) * side + eyes * bridge))
    rows = np.linspace(0, 1, image.shape[0], dtype=np.float32)[:, None, None]
    tint = np.array([34, 30, 28], dtype=np.float32) * (1.6 - 1.2 * rows)
    weight = mask[..., None] * opacity / 100
    return _to_uint8(image * (1 - weight) + tint * weight)


def _fill(mask: Float32Array, outline: Float32Array) -> None:
    """Draw a filled outline with soft edges; coordinates in px."""
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 1.0, lineType=cv2.LINE_AA, shift=4)


def _resized(image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    method = cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)


def _to_uint8(values: np.ndarray) -> UInt8Array:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


FAMILIES: dict[str, Family] = {
    "shrunk": Family("size", "px between the eyes", (40, 30, 24, 20, 16, 12, 10, 8), shrink),
    "enlarged again": Family("sharpness", "px between the eyes before", (30, 20, 16, 12, 8), enlarge_small),
    "blurred": Family("sharpness", "% of the eye distance", (2, 3, 4.5, 6, 8, 11, 15), blur),
    "smeared": Family("sharpness", "% of the eye distance", (8, 15, 25, 40), smear),
    "noise": Family("", "grey levels", (8, 16, 32), noise),
    "JPEG": Family("", "quality", (40, 15, 7), compress),
    "underexposed": Family("exposure", "stops", (-1, -2, -3, -4, -5, -6), expose),
    "overexposed": Family("highlights", "stops", (0.5, 1, 1.5, 2, 2.5, 3), expose),
    "faded": Family("exposure", "of the contrast", (0.6, 0.35, 0.2, 0.1), fade),
    "turned left": Family("yaw", "degrees", (0, -10, -20, -30), lambda i, p, s: turn(i, p, s, 0.0)),
    "turned right": Family("yaw", "degrees", (0, 10, 20, 30), lambda i, p, s: turn(i, p, s, 0.0)),
    "looking down": Family("pitch", "degrees", (-10, -20, -30), lambda i, p, s: turn(i, p, 0.0, s)),
    "looking up": Family("pitch", "degrees", (10, 20, 30), lambda i, p, s: turn(i, p, 0.0, s)),
    "tilted": Family("roll", "degrees", (10, 20, 30, 40, 50), roll),
    "cut left": Family("border", "% of the head's square", (10, 20, 30, 40), lambda i, p, s: cut(i, p, s, "left")),
    "cut top": Family("border", "% of the head's square", (10, 20, 30, 40), lambda i, p, s: cut(i, p, s, "top")),
    "cut bottom": Family("border", "% of the head's square", (10, 20, 30, 40), lambda i, p, s: cut(i, p, s, "bottom")),
    "round glasses": Family("eyes", "% opaque", (60, 80, 100), lambda i, p, s: wear(i, p, s, "round")),
    "square glasses": Family("eyes", "% opaque", (60, 80, 100), lambda i, p, s: wear(i, p, s, "square")),
    "aviator glasses": Family("eyes", "% opaque", (60, 80, 100), lambda i, p, s: wear(i, p, s, "aviator")),
    "narrow glasses": Family("eyes", "% opaque", (60, 80, 100), lambda i, p, s: wear(i, p, s, "narrow")),
}
