"""What forecasts need to know of a model: bytes of its weights and the sizes that activations and work grow with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from magicmirror.settings import Quantisation
from magicmirror.types import GenerationRequest

NETWORKS = (
    "image_encoder",
    "identity_perceiver",
    "face_perceiver",
    "text_encoder",
    "identity_fusion",
    "transformer",
    "vae",
)
_EIGHT_BITS = ("transformer", "text_encoder")
"""Networks that quantisation concerns."""
_TILE_STEPS_PX = (6 * 8, 5 * 8)


@dataclass(frozen=True)
class VideoWork:
    """One video to make.

    Args:
        num_frames: Pixel frames.
        height_px: Height.
        width_px: Width.
        guided: Whether every step runs the transformer on two rows.
        steps: Denoising steps.
        videos: Made at once.
    """

    num_frames: int
    height_px: int
    width_px: int
    guided: bool = True
    steps: int = 50
    videos: int = 1

    @property
    def rows(self) -> int:
        """B of the transformer."""
        return self.videos * (2 if self.guided else 1)

    @property
    def latent_frames(self) -> int:
        """F of the latents, before CogVideoX 1.5 pads them."""
        return (self.num_frames - 1) // 4 + 1

    def video_tokens(self, patch: int, patch_t: int) -> int:
        """V, for patches of ``patch_t`` latent frames and ``patch`` cells a side."""
        return -(-self.latent_frames // patch_t) * (self.height_px // 8 // patch) * (self.width_px // 8 // patch)


def requested_work(request: GenerationRequest) -> VideoWork:
    """The video of a request that ``Profile.resolve`` has filled in."""
    frames, height, width, steps = (
        request.num_frames,
        request.height_px,
        request.width_px,
        request.num_inference_steps,
    )
    assert frames and height and width and steps
    return VideoWork(frames, height, width, (request.guidance_scale or 1.0) > 1.0, steps)


@dataclass(frozen=True)
class ModelSize:
    """One model.

    Args:
        weights: Bytes by network.
        block_bytes: Of the largest block of the transformer.
        rest_bytes: Of what of the transformer is in no block.
        leaf_bytes: Of the largest layer of all networks.
        width: D of the transformer.
        adapted_layers: Those with an adapter.
        text_tokens: T.
        face_tokens: N.
        patch: Side of a patch in latent cells.
        patch_t: Latent frames of a patch.
        latent_channels: Of the VAE.
        vae_channels: Channels of the VAE at full size.
        tile_px: (height, width) of a tile.
        value_bytes: Of one activation.
    """

    weights: Mapping[str, int]
    block_bytes: int
    rest_bytes: int
    leaf_bytes: int
    width: int
    adapted_layers: int
    text_tokens: int
    face_tokens: int
    patch: int
    patch_t: int
    latent_channels: int
    vae_channels: int
    tile_px: tuple[int, int]
    value_bytes: int

    def tokens(self, work: VideoWork) -> int:
        """T + N + V of a row."""
        return self.text_tokens + self.face_tokens + work.video_tokens(self.patch, self.patch_t)


def measure_networks(networks: Mapping[str, Any], value_bytes: int, quantisation: Quantisation = "none") -> ModelSize:
    """Read the sizes of networks; their weights may lie anywhere, and count with the precision that they will get.

    Args:
        networks: By the names in ``NETWORKS``.
        value_bytes: Of one weight and one activation.
        quantisation: Of the transformer and the text encoder.
    """
    from magicmirror.pipeline.quantisation import planned_bytes

    transformer, vae = networks["transformer"], networks["vae"]
    eight_bits = quantisation != "none"
    weights = {
        name: planned_bytes(networks[name], value_bytes, eight_bits and name in _EIGHT_BITS) for name in NETWORKS
    }
    blocks = [
        planned_bytes(block, value_bytes, eight_bits, f"transformer_blocks.{index}.")
        for index, block in enumerate(transformer.transformer_blocks)
    ]
    leaves = (
        sum(parameter.numel() for parameter in layer.parameters(recurse=False)) * value_bytes
        for network in networks.values()
        for layer in network.modules()
    )
    config = transformer.config
    return ModelSize(
        weights=weights,
        block_bytes=max(blocks),
        rest_bytes=weights["transformer"] - sum(blocks),
        leaf_bytes=max(leaves),
        width=config.num_attention_heads * config.attention_head_dim,
        adapted_layers=sum(block.adapter is not None for block in transformer.transformer_blocks),
        text_tokens=config.max_text_seq_length,
        face_tokens=config.num_face_tokens,
        patch=config.patch_size,
        patch_t=config.patch_size_t or 1,
        latent_channels=vae.config.latent_channels,
        vae_channels=vae.config.block_out_channels[0],
        tile_px=whole_tile_px(vae),
        value_bytes=value_bytes,
    )


def whole_tile_px(vae: Any) -> tuple[int, int]:
    """(height, width) of the tiles of a VAE, about half of its own size, with a whole number of cells in every overlap.

    diffusers lets tiles overlap by a sixth of their height and a fifth of their width and rounds cells and pixels on
    their own: a tile whose sides are not such multiples gives a video of another size.
    """
    sides = zip((vae.config.sample_height, vae.config.sample_width), _TILE_STEPS_PX, strict=True)
    height, width = (max(side // 2 // step, 1) * step for side, step in sides)
    return height, width


@lru_cache(maxsize=8)
def preset_size(preset: str, value_bytes: int, quantisation: Quantisation = "none") -> ModelSize:
    """Sizes of a preset before anything is loaded; its networks are built on the meta device (about a second).

    Raises:
        ConfigError: For an unknown preset.
    """
    from magicmirror.models.parameters import build_networks

    return measure_networks(build_networks(preset), value_bytes, quantisation)
