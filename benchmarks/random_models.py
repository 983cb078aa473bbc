"""Networks with random weights at a named size: time and memory do not depend on the values.

``reduced`` is for a CPU. It keeps what the adapter's share of the work depends on as close to CogVideoX-5B as a CPU
allows: heads of 64, 226 text tokens, 32 face tokens, the published width of the adapter relative to the block, an
adapter in every other block, attention as half of the work, and 90 times more video than face tokens (548 at full
size, so the adapter's share is larger here). ``cogvideox-5b`` and ``cogvideox-1.5-5b`` are the published sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from torch import Tensor

from magicmirror.models.presets import model_preset
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.pipeline.conditioning import IdentityCondition
from magicmirror.pipeline.denoising import rotary_embedding
from magicmirror.pipeline.profiles import find_profile

ADAPTER_KEYS = ("identity_dim", "num_face_tokens", "identity_proj_dim", "can_hidden_dim")
SCHEDULE = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "snr_shift_scale": 1.0,
    "timestep_spacing": "trailing",
    "clip_sample": False,
}


@dataclass(frozen=True)
class Size:
    """One size to measure at.

    Args:
        name: For tables.
        transformer: Constructor arguments of ``MagicMirrorTransformer3DModel``.
        latent_frames: F.
        latent_height: H.
        latent_width: W.
        dtype: Of weights and activations.
    """

    name: str
    transformer: dict[str, Any]
    latent_frames: int
    latent_height: int
    latent_width: int
    dtype: torch.dtype

    @property
    def video_tokens(self) -> int:
        """V."""
        patch, patch_t = self.transformer.get("patch_size", 2), self.transformer.get("patch_size_t") or 1
        return self.latent_frames // patch_t * (self.latent_height // patch) * (self.latent_width // patch)

    def facts(self) -> dict[str, Any]:
        """What a reader must know to judge a figure."""
        config = self.transformer
        return {
            "size": self.name,
            "layers": config["num_layers"],
            "width": config["num_attention_heads"] * config["attention_head_dim"],
            "video_tokens": self.video_tokens,
            "text_tokens": config["max_text_seq_length"],
            "face_tokens": config["num_face_tokens"],
            "dtype": str(self.dtype).removeprefix("torch."),
        }


def reduced(
    heads: int = 8,
    layers: int = 4,
    frames: int = 3,
    height: int = 48,
    width: int = 80,
    dtype: torch.dtype = torch.float32,
) -> Size:
    """A size for a CPU; H and W in latent cells."""
    published = model_preset("cogvideox-5b").transformer
    config = {
        **published,
        "num_attention_heads": heads,
        "num_layers": layers,
        "sample_height": height,
        "sample_width": width,
        "sample_frames": 4 * (frames - 1) + 1,
        "text_embed_dim": 1024,
        # As wide, next to the block, as at full size (512 and 1024 of 3072).
        "identity_proj_dim": heads * 64 // 6,
        "can_hidden_dim": heads * 64 // 3,
    }
    return Size("reduced", config, frames, height, width, dtype)


def published(preset: str) -> Size:
    """The published size of a backbone at its own resolution and length, in bfloat16."""
    config, shape = model_preset(preset).transformer, find_profile(preset).shape
    frames = (shape.num_frames - 1) // 4 + 1
    frames += -frames % (config.get("patch_size_t") or 1)
    return Size(preset, config, frames, shape.height_px // 8, shape.width_px // 8, torch.bfloat16)


def build_pair(size: Size, device: torch.device) -> tuple[CogVideoXTransformer3DModel, MagicMirrorTransformer3DModel]:
    """The stock transformer, and ours around the same weights with an adapter that is not zero."""
    adapter = {key: value for key, value in size.transformer.items() if key in ADAPTER_KEYS}
    stock_config = {key: value for key, value in size.transformer.items() if key not in ADAPTER_KEYS}
    before = torch.get_default_dtype()
    torch.set_default_dtype(size.dtype)
    try:
        torch.manual_seed(0)
        with device:
            stock = CogVideoXTransformer3DModel(**stock_config).eval()
    finally:
        torch.set_default_dtype(before)
    ours = MagicMirrorTransformer3DModel.from_base(stock, **adapter).eval()
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if ours.is_adapter_key(name):
                parameter.normal_(std=0.02)
    return stock.requires_grad_(False), ours.requires_grad_(False)


@dataclass(frozen=True)
class Inputs:
    """What a loop starts from; text and identity of one row, without the unconditional one.

    Args:
        latents: (B, F, C, H, W).
        text: (B, T, D_txt).
        identity: B rows.
        rotary: Of ``rotary_embedding``.
    """

    latents: Tensor
    text: Tensor
    identity: IdentityCondition
    rotary: tuple[Tensor, Tensor] | None

    @classmethod
    def random(cls, size: Size, model: MagicMirrorTransformer3DModel, batch: int = 1) -> Inputs:
        """Draw them on the model's device."""
        config, device = model.config, model.device
        generator = torch.Generator("cpu").manual_seed(1)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(device, size.dtype)

        latents = draw(batch, size.latent_frames, config.in_channels, size.latent_height, size.latent_width)
        width = config.num_attention_heads * config.attention_head_dim
        identity = IdentityCondition(
            draw(batch, config.num_identity_tokens, config.identity_dim), draw(batch, config.num_face_tokens, width)
        )
        text = draw(batch, config.max_text_seq_length, config.text_embed_dim)
        return cls(latents, text, identity, rotary_embedding(config, latents.shape, device))


def scheduler(steps: int, device: torch.device) -> CogVideoXDDIMScheduler:
    """CogVideoX-5B's schedule."""
    made = CogVideoXDDIMScheduler(**SCHEDULE)
    made.set_timesteps(steps, device=device)
    return made


def wait(device: torch.device) -> None:
    """Wait for queued work of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
