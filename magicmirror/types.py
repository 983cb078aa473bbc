"""Frozen values that cross rooms, and the shape legend.

Shape legend, used in every docstring:

===  ==========================================================
B    batch
F    frames (pixel frames in ``VideoShape``, latent frames in models)
C    channels
H W  height and width (px for pictures, latent cells for latents)
T    text tokens
V    video tokens (latent frames x patches)
N    face tokens
D    width of the transformer
===  ==========================================================

Axis order differs by class in diffusers: the CogVideoX transformer takes latents ``(B, F, C, H, W)``,
its VAE ``(B, C, F, H, W)``. Pictures are ``(H, W, 3)`` uint8 RGB, videos ``(F, H, W, 3)`` uint8 RGB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from magicmirror.errors import ConfigError, FaceError, PromptError
from magicmirror.number_checks import check_guidance, check_identity_scale, check_seed, check_steps, whole_number

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

LandmarkScheme = Literal["dlib5", "arcface5"]


@dataclass(frozen=True)
class FaceBox:
    """Axis-aligned box of a face in px of the analysed picture; right and bottom are exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Width in px."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height in px."""
        return self.bottom - self.top

    @property
    def area(self) -> float:
        """Area in square px."""
        return max(self.width, 0.0) * max(self.height, 0.0)


QualityName = Literal["size", "sharpness", "exposure", "highlights", "yaw", "pitch", "roll", "border", "eyes"]


@dataclass(frozen=True)
class QualityCheck:
    """One measured property of a face in a photo, and whether it is good enough for a reference.

    Args:
        name: What was measured, see ``faces.quality``.
        value: The measured number.
        limit: The number that it was compared with, in the same unit.
        unit: ``px``, ``deg``, ``grey levels`` or, for shares and plain numbers, empty.
        passed: Whether the value is good enough.
        remedy: One plain sentence: what is wrong and what to do about it; empty when passed.
    """

    name: QualityName
    value: float
    limit: float
    unit: str
    passed: bool
    remedy: str = ""


@dataclass(frozen=True, eq=False)
class FaceReference:
    """One analysed face: everything that identity conditioning and metrics need from a photo.

    Args:
        box: Where the face is in the photo.
        landmarks: (5, 2) float32, x and y in px of the photo, order of ``landmark_scheme``.
        landmark_scheme: ``dlib5`` (outer and inner corner of the eye on the picture's right, outer and inner
            corner of the eye on the picture's left, base of the nose) or ``arcface5`` (eye, eye, nose, mouth corners).
        crop: (S, S, 3) uint8 RGB, the head aligned to the fixed template of ``faces.alignment``.
        embedding: (E,) float32, the recogniser's raw (not normalised) embedding; E = 128 dlib, 512 ArcFace.
        score: Detector's confidence; larger is surer. Not comparable between detectors.
        quality: Weight in [0, 1] used when several photos are averaged.
        photo_sha256: Hash of the decoded photo, hex; identifies the reference without keeping it.
        checks: What was measured of its quality, see ``faces.quality``.
    """

    box: FaceBox
    landmarks: Float32Array
    landmark_scheme: LandmarkScheme
    crop: UInt8Array
    embedding: Float32Array
    score: float
    quality: float = 1.0
    photo_sha256: str = ""
    checks: tuple[QualityCheck, ...] = ()

    def __post_init__(self) -> None:
        """Refuse arrays of another shape early, where the value is still known."""
        if self.landmarks.shape != (5, 2):
            raise ConfigError(f"landmarks must have shape (5, 2), got {self.landmarks.shape}.")
        if self.crop.ndim != 3 or self.crop.shape[2] != 3 or self.crop.dtype != np.uint8:
            raise ConfigError(f"crop must be (S, S, 3) uint8, got {self.crop.shape} {self.crop.dtype}.")
        if self.embedding.ndim != 1:
            raise ConfigError(f"embedding must be one-dimensional, got {self.embedding.shape}.")
        if not 0.0 <= self.quality <= 1.0:
            raise ConfigError(f"quality must lie in [0, 1], got {self.quality}.")

    @property
    def normalized_embedding(self) -> Float32Array:
        """The embedding at unit length, (E,) float32."""
        length = max(float(np.linalg.norm(self.embedding)), 1e-12)
        return np.asarray(self.embedding / length, dtype=np.float32)


@dataclass(frozen=True)
class VideoShape:
    """Size of a video in px, frames and frames per second."""

    num_frames: int
    height_px: int
    width_px: int
    fps: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_frames / self.fps


@dataclass(frozen=True)
class GenerationRequest:
    """All that one generation depends on; equal requests give equal latents on CLI, page and API.

    ``None`` in a numeric field means "the profile's default"; ``Profile.resolve`` fills it in.

    Args:
        prompt: What the person does.
        references: One or more analysed faces of one person.
        seed: Non-negative; 0 is a seed like any other.
        negative_prompt: What to steer away from.
        num_inference_steps: Denoising steps, 1 to 1000.
        guidance_scale: Classifier-free guidance; 1 switches it off.
        identity_scale: Strength of the identity in [0, 2]; 0 is the base model.
        num_frames: Pixel frames.
        height_px: Height.
        width_px: Width.
        profile: Name of the profile.
    """

    prompt: str
    references: tuple[FaceReference, ...]
    seed: int
    negative_prompt: str = ""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    identity_scale: float = 1.0
    num_frames: int | None = None
    height_px: int | None = None
    width_px: int | None = None
    profile: str = "preview"

    def __post_init__(self) -> None:
        """Check every value, so that bad input never reaches the model."""
        if not self.prompt.strip():
            raise PromptError("The prompt is empty.", 'Describe what the person does, for example "a man smiles".')
        if not self.references:
            raise FaceError("No reference face was given.", "Add at least one photo with one clear face.")
        self._take("seed", check_seed(self.seed))
        if self.num_inference_steps is not None:
            self._take("num_inference_steps", check_steps(self.num_inference_steps))
        if self.guidance_scale is not None:
            self._take("guidance_scale", check_guidance(self.guidance_scale))
        self._take("identity_scale", check_identity_scale(self.identity_scale))
        for name in ("num_frames", "height_px", "width_px"):
            if getattr(self, name) is not None:
                self._take(name, whole_number(name, getattr(self, name)))

    def _take(self, name: str, value: float) -> None:
        """Keep a number as what it is, so that 2.0 and 2 steps are the same request."""
        object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class GeneratedVideo:
    """A finished video and what made it.

    Args:
        frames: (F, H, W, 3) uint8 RGB.
        fps: Frames per second; a whole number, or 24000 / 1001 and the like.
        settings: JSON-able record: prompt, seed, profile, steps, versions, reference hashes.
        likeness: Per-frame cosine similarity to the reference in [-1, 1], ``None`` where no face was found;
            empty when it was not measured.
        timings_s: Seconds per stage.
    """

    frames: UInt8Array
    fps: float
    settings: dict[str, Any]
    likeness: tuple[float | None, ...] = ()
    timings_s: dict[str, float] = field(default_factory=dict)
