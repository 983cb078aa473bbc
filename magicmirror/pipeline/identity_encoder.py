"""PhotoMaker-V2's encoder: the vision tower ``F_feat`` and the ID perceiver ``tau_id`` of Eq. 3.

The published file is a pickle with a LoRA beside the encoder. Of it only tensors are read (``weights_only``), and of
these only the encoder's are kept: they are written to a safetensors file in the cache once, which is read from then on.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from magicmirror.errors import WeightsError
from magicmirror.media import complete_file
from magicmirror.models.perceiver import IdentityPerceiver
from magicmirror.models.presets import ModelPreset
from magicmirror.pipeline.sources import PHOTOMAKER, PHOTOMAKER_FILE

log = logging.getLogger(__name__)

_UNREADABLE = (
    OSError,
    SafetensorError,
    pickle.UnpicklingError,
    EOFError,
    RuntimeError,
    # of another content
    LookupError,
    TypeError,
    AttributeError,
)
_TOWER, _PERCEIVER = "vision_model.", "qformer_perceiver."


def load_identity_encoder(
    path: Path, preset: ModelPreset, cache: Path | None = None
) -> tuple[CLIPVisionModel, IdentityPerceiver]:
    """Read the vision tower and the ID perceiver.

    Args:
        path: PhotoMaker-V2's file, or a safetensors file with its ``vision_model.*`` and ``qformer_perceiver.*``.
        preset: Sizes of the two networks.
        cache: Folder for the converted file; ``None`` converts anew every time.

    Returns:
        Both with the published weights, which stay frozen in the paper; float32 on the CPU.

    Raises:
        WeightsError: If the file is missing, is something else, or does not fit.
    """
    state = _read(path, cache)
    tower = CLIPVisionModel(CLIPVisionConfig(**preset.image_encoder))
    perceiver = IdentityPerceiver(**preset.identity_perceiver)
    # Some versions of transformers keep the published prefix in the class, some do not.
    inner = _TOWER if any(name.startswith(_TOWER) for name in tower.state_dict()) else ""
    _load(tower, state, _TOWER, inner, path)
    _load(perceiver, state, _PERCEIVER, "", path)
    return tower, perceiver


def _read(path: Path, cache: Path | None) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        converted = None if cache is None else cache / f"photomaker-v2-id-encoder-{_key(path)}.safetensors"
        if converted is not None and converted.is_file():
            try:
                return load_file(converted)
            except (OSError, SafetensorError) as error:
                log.warning("%s is damaged (%s) and is made anew", converted, error)
        state = _unpickle(path)
    except (
        OSError,
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        LookupError,
        TypeError,
        AttributeError,
        EOFError,
    ) as error:
        raise WeightsError(
            f"{path} cannot be read as PhotoMaker-V2's encoder: {error!r}.",
            f'Expected the file {PHOTOMAKER_FILE} of "{PHOTOMAKER}".',
        ) from error
    if converted is not None:
        _keep(state, converted)
    return state


def _key(path: Path) -> str:
    """Changes when the file does; reading gigabytes for their hash would cost what the cache is to save."""
    real = path.resolve(strict=True)
    return hashlib.sha256(f"{real}|{real.stat().st_size}|{real.stat().st_mtime_ns}".encode()).hexdigest()[:16]


def _unpickle(path: Path) -> dict[str, Tensor]:
    """Tensors of the encoder; the file's other half, a LoRA for another model, is mapped and never read."""
    contents: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    state: dict[str, Tensor] = contents["id_encoder"]
    return {name: value.contiguous() for name, value in state.items() if name.startswith((_TOWER, _PERCEIVER))}


def _keep(state: dict[str, Tensor], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with complete_file(path, WeightsError) as partial:
            save_file(state, partial)
    except (OSError, SafetensorError, WeightsError) as error:
        log.warning("The converted encoder cannot be kept (%s); it will be converted again the next time.", error)


def _load(module: nn.Module, state: dict[str, Tensor], prefix: str, inner: str, path: Path) -> None:
    """Load the tensors under ``prefix`` into a module that calls them ``inner + name``."""
    own = {inner + name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    own = {name: value for name, value in own.items() if not name.endswith("position_ids")}
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit {type(module).__name__}: {error}.") from error
