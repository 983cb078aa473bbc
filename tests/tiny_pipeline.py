"""Tiny real components: every class that the product uses, at a size that runs in milliseconds."""

import inspect

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, T5Config, T5EncoderModel, T5Tokenizer

from magicmirror.models.fusion import IdentityFusion
from magicmirror.models.perceiver import FacePerceiver, IdentityPerceiver
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.types import FaceBox, FaceReference

TEXT_LENGTH = 24
WORDS = ("a", "man", "the", "smile", "in", "and")
EMBEDDING, PATCHES, IDENTITY, TEXT, WIDTH, FACES = 12, 16, 20, 16, 32, 4
# CogVideoX-5B's.
SCHEDULE = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "snr_shift_scale": 1.0,
    "timestep_spacing": "trailing",
    "clip_sample": False,
}

diffusers_logging.disable_progress_bar()


def make_tokenizer():
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,'-!?"
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocab += [(letter, -6.0) for letter in letters] + [(f"▁{word}", -3.0) for word in WORDS]
    return T5Tokenizer(vocab=vocab, extra_ids=0)


def shake(module, seed):
    """Give every parameter a value, so that nothing is zero by its initialisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def make_components(seed=0, image_size=16, embedding_size=EMBEDDING, **transformer_changes):
    """All ten components; latents are 8 times smaller than pictures, so 32 px are the transformer's 4 cells."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    text_encoder = T5EncoderModel(
        T5Config(d_model=TEXT, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=len(tokenizer), dropout_rate=0.0)
    )
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        scaling_factor=0.7,
        sample_height=32,
        sample_width=32,
    )
    sizes = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 16,
        "text_embed_dim": TEXT,
        "num_layers": 3,
        "sample_width": 4,
        "sample_height": 4,
        "sample_frames": 9,
        "max_text_seq_length": TEXT_LENGTH,
        "use_rotary_positional_embeddings": True,
        "identity_dim": IDENTITY,
        "num_face_tokens": FACES,
        "identity_proj_dim": 8,
        "can_hidden_dim": 8,
    }
    transformer = MagicMirrorTransformer3DModel(**{**sizes, **transformer_changes})
    vision = CLIPVisionConfig(
        hidden_size=PATCHES,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=image_size,
        patch_size=8,
    )
    size = {"height": image_size, "width": image_size}
    identity_perceiver = IdentityPerceiver(embedding_size, PATCHES, IDENTITY, depth=1, head_dim=10)
    face_perceiver = FacePerceiver(PATCHES, 16, WIDTH, FACES, depth=1, head_dim=8)
    modules = {
        "text_encoder": text_encoder,
        "vae": vae,
        "transformer": transformer,
        "image_encoder": CLIPVisionModel(vision),
        "identity_perceiver": identity_perceiver,
        "face_perceiver": face_perceiver,
        "identity_fusion": IdentityFusion(IDENTITY, TEXT, 24),
    }
    return {
        "tokenizer": tokenizer,
        "scheduler": CogVideoXDDIMScheduler(**SCHEDULE),
        "feature_extractor": CLIPImageProcessorPil(size={"shortest_edge": image_size}, crop_size=size),
        **{name: shake(module, seed + index) for index, (name, module) in enumerate(modules.items())},
    }


def build_pipeline(seed=0, **changes):
    pipeline = MagicMirrorPipeline(**make_components(seed, **changes))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def build_stock(pipeline):
    """The stock pipeline with the same weights: diffusers' transformer class, not ours."""
    ours = pipeline.transformer
    known = inspect.signature(CogVideoXTransformer3DModel.__init__).parameters
    stock = CogVideoXTransformer3DModel(**{k: v for k, v in ours.config.items() if k in known}).eval()
    stock.load_state_dict({k: v for k, v in ours.state_dict().items() if not ours.is_adapter_key(k)})
    result = CogVideoXPipeline(pipeline.tokenizer, pipeline.text_encoder, pipeline.vae, stock, pipeline.scheduler)
    result.set_progress_bar_config(disable=True)
    return result


def build_reference(seed, quality=1.0, embedding_size=EMBEDDING):
    random = np.random.default_rng(seed)
    return FaceReference(
        box=FaceBox(0, 0, 10, 10),
        landmarks=np.zeros((5, 2), np.float32),
        landmark_scheme="dlib5",
        crop=random.integers(0, 256, (20, 20, 3), dtype=np.uint8),
        embedding=random.normal(size=embedding_size).astype(np.float32),
        score=1.0,
        quality=quality,
        photo_sha256=f"{seed:064x}",
    )
