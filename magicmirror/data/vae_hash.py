"""Which VAE made the latents of a folder: hashes for its plan, and the comparison with another VAE.

Latents follow from the encoder and the scaling factor alone, so a decoder that learns on leaves shards as good as they
were. And one VAE is stored in several precisions: ``train vae`` saves float32, a pipeline is saved in float16, and a
stock CogVideoX is loaded in bfloat16. So the encoder is hashed after rounding to either half precision, and two
encoders are the same where one of the two hashes is.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from magicmirror.data.shard_files import read_plan
from magicmirror.errors import ConfigError

logger = logging.getLogger(__name__)

_ENCODER_PARTS = ("encoder.", "quant_conv.")
_ROUNDINGS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def vae_sha256(vae: Any) -> str:
    """Hash all weights of a VAE in the precision that they have."""
    return str(_sha256(vae.state_dict().items()).hexdigest())


def encoder_sha256(vae: Any) -> dict[str, str]:
    """Hash what latents depend on: weights of the encoder, rounded to a precision, and the scaling factor.

    Args:
        vae: ``AutoencoderKLCogVideoX`` in any precision.

    Returns:
        Name of the precision -> hash.
    """
    weights = [item for item in vae.state_dict().items() if item[0].startswith(_ENCODER_PARTS)]
    hashes = {}
    for name, dtype in _ROUNDINGS.items():
        digest = _sha256((key, value.to(dtype)) for key, value in weights)
        digest.update(repr(float(vae.config.scaling_factor)).encode())
        hashes[name] = digest.hexdigest()
    return hashes


def refuse_other_vae(folders: Sequence[Path], vae: Any) -> None:
    """Refuse shards whose latents another VAE has made.

    Folders whose plan names no VAE pass. Those of earlier versions name only the whole VAE, decoder and precision
    included, so that a difference there means little: it is logged.

    Args:
        folders: Of shards.
        vae: That trains, or generates, with them.

    Raises:
        ConfigError: Naming the folder.
    """
    encoder, whole = None, None
    for folder in folders:
        plan = read_plan(folder)
        if isinstance(noted := plan.get("vae_encoder_sha256"), dict):
            encoder = encoder or encoder_sha256(vae)
            if not any(noted.get(name) == value for name, value in encoder.items()):
                raise ConfigError(
                    f'The shards of "{folder}" were made with another VAE than the one of this run.',
                    "Prepare them again with this VAE, or start from the one that made them.",
                )
        elif "vae_sha256" in plan:
            whole = whole or vae_sha256(vae)
            if plan["vae_sha256"] != whole:
                logger.warning(
                    'the shards of "%s" may be of another VAE than the one of this run: its weights differ, maybe in '
                    "decoder or precision alone, which does no harm",
                    folder,
                )


def _sha256(weights: Iterable[tuple[str, Tensor]]) -> Any:
    """Hash names and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(weights, key=lambda item: item[0]):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest
