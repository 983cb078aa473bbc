"""Profiles: which weights, at which size, with which defaults. A profile is data; the code is the same for all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from magicmirror.errors import ConfigError
from magicmirror.settings import Settings
from magicmirror.types import GenerationRequest, VideoShape

SchedulerName = Literal["ddim", "dpm"]
_T = TypeVar("_T")

FRAME_STEP = 8
"""The VAE decodes latent frames in pairs after the first, so a video has 8 k + 1 frames."""


def bundled_model(name: str) -> Path:
    """Folder of a model that comes with the repository."""
    return Path(__file__).resolve().parents[2] / "assets" / "models" / name


@dataclass(frozen=True)
class Profile:
    """One way to run the pipeline.

    Args:
        name: As users write it.
        preset: Of ``magicmirror.models.presets``.
        base: Folder or hub id: a saved ``MagicMirrorPipeline``, or a stock CogVideoX that ``identity_encoder`` and an
            adapter are put on.
        shape: Default video; the largest too, but for ``max_frames``.
        sizes_px: (height, width) pairs that the model was trained at; others give garbled pictures.
        analyzer: Face analyzer, see ``magicmirror.faces.analyzer.create_face_analyzer``.
        crop_size_px: Side of the head crop.
        num_inference_steps: Default.
        guidance_scale: Default.
        scheduler: Default.
        use_dynamic_cfg: Whether the guidance grows over the schedule.
        negative_prompt: Used where the request has none.
        identity_encoder: Hub id, folder or file with PhotoMaker-V2's encoder, for a stock ``base``.
        adapter: Folder or hub id; ``None`` where ``base`` contains it or the user must give one.
        cpu_dtype: Of all networks on a CPU or MPS.
        gpu_dtype: Of all networks on a CUDA device.
        vae_tiling: Decode in tiles, which takes less memory.
        frame_step: Videos have ``frame_step * k + 1`` frames: what VAE and patches allow and the weights were made for.
        max_frames: Longest video; ``None`` is that of ``shape``.
    """

    name: str
    preset: str
    base: str
    shape: VideoShape
    sizes_px: tuple[tuple[int, int], ...]
    analyzer: str
    crop_size_px: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: SchedulerName
    use_dynamic_cfg: bool = False
    negative_prompt: str = ""
    identity_encoder: str | None = None
    adapter: str | None = None
    cpu_dtype: Literal["float32", "bfloat16"] = "float32"
    gpu_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    vae_tiling: bool = False
    frame_step: int = FRAME_STEP
    max_frames: int | None = None

    def with_settings(self, settings: Settings) -> Profile:
        """The profile with the weights that the settings name in place of its own."""
        return replace(
            self,
            base=str(settings.model_path) if settings.model_path is not None else self.base,
            adapter=settings.adapter or self.adapter,
            identity_encoder=settings.identity_encoder or self.identity_encoder,
        )

    def dtype_name(self, device_type: str) -> str:
        """Name of the torch dtype on a kind of device."""
        return self.gpu_dtype if device_type == "cuda" else self.cpu_dtype

    def resolve(self, request: GenerationRequest) -> GenerationRequest:
        """Fill in every default of a request.

        Args:
            request: As the user made it.

        Returns:
            The request without a single ``None``.

        Raises:
            ConfigError: If it is for another profile, or its size cannot be made.
        """
        if request.profile != self.name:
            raise ConfigError(f'The request is for the profile "{request.profile}", this is "{self.name}".')
        resolved = replace(
            request,
            negative_prompt=request.negative_prompt or self.negative_prompt,
            num_inference_steps=_or(request.num_inference_steps, self.num_inference_steps),
            guidance_scale=_or(request.guidance_scale, self.guidance_scale),
            num_frames=_or(request.num_frames, self.shape.num_frames),
            height_px=_or(request.height_px, self.shape.height_px),
            width_px=_or(request.width_px, self.shape.width_px),
        )
        self.video_shape(resolved)
        return resolved

    def video_shape(self, request: GenerationRequest) -> VideoShape:
        """The size of the video of a resolved request.

        Raises:
            ConfigError: If this profile cannot make it; names the nearest that it can.
        """
        frames, height, width = request.num_frames, request.height_px, request.width_px
        assert frames is not None and height is not None and width is not None
        step, most = self.frame_step, self.max_frames or self.shape.num_frames
        nearest_frames = 1 + step * round((min(max(frames, 1), most) - 1) / step)
        if frames != nearest_frames:
            raise ConfigError(
                f'"{self.name}" makes 1, {1 + step}, {1 + 2 * step}, ... up to {most} frames, got {frames}.',
                f"The nearest is {nearest_frames}.",
            )
        nearest = min(self.sizes_px, key=lambda size: abs(size[0] - height) + abs(size[1] - width))
        if (height, width) != nearest:
            raise ConfigError(
                f'"{self.name}" cannot make videos of {width} x {height} px (width x height).',
                f"The nearest size is {nearest[1]} x {nearest[0]}.",
            )
        return VideoShape(frames, height, width, self.shape.fps)


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value


_COGVIDEOX_5B = Profile(
    name="cogvideox-5b",
    preset="cogvideox-5b",
    base="zai-org/CogVideoX-5b",
    shape=VideoShape(num_frames=49, height_px=480, width_px=720, fps=8),
    sizes_px=((480, 720),),
    analyzer="insightface",
    crop_size_px=224,
    num_inference_steps=50,
    guidance_scale=6.0,
    scheduler="dpm",
    use_dynamic_cfg=True,
    identity_encoder="TencentARC/PhotoMaker-V2",
    cpu_dtype="bfloat16",
    vae_tiling=True,
)

_COGVIDEOX_1_5_5B = replace(
    _COGVIDEOX_5B,
    name="cogvideox-1.5-5b",
    preset="cogvideox-1.5-5b",
    base="zai-org/CogVideoX1.5-5B",
    shape=VideoShape(num_frames=81, height_px=768, width_px=1360, fps=16),
    sizes_px=((768, 1360),),
    # Trained at 5 and 10 seconds of 16 frames, in patches of two latent frames.
    frame_step=16,
    max_frames=161,
)

_PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="preview",
            preset="preview",
            base=str(bundled_model("preview")),
            shape=VideoShape(num_frames=17, height_px=128, width_px=128, fps=8),
            sizes_px=((128, 128),),
            analyzer="dlib",
            crop_size_px=128,
            # The reference decides nearly all of the picture, so the first estimate is the best one: every further
            # step adds what the model makes up, and the face drifts from its reference (docs/preview_training.md).
            num_inference_steps=2,
            guidance_scale=1.1,
            scheduler="ddim",
            gpu_dtype="float32",
        ),
        _COGVIDEOX_5B,
        _COGVIDEOX_1_5_5B,
    )
}


def profile_names() -> tuple[str, ...]:
    """Names of all profiles, the default first."""
    return tuple(_PROFILES)


def find_profile(name: str, settings: Settings | None = None) -> Profile:
    """Find a profile.

    Args:
        name: One of ``profile_names()``.
        settings: Where to take other weights from.

    Raises:
        ConfigError: For an unknown name.
    """
    if name not in _PROFILES:
        raise ConfigError(f'Unknown profile "{name}".', f"Choose one of {', '.join(_PROFILES)}.")
    profile = _PROFILES[name]
    return profile if settings is None else profile.with_settings(settings)
