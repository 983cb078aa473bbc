"""The adapter on disk: one safetensors file with all that stages 1 and 2 train, and a description beside it.

::

    adapter.safetensors   transformer.<name>, face_perceiver.<name>, identity_fusion.<name>
    adapter.json          format, version, and the configurations that the tensors were made for
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from magicmirror.errors import WeightsError

WEIGHTS_FILE = "adapter.safetensors"
CONFIG_FILE = "adapter.json"
FORMAT = "magicmirror-adapter"
FORMAT_VERSION = 1

# Of the transformer's configuration, what the adapter's shapes and meaning depend on.
_TRANSFORMER_KEYS = (
    "num_attention_heads",
    "attention_head_dim",
    "time_embed_dim",
    "num_layers",
    "attention_bias",
    "identity_dim",
    "num_identity_tokens",
    "num_face_tokens",
    "adapter_stride",
    "identity_proj_dim",
    "can_hidden_dim",
)


def save_adapter(folder: Path, transformer: Any, face_perceiver: Any, identity_fusion: Any) -> None:
    """Write an adapter; each file appears complete or not at all.

    Args:
        folder: Made if needed; files of an older adapter are replaced.
        transformer: ``MagicMirrorTransformer3DModel``.
        face_perceiver: ``FacePerceiver``.
        identity_fusion: ``IdentityFusion``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = _tensors(transformer, face_perceiver, identity_fusion)
    description = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        **_configurations(transformer, face_perceiver, identity_fusion),
    }
    partial = folder / f".{WEIGHTS_FILE}.partial"
    contents = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    save_file(contents, str(partial), metadata={"format": "pt"})
    os.replace(partial, folder / WEIGHTS_FILE)
    partial = folder / f".{CONFIG_FILE}.partial"
    partial.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / CONFIG_FILE)


def load_adapter(folder: Path, transformer: Any, face_perceiver: Any, identity_fusion: Any) -> None:
    """Read an adapter into networks; values take the networks' dtype and device.

    Args:
        folder: Of ``save_adapter``.
        transformer: ``MagicMirrorTransformer3DModel``.
        face_perceiver: ``FacePerceiver``.
        identity_fusion: ``IdentityFusion``.

    Raises:
        WeightsError: If the adapter is missing, damaged, of another format or for other networks; nothing is loaded.
    """
    _check_description(folder, _configurations(transformer, face_perceiver, identity_fusion))
    path = folder / WEIGHTS_FILE
    try:
        found = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read: {error}.", "Copy or download the adapter again.") from error
    _check_tensors(path, found, _tensors(transformer, face_perceiver, identity_fusion))
    for name, module in _modules(transformer, face_perceiver, identity_fusion).items():
        own = {key.removeprefix(f"{name}."): value for key, value in found.items() if key.startswith(f"{name}.")}
        module.load_state_dict(own, strict=False)


def _modules(transformer: Any, face_perceiver: Any, identity_fusion: Any) -> dict[str, Any]:
    return {"transformer": transformer, "face_perceiver": face_perceiver, "identity_fusion": identity_fusion}


def _tensors(transformer: Any, face_perceiver: Any, identity_fusion: Any) -> dict[str, Tensor]:
    parts = {
        "transformer": transformer.adapter_state_dict(),
        "face_perceiver": face_perceiver.state_dict(),
        "identity_fusion": identity_fusion.state_dict(),
    }
    return {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}


def _configurations(transformer: Any, face_perceiver: Any, identity_fusion: Any) -> dict[str, dict[str, Any]]:
    return {
        "transformer": {key: transformer.config[key] for key in _TRANSFORMER_KEYS},
        "face_perceiver": {k: v for k, v in face_perceiver.config.items() if not k.startswith("_")},
        "identity_fusion": {k: v for k, v in identity_fusion.config.items() if not k.startswith("_")},
    }


def _check_description(folder: Path, expected: dict[str, dict[str, Any]]) -> None:
    path = folder / CONFIG_FILE
    if not path.is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise WeightsError(
            f"{folder} holds no adapter.", f"Expected {WEIGHTS_FILE} and {CONFIG_FILE}, as save_adapter writes them."
        )
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise WeightsError(f"{path} does not describe an adapter.", f'Expected "format": "{FORMAT}".')
    if description.get("version") != FORMAT_VERSION:
        raise WeightsError(
            f"{path} has format version {description.get('version')}, this program reads version {FORMAT_VERSION}."
        )
    for part, settings in expected.items():
        found = description.get(part)
        found = found if isinstance(found, dict) else {}
        differing = [key for key, value in settings.items() if found.get(key) != value]
        if differing:
            details = ", ".join(f"{key} is {found.get(key)}, expected {settings[key]}" for key in differing[:4])
            raise WeightsError(f"The adapter in {folder} was made for another {part}: {details}.")


def _check_tensors(path: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        raise WeightsError(
            f"{path} does not fit: missing {missing[:3]} ({len(missing)}), unknown {unknown[:3]} ({len(unknown)}).",
            "It must hold exactly the adapter, the face perceiver and the fusion of this model.",
        )
    for name, value in expected.items():
        if found[name].shape != value.shape:
            raise WeightsError(f"{name} in {path} is {tuple(found[name].shape)}, expected {tuple(value.shape)}.")
