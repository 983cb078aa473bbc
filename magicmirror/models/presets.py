"""Configurations of the networks by name: a profile is one of these, never another class.

``cogvideox-5b`` has the published sizes of CogVideoX-5B, T5-v1.1-XXL and PhotoMaker-V2's encoder, with the adapter of
the paper; ``cogvideox-1.5-5b`` is the same around CogVideoX-1.5-5B. ``preview`` is the same classes at the size that
fits into the repository (``docs/training.md``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from magicmirror.errors import ConfigError


@dataclass(frozen=True)
class ModelPreset:
    """Constructor arguments of every network of a profile.

    Args:
        transformer: Of ``MagicMirrorTransformer3DModel``.
        identity_perceiver: Of ``IdentityPerceiver``.
        face_perceiver: Of ``FacePerceiver``.
        identity_fusion: Of ``IdentityFusion``.
        image_encoder: Of ``transformers.CLIPVisionConfig``.
        text_encoder: Of ``transformers.T5Config``.
        vae: Of ``diffusers.AutoencoderKLCogVideoX``.
    """

    transformer: dict[str, Any]
    identity_perceiver: dict[str, Any]
    face_perceiver: dict[str, Any]
    identity_fusion: dict[str, Any]
    image_encoder: dict[str, Any]
    text_encoder: dict[str, Any]
    vae: dict[str, Any]


_COGVIDEOX_5B = ModelPreset(
    transformer={
        "num_attention_heads": 48,
        "attention_head_dim": 64,
        "time_embed_dim": 512,
        "text_embed_dim": 4096,
        "num_layers": 42,
        "sample_width": 90,
        "sample_height": 60,
        "sample_frames": 49,
        "max_text_seq_length": 226,
        "use_rotary_positional_embeddings": True,
        "identity_dim": 2048,
        "num_face_tokens": 32,
        "identity_proj_dim": 512,
        "can_hidden_dim": 1024,
    },
    identity_perceiver={},
    face_perceiver={},
    identity_fusion={},
    image_encoder={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "quick_gelu",
    },
    text_encoder={
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "vocab_size": 32128,
        "feed_forward_proj": "gated-gelu",
    },
    vae={
        "block_out_channels": (128, 256, 256, 512),
        "layers_per_block": 3,
        "latent_channels": 16,
        "down_block_types": ("CogVideoXDownBlock3D",) * 4,
        "up_block_types": ("CogVideoXUpBlock3D",) * 4,
        "scaling_factor": 0.7,
        "invert_scale_latents": False,
    },
)

# Patches of two latent frames, and positions cut out of one large grid. Text to video has no ``ofs``.
_COGVIDEOX_1_5_5B = replace(
    _COGVIDEOX_5B,
    transformer={
        **_COGVIDEOX_5B.transformer,
        "patch_size_t": 2,
        "patch_bias": False,
        "sample_width": 300,
        "sample_height": 300,
        "sample_frames": 81,
    },
)

_PREVIEW = ModelPreset(
    transformer={
        "num_attention_heads": 4,
        "attention_head_dim": 64,
        "time_embed_dim": 64,
        "text_embed_dim": 96,
        "num_layers": 7,
        "sample_width": 16,
        "sample_height": 16,
        "sample_frames": 17,
        "max_text_seq_length": 40,
        # Rotary and absolute positions together, as CogVideoX-5B-I2V has them: a face token without a place can
        # then be matched to the place where it belongs, which a small model does not learn from rotary alone.
        "use_rotary_positional_embeddings": True,
        "use_learned_positional_embeddings": True,
        "spatial_interpolation_scale": 1.0,
        "identity_dim": 128,
        "num_face_tokens": 64,
        "identity_proj_dim": 64,
        "can_hidden_dim": 64,
    },
    identity_perceiver={"embedding_dim": 128, "patch_dim": 128, "token_dim": 128, "depth": 1, "head_dim": 32},
    face_perceiver={
        "patch_dim": 128,
        "dim": 128,
        "output_dim": 256,
        "num_queries": 64,
        "depth": 2,
        "head_dim": 32,
    },
    identity_fusion={"identity_dim": 128, "text_dim": 96, "hidden_dim": 192},
    image_encoder={
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 128,
        "patch_size": 16,
        "hidden_act": "quick_gelu",
    },
    text_encoder={
        "d_model": 96,
        "d_kv": 24,
        "d_ff": 256,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 1536,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
    },
    vae={
        "block_out_channels": (16, 32, 64, 96),
        "layers_per_block": 1,
        "latent_channels": 16,
        "down_block_types": ("CogVideoXDownBlock3D",) * 4,
        "up_block_types": ("CogVideoXUpBlock3D",) * 4,
        "norm_num_groups": 8,
        "scaling_factor": 1.15258426,
        "invert_scale_latents": False,
        "sample_height": 128,
        "sample_width": 128,
    },
)

_PRESETS = {"cogvideox-5b": _COGVIDEOX_5B, "cogvideox-1.5-5b": _COGVIDEOX_1_5_5B, "preview": _PREVIEW}


def preset_names() -> tuple[str, ...]:
    """Names of all presets."""
    return tuple(_PRESETS)


def model_preset(name: str) -> ModelPreset:
    """Find a preset.

    Args:
        name: One of ``preset_names()``.

    Raises:
        ConfigError: For an unknown name.
    """
    if name not in _PRESETS:
        raise ConfigError(f"Unknown preset {name!r}.", f"Known are {', '.join(_PRESETS)}.")
    return _PRESETS[name]
