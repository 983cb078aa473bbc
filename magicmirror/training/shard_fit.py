"""Whether shards fit the networks that are to learn from them; said before the first step."""

from __future__ import annotations

from magicmirror.data.dataset import LatentDataset
from magicmirror.data.shard_files import shard_name
from magicmirror.errors import ConfigError
from magicmirror.faces.insightface_models import EMBEDDING_SIZE as INSIGHTFACE_SIZE
from magicmirror.models.recognizer import EMBEDDING_SIZE as DLIB_SIZE
from magicmirror.pipeline.pipeline import MagicMirrorPipeline

_RECOGNISERS = {DLIB_SIZE: "dlib", INSIGHTFACE_SIZE: "insightface"}


def check_latents(data: LatentDataset, pipeline: MagicMirrorPipeline) -> None:
    """Refuse latents that the denoiser cannot take.

    Raises:
        ConfigError: For another number of channels, a side that patches do not fill, or one that it has no places for.
    """
    assert data.shape.latents is not None  # a data set without rows was refused when it was opened
    frames, channels, height, width = data.shape.latents
    config, name = pipeline.transformer.config, shard_name(data.shaped_by)
    if channels != config.in_channels:
        raise ConfigError(
            f"The latents of the shard {name} have {channels} channels, the denoiser takes {config.in_channels}.",
            "Prepare them again with the VAE of this model.",
        )
    cell_px = pipeline.vae_scale_factor_spatial
    size, places = (height, width), (config.sample_height, config.sample_width)
    if config.use_learned_positional_embeddings and size != places:
        raise ConfigError(
            f"The latents of the shard {name} have {height} x {width} cells, the denoiser knows the places of "
            f"{places[0]} x {places[1]} alone.",
            f"Prepare them again with --size {places[0] * cell_px}x{places[1] * cell_px}.",
        )
    patch, patch_frames = config.patch_size, config.patch_size_t or 1
    if height % patch or width % patch:  # missing frames are filled, see ``parts.fill_patches``
        raise ConfigError(
            f"The latents of the shard {name} have {frames} x {height} x {width} cells, which patches of "
            f"{patch_frames} x {patch} x {patch} do not fill.",
            f"Prepare them again with a --size of whole {patch * cell_px} px.",
        )


def check_crops(data: LatentDataset, pipeline: MagicMirrorPipeline) -> None:
    """Refuse crops of another size than the vision tower's.

    Raises:
        ConfigError: Naming both sizes.
    """
    side, wanted = data.shape.crop_px, pipeline.image_encoder.config.image_size
    if side != wanted:
        raise ConfigError(
            f"The crops of the shard {shard_name(data.shaped_by)} are {side} px, the vision tower takes {wanted} px.",
            f"Prepare them again with --crop {wanted}.",
        )


def check_embeddings(data: LatentDataset, pipeline: MagicMirrorPipeline) -> None:
    """Refuse embeddings of another recogniser than the one that the identity perceiver reads.

    Raises:
        ConfigError: Naming both widths.
    """
    width, wanted = data.shape.embedding_dim, pipeline.identity_perceiver.config.embedding_dim
    if width != wanted:
        known = _RECOGNISERS.get(wanted)
        raise ConfigError(
            f"The embeddings of the shard {shard_name(data.shaped_by)} have {width} numbers, the model takes {wanted}.",
            f"Prepare them again with --recogniser {known}." if known else "Prepare them again with its recogniser.",
        )
