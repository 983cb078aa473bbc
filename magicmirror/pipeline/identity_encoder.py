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
from magicmirror.media import complete_files
from magicmirror.models.adapter import file_sha256
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
    ValueError,
)
_EXPECTED = f'Expected the file {PHOTOMAKER_FILE} of "{PHOTOMAKER}"; copy or download it again.'
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
        if cache is None:
            return _unpickle(path)
        converted = cache / f"photomaker-v2-id-encoder-{_key(path)}.safetensors"
        state = _kept(converted)
        if state is None:
            state = _unpickle(path)
            _keep(state, converted)
        return state
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> WeightsError:
    """Say why in words of our own: torch's advise to run what a file holds."""
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    elif path.stat().st_size == 0:
        reason = "it is empty"
    elif isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
        reason = "it holds more than tensors, and none of that is run"
    else:
        reason = "it is damaged, or another kind of file"
    return WeightsError(f"{path} cannot be read as PhotoMaker-V2's encoder: {reason}.", _EXPECTED)


def _kept(converted: Path) -> dict[str, Tensor] | None:
    """What was converted before, if it is still what was written then."""
    try:
        if not converted.is_file():
            return None
    except OSError:  # a folder that one may not enter is as good as none
        return None
    try:
        if _checksum_file(converted).read_text(encoding="utf-8").strip() == file_sha256(converted):
            return load_file(converted)
        reason = "its SHA-256 is another"
    except FileNotFoundError:
        reason = "its SHA-256 is not known"
    except (OSError, SafetensorError, ValueError) as error:
        reason = str(error)
    log.warning("%s is damaged (%s) and is made anew", converted, reason)
    return None


def _checksum_file(converted: Path) -> Path:
    return converted.with_suffix(".sha256")


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
        with complete_files((path, _checksum_file(path)), WeightsError) as (partial, checksum):
            save_file(state, partial)
            checksum.write_text(f"{file_sha256(partial)}\n", encoding="utf-8")
    except (OSError, SafetensorError, WeightsError) as error:
        log.warning("The converted encoder cannot be kept (%s); it will be converted again the next time.", error)


def _load(module: nn.Module, state: dict[str, Tensor], prefix: str, inner: str, path: Path) -> None:
    """Load the tensors under ``prefix`` into a module that calls them ``inner + name``."""
    own = {inner + name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    own = {name: value for name, value in own.items() if not name.endswith("position_ids")}
    expected = module.state_dict()
    wrong = {
        "missing": sorted(expected.keys() - own.keys()),
        "unknown": sorted(own.keys() - expected.keys()),
        "of another shape": sorted(n for n in expected.keys() & own.keys() if expected[n].shape != own[n].shape),
        "of whole numbers": sorted(n for n in expected.keys() & own.keys() if not own[n].is_floating_point()),
    }
    if any(wrong.values()):
        details = ", ".join(f"{len(names)} {what} (as {names[0]})" for what, names in wrong.items() if names)
        raise WeightsError(f"{path} does not fit {type(module).__name__}: {details}.", _EXPECTED)
    module.load_state_dict(own)
