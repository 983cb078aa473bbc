"""Where the videos of a benchmark come from: the model, or the animation of the same portrait as an upper bound.

That bound is stated twice: as rendered, and through the model's VAE, which no denoiser on its latents can pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from magicmirror.data.animation import render_clip
from magicmirror.evaluation.cases import Case
from magicmirror.evaluation.identity_pictures import animation_landmarks
from magicmirror.media import load_image
from magicmirror.pipeline.profiles import Profile
from magicmirror.types import GeneratedVideo, GenerationRequest, VideoShape

if TYPE_CHECKING:
    from magicmirror.pipeline.pipeline import MagicMirrorPipeline

VideoSource = Callable[[Case], GeneratedVideo]


def generated_videos(
    generate: Callable[[GenerationRequest], GeneratedVideo], profile: Profile, **options: Any
) -> VideoSource:
    """Return the source that asks the model.

    Args:
        generate: Makes the video of a request.
        profile: Of the requests.
        options: Further fields of ``GenerationRequest``.
    """

    def source(case: Case) -> GeneratedVideo:
        return generate(
            GenerationRequest(
                prompt=case.clip.caption,
                references=(case.subject.reference,),
                seed=case.seed,
                profile=profile.name,
                **options,
            )
        )

    return source


def animated_clips(shape: VideoShape) -> VideoSource:
    """Return the source that animates the test person's own portrait with exactly the motions and style of the case.

    What it scores is what a perfect model of this kind would: its rates are the calibration of the measures.

    Args:
        shape: Frames and rate; the clips are square, with the shorter side.
    """
    side = min(shape.height_px, shape.width_px)

    def source(case: Case) -> GeneratedVideo:
        photo = load_image(case.subject.portrait.path)
        frames = render_clip(
            photo, animation_landmarks(case.subject.reference, photo), case.clip, shape.num_frames, side
        )
        return GeneratedVideo(
            frames, shape.fps, {"prompt": case.clip.caption, "seed": case.seed, "source": "animation"}
        )

    return source


def reconstructed_videos(source: VideoSource, pipeline: MagicMirrorPipeline) -> VideoSource:
    """Return the source that encodes the videos of another one, as training data is encoded, and decodes them.

    Args:
        source: Of the videos.
        pipeline: Its VAE is used, the decoder as in a request.
    """
    import torch

    from magicmirror.data.precompute import encode_clips

    vae = pipeline.vae

    @torch.inference_mode()
    def reconstruct(case: Case) -> GeneratedVideo:
        video = source(case)
        latents = encode_clips(vae, video.frames[None], bf16=False).to(vae.device, vae.dtype)
        decoded = pipeline.decode_latents(latents)[0].float().clamp(-1, 1)
        frames = ((decoded.permute(1, 2, 3, 0) + 1) * 127.5).round().to("cpu", torch.uint8).numpy()
        return replace(video, frames=np.ascontiguousarray(frames))

    return reconstruct
