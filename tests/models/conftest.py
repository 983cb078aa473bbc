"""Tiny real networks with random weights everywhere, so that nothing holds only because something is zero."""

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import nn

from magicmirror.models.fusion import IdentityFusion
from magicmirror.models.perceiver import FacePerceiver
from magicmirror.models.transformer import MagicMirrorTransformer3DModel

HEAD_DIM, TEXT_LENGTH, TEXT_DIM, FRAMES, SIDE = 16, 6, 12, 4, 8  # FRAMES and SIDE in latent cells
BASE = {
    "num_attention_heads": 2,
    "attention_head_dim": HEAD_DIM,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 16,
    "text_embed_dim": TEXT_DIM,
    "num_layers": 3,
    "sample_width": SIDE,
    "sample_height": SIDE,
    "sample_frames": 4 * (FRAMES - 1) + 1,
    "max_text_seq_length": TEXT_LENGTH,
}
VARIANTS = {
    "sincos": {},  # CogVideoX-2B
    "rotary": {"use_rotary_positional_embeddings": True},  # CogVideoX-5B
    "rotary and learned": {"use_rotary_positional_embeddings": True, "use_learned_positional_embeddings": True},
    "patches in time": {  # CogVideoX-1.5
        "use_rotary_positional_embeddings": True,
        "patch_size_t": 2,
        "patch_bias": False,
        "ofs_embed_dim": 16,
    },
}
ADAPTER = {"identity_dim": 8, "num_face_tokens": 3, "identity_proj_dim": 10, "can_hidden_dim": 14}


def randomise(module, seed=0):
    """Give every parameter random values of a size that keeps activations near one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim > 1:
                noise = noise * parameter[0].numel() ** -0.5
            elif "norm" in name and name.endswith("weight"):
                noise = 1 + 0.2 * noise
            else:
                noise = 0.2 * noise
            parameter.copy_(noise)
    return module.eval()


def stock_model(variant="rotary", dtype=torch.float32, seed=0, **changes):
    return randomise(CogVideoXTransformer3DModel(**{**BASE, **VARIANTS[variant], **changes}), seed).to(dtype)


def adapted_model(variant="rotary", dtype=torch.float32, seed=0, fresh=False, **changes):
    model = MagicMirrorTransformer3DModel(**{**BASE, **VARIANTS[variant], **ADAPTER, **changes})
    randomise(model, seed)
    if fresh:
        model.reset_adapter()
    return model.to(dtype)


def stock_inputs(model, batch=2, seed=1, timesteps=(999, 313)):
    """What the stock forward takes, in the model's dtype."""
    generator = torch.Generator().manual_seed(seed)
    config, dtype = model.config, model.dtype
    latents = torch.randn(batch, FRAMES, config.in_channels, SIDE, SIDE, generator=generator, dtype=torch.float64)
    text = torch.randn(batch, TEXT_LENGTH, TEXT_DIM, generator=generator, dtype=torch.float64)
    inputs = {
        "hidden_states": latents.to(dtype),
        "encoder_hidden_states": text.to(dtype),
        "timestep": torch.tensor(timesteps[:batch]),
    }
    if config.use_rotary_positional_embeddings:
        cells, frames = SIDE // config.patch_size, FRAMES // (config.patch_size_t or 1)
        inputs["image_rotary_emb"] = get_3d_rotary_pos_embed(HEAD_DIM, ((0, 0), (cells, cells)), (cells, cells), frames)
    if config.ofs_embed_dim:
        inputs["ofs"] = torch.full((1,), 2.0)
    return inputs


def identity_inputs(model, batch=2, seed=2):
    """ID tokens (B, 2, D_id) and face tokens (B, N, D)."""
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    width = config.num_attention_heads * config.attention_head_dim
    shapes = {
        "identity_tokens": (batch, config.num_identity_tokens, config.identity_dim),
        "face_tokens": (batch, config.num_face_tokens, width),
    }
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(model.dtype)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="session")
def tiny():
    """The functions of this file by name; importing them would need a package of tests."""

    class Tiny:
        variants = tuple(VARIANTS)
        randomise = staticmethod(randomise)
        stock = staticmethod(stock_model)
        model = staticmethod(adapted_model)
        inputs = staticmethod(stock_inputs)
        identity = staticmethod(identity_inputs)

        @staticmethod
        def predict(model, **inputs):
            with torch.no_grad():
                return model(**inputs, return_dict=False)[0]

        @staticmethod
        def adapter_modules(seed=0, **changes) -> dict[str, nn.Module]:
            """The three parts that an adapter file holds."""
            return {
                "transformer": adapted_model(seed=seed, **changes),
                "face_perceiver": randomise(FacePerceiver(20, 16, 32, 3, 1, 8), seed + 1),
                "identity_fusion": randomise(IdentityFusion(8, TEXT_DIM, 16), seed + 2),
            }

    return Tiny
