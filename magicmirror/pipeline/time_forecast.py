"""How much arithmetic a video is, and from that a first guess of its time on a machine that was not measured yet.

Free of torch: the page asks for it before the model is loaded. What was measured on the machine replaces the guess, see
``serving.speed``.
"""

from __future__ import annotations

import os

from magicmirror.models.presets import ModelPreset
from magicmirror.pipeline.model_size import VideoWork

DECODE_FLOP = 1100.0
"""Of the VAE for a pixel of a frame, times the square of its narrowest width: 964 to 1143 counted."""
TILES_OVERLAP = 1.4
"""Work of a tiled decode to a whole one: 441 to 315 TFLOP at 49 frames of 480 x 720."""
FLOP_S = {"cuda": 137e12, "mps": 2e12, "cpu": 60e9}
"""Of the transformer. ``cuda`` is the published 243 s of CogVideoX-5B on an A100 without compilation; ``cpu`` is one
core, measured with the preview; ``mps`` is a guess."""
DECODE_SHARE = 0.4
"""Speed of the decoder's convolutions to that of the transformer, measured with the preview."""


def step_flop(preset: ModelPreset, work: VideoWork) -> float:
    """Floating-point operations of one denoising step, all rows of it.

    Args:
        preset: Of the model.
        work: The video.

    Returns:
        24 L S D^2 for the linear layers and 4 L S^2 D for the attention of each row; the adapter adds 0.2 %.
    """
    config = preset.transformer
    width: int = config["num_attention_heads"] * config["attention_head_dim"]
    layers: int = config["num_layers"]
    video = work.video_tokens(config.get("patch_size", 2), config.get("patch_size_t") or 1)
    tokens = int(config["max_text_seq_length"] + config["num_face_tokens"] + video)
    return work.rows * layers * (24.0 * tokens * width**2 + 4.0 * tokens**2 * width)


def decode_flop(preset: ModelPreset, work: VideoWork, tiling: bool) -> float:
    """Floating-point operations of decoding the video."""
    pixels = work.videos * work.num_frames * work.height_px * work.width_px
    channels: int = preset.vae["block_out_channels"][0]
    return DECODE_FLOP * pixels * channels**2 * (TILES_OVERLAP if tiling else 1.0)


def prompt_flop(preset: ModelPreset, work: VideoWork) -> float:
    """Floating-point operations of reading the prompt, and the negative one where the video is guided."""
    config, tokens = preset.text_encoder, preset.transformer["max_text_seq_length"]
    attention = 4 * config["d_model"] * config["d_kv"] * config["num_heads"]
    layer: int = attention + 3 * config["d_model"] * config["d_ff"]
    layers: int = config["num_layers"]
    return 2.0 * work.rows * int(tokens) * layers * layer


def guess_seconds(preset: ModelPreset, work: VideoWork, device: str, tiling: bool = False) -> tuple[float, float]:
    """Guess how long a video takes.

    Args:
        preset: Of the model.
        work: The video.
        device: As in the settings; ``auto`` is taken for a CPU.
        tiling: Whether it is decoded in tiles.

    Returns:
        Seconds of one denoising step, and of all the rest together.
    """
    kind = device.partition(":")[0]
    speed = FLOP_S[kind] if kind in ("cuda", "mps") else FLOP_S["cpu"] * (os.cpu_count() or 1)
    rest = prompt_flop(preset, work) / speed + decode_flop(preset, work, tiling) / (DECODE_SHARE * speed)
    return step_flop(preset, work) / speed, rest
