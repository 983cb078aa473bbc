"""Networks of a preset, new or from a saved pipeline, and the objective over them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, T5Config, T5EncoderModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from magicmirror.errors import ConfigError
from magicmirror.models.fusion import IdentityFusion
from magicmirror.models.perceiver import FacePerceiver, IdentityPerceiver
from magicmirror.models.presets import model_preset
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.pipeline.denoising import rotary_embedding
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.training.config import TrainingConfig
from magicmirror.training.critic import LatentCritic, PictureCritic
from magicmirror.training.identity_loss import IdentityLoss
from magicmirror.training.motion_term import MotionTerm
from magicmirror.training.objective import IdentityVideoObjective, Rotary
from magicmirror.training.perceptual_loss import PerceptualLoss
from magicmirror.training.schedule import from_seed
from magicmirror.training.vocabulary import load_tokenizer

# CogVideoX's schedule. The shift lies between the published 1.0 (5B) and 3.0 (2B): small latents need less noise than
# large ones to hide a face, but the reference is used where the noise hides it.
SNR_SHIFT = 2.0


def noise_schedule() -> CogVideoXDDIMScheduler:
    """CogVideoX's v-prediction schedule with zero terminal SNR."""
    return CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=SNR_SHIFT,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def fresh_pipeline(preset: str, vae: Path, tokenizer: Path, seed: int) -> MagicMirrorPipeline:
    """Make a pipeline of untrained networks around a trained VAE.

    Args:
        preset: Name of the preset.
        vae: Folder of the VAE in diffusers layout.
        tokenizer: Folder of the T5 tokenizer.
        seed: Of the weights.

    Returns:
        Pipeline in float32 on the CPU.

    Raises:
        ConfigError: If the preset is unknown, or a folder holds no VAE or no tokenizer.
    """
    sizes = model_preset(preset)
    autoencoder = load_vae(vae)
    reader = load_tokenizer(tokenizer)
    side = sizes.image_encoder["image_size"]
    # Weights come from torch's global generator; its state is put back so that a caller's numbers stay its own.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MagicMirrorPipeline(
            transformer=MagicMirrorTransformer3DModel(**sizes.transformer),
            image_encoder=CLIPVisionModel(CLIPVisionConfig(**sizes.image_encoder)),
            identity_perceiver=IdentityPerceiver(**sizes.identity_perceiver),
            face_perceiver=FacePerceiver(**sizes.face_perceiver),
            identity_fusion=IdentityFusion(**sizes.identity_fusion),
            text_encoder=T5EncoderModel(T5Config(**sizes.text_encoder)),
            tokenizer=reader,
            vae=autoencoder,
            scheduler=noise_schedule(),
            feature_extractor=CLIPImageProcessorPil(
                size={"shortest_edge": side}, crop_size={"height": side, "width": side}
            ),
        )


def fresh_vae(preset: str, seed: int) -> AutoencoderKLCogVideoX:
    """Make an untrained VAE of a preset."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoencoderKLCogVideoX(**model_preset(preset).vae)


def load_vae(folder: Path) -> AutoencoderKLCogVideoX:
    """Load a trained VAE in evaluation mode.

    Raises:
        ConfigError: If there is none; the library would look for it in the hub.
    """
    if not (folder / "config.json").is_file():
        raise ConfigError(f'"{folder}" holds no VAE.', "It must be a folder in diffusers layout, with config.json.")
    return AutoencoderKLCogVideoX.from_pretrained(folder).eval()


def rotary_of(transformer: MagicMirrorTransformer3DModel) -> Rotary:
    """The rotary table of latents of F frames, H x W cells, for a transformer."""

    def table(frames: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        shape = torch.Size((1, frames, transformer.config.in_channels, height, width))
        return rotary_embedding(transformer.config, shape, transformer.device)

    return table


def identity_objective(
    pipeline: MagicMirrorPipeline,
    config: TrainingConfig,
    identity_loss: IdentityLoss | None = None,
    perceptual_loss: PerceptualLoss | None = None,
) -> IdentityVideoObjective:
    """The objective over a pipeline's networks.

    Args:
        pipeline: Its networks are trained in place.
        config: Of the run.
        identity_loss: The identity term, or ``None`` for a run without it.
        perceptual_loss: The perceptual term, or ``None`` for a run without it.
    """
    length, channels = pipeline.transformer.config.max_text_seq_length, pipeline.transformer.config.in_channels
    judges_pictures = perceptual_loss is not None and config.critic_weight > 0
    judges_latents = config.latent_critic_weight > 0
    empty = pipeline.tokenizer("", padding="max_length", max_length=length, return_tensors="pt").input_ids[0]
    return IdentityVideoObjective(
        transformer=pipeline.transformer,
        text_encoder=pipeline.text_encoder,
        image_encoder=pipeline.image_encoder,
        identity_perceiver=pipeline.identity_perceiver,
        face_perceiver=pipeline.face_perceiver,
        identity_fusion=pipeline.identity_fusion,
        scheduler=pipeline.scheduler,
        empty_ids=empty,
        config=config,
        rotary=rotary_of(pipeline.transformer),
        identity_loss=identity_loss,
        perceptual_loss=perceptual_loss,
        motion_term=from_seed(config.seed, lambda: MotionTerm(pipeline.transformer))
        if config.motion_loss > 0
        else None,
        critic=from_seed(config.seed, PictureCritic) if judges_pictures else None,
        latent_critic=from_seed(config.seed, lambda: LatentCritic(channels)) if judges_latents else None,
    )


def train_only(objective: nn.Module, parts: tuple[str, ...]) -> list[str]:
    """Freeze everything but the named parts.

    Args:
        objective: Its parameters get ``requires_grad``, but for those that it calls ``untrained``.
        parts: Names of its children; ``adapter`` stands for the transformer's adapter, ``base`` for the transformer
            without it; ``all`` for everything.

    Returns:
        Names of the trained parameters.

    Raises:
        ConfigError: If the objective has no such part.
    """
    unknown = sorted(set(parts) - {name for name, _ in objective.named_children()} - {"adapter", "base", "all"})
    if unknown:
        raise ConfigError(f"There is nothing to train by the name of {', '.join(unknown)}.")
    untrained: tuple[str, ...] = getattr(objective, "untrained", ())
    trained = []
    for name, parameter in objective.named_parameters():
        part, _, rest = name.partition(".")
        names = {"all", part}
        if part == "transformer":
            names.add("adapter" if MagicMirrorTransformer3DModel.is_adapter_key(rest) else "base")
        wanted = bool(names & set(parts)) and not any(fnmatchcase(name, pattern) for pattern in untrained)
        parameter.requires_grad_(wanted)
        if wanted:
            trained.append(name)
    return trained
