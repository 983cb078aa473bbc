"""Adapter weights on their own: what the training stages of the paper train, without the pretrained base.

::

    magicmirror_adapter.safetensors   transformer.<name>, face_perceiver.<name>, identity_fusion.<name>
    magicmirror_adapter.json          format, version, base class, configuration of each part, record of the writer,
                                      SHA-256 of the weights

The weights carry the same description (without the hash) as metadata, so that the file is an adapter on its own too.
An adapter may hold one part alone. Of a transformer only its adapter is written (``adapter_state_dict``), and only the
settings that the adapter depends on are compared (``adapter_config``); other modules are taken whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from magicmirror.errors import WeightsError
from magicmirror.media import complete_files, make_folder
from magicmirror.models.lora import plain_state_dict
from magicmirror.models.weights_files import is_finite, unreadable

WEIGHTS_FILE = "magicmirror_adapter.safetensors"
CONFIG_FILE = "magicmirror_adapter.json"
FILES = (WEIGHTS_FILE, CONFIG_FILE)
FORMAT = "magicmirror-adapter"
FORMAT_VERSION = 1
BASE_CLASS = "CogVideoXTransformer3DModel"
ADAPTER_PARTS = ("transformer", "face_perceiver", "identity_fusion")
"""What the training stages train, by the names that it has in the file and in a pipeline."""

BASE_SETTINGS = (
    "num_attention_heads",
    "attention_head_dim",
    "time_embed_dim",
    "num_layers",
    "attention_bias",
    "patch_size_t",  # changes no shape, but what a token means
)
"""Settings of the base's transformer that an adapter depends on."""

_SHOWN = 3  # names or settings in one message


def save_adapter(
    folder: str | os.PathLike[str], modules: Mapping[str, nn.Module], config: Mapping[str, Any] | None = None
) -> None:
    """Write an adapter; each of the two files appears complete or not at all, and never beside that of another adapter.

    Args:
        folder: Made if needed; files of an older adapter are replaced.
        modules: Part -> module: ``transformer``, ``face_perceiver``, ``identity_fusion``, or some of them.
        config: Record of the writer (base model, recipe, step), kept as JSON under ``config`` and never checked.

    Raises:
        WeightsError: When they cannot be written; nothing new is left then.
    """
    description = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "base_class": BASE_CLASS,
        **{part: _configuration(module) for part, module in modules.items()},
        "config": dict(config or {}),
    }
    write_adapter(folder, {name: value.detach() for name, value in _tensors(modules).items()}, description)


def write_adapter(
    target: str | os.PathLike[str], tensors: Mapping[str, Tensor], description: Mapping[str, Any]
) -> None:
    """Write an adapter that is already taken apart.

    Args:
        target: Folder for the two files, or a name that ends in ``.safetensors`` for the weights alone.
        tensors: ``part.name`` -> tensor.
        description: As ``read_description`` gives it; a hash of other weights in it is replaced.

    Raises:
        WeightsError: When it cannot be written; nothing new is left then.
    """
    target = Path(target)
    description = {key: value for key, value in description.items() if key != "sha256"}
    # Made before any file is touched: it may not be JSON. One entry, since safetensors writes several in any order,
    # and the same adapter is to have the same hash.
    metadata = {FORMAT: json.dumps(description)}
    alone = target.suffix == ".safetensors"
    paths = (target,) if alone else (target / WEIGHTS_FILE, target / CONFIG_FILE)
    make_folder(paths[0].parent, WeightsError, "Choose another folder.")
    with complete_files(paths, WeightsError) as (weights, *description_file):
        try:
            save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, str(weights), metadata)
        except SafetensorError as error:  # it reports a full disk this way
            raise WeightsError(
                f"{weights} cannot be written: {error}.", "Free space, or choose another folder."
            ) from error
        for path in description_file:
            text = json.dumps({**description, "sha256": file_sha256(weights)}, indent=2) + "\n"
            path.write_text(text, encoding="utf-8")


def load_adapter(source: str | os.PathLike[str], modules: Mapping[str, nn.Module]) -> None:
    """Read an adapter into modules; values take the modules' dtype and device.

    Args:
        source: Folder of ``save_adapter``, or its weights alone.
        modules: Part -> module that receives it; parts of the file that are not named here are left alone.

    Raises:
        WeightsError: If the adapter is missing, damaged, of another format or version, or was made for other modules.
            Nothing is changed then.
    """
    description = read_description(source)
    path = weights_path(source)
    check_description(path, description, modules)
    tensors = _tensors(modules)
    found = _read_tensors(path, tensors)
    verified_sha256(path, description)
    with torch.no_grad():
        for name, value in found.items():
            tensors[name].copy_(value)


def weights_path(source: str | os.PathLike[str]) -> Path:
    """The file with an adapter's tensors: the source itself unless it is a folder."""
    path = Path(source)
    return path if path.is_file() else path / WEIGHTS_FILE


def read_description(source: str | os.PathLike[str], needed: Sequence[str] = FILES) -> dict[str, Any]:
    """Read the description of an adapter and check that this program can read the rest.

    Args:
        source: Folder of ``save_adapter``, or its weights alone.
        needed: Files that a folder must have.

    Returns:
        The content of the JSON file, or of the weights' metadata.

    Raises:
        WeightsError: If something is missing, or the description is of another format or version.
    """
    path = Path(source)
    if path.is_file():
        text = _metadata(path).get(FORMAT)
        if text is None:
            raise WeightsError(
                f"{path} is no adapter: nothing in it says what it was made for.",
                f"Expected {WEIGHTS_FILE} as save_adapter writes it, or the folder it was in.",
            )
    else:
        try:
            missing = [name for name in needed if not (path / name).is_file()]
        except OSError as error:
            raise WeightsError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
        if missing:
            raise WeightsError(
                f"{path} holds no adapter: {' and '.join(missing)} not found.",
                f"Expected {WEIGHTS_FILE} and {CONFIG_FILE}, as save_adapter writes them.",
            )
        path /= CONFIG_FILE
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(f"{path} cannot be read: {error}.", "Copy or download the adapter again.") from error
    return _checked_description(path, text)


def _checked_description(path: Path, text: str) -> dict[str, Any]:
    try:
        description = json.loads(text)
    except ValueError as error:
        raise WeightsError(f"{path} is not valid JSON: {error}.", "Copy or download the adapter again.") from error
    stated = description.get("format") if isinstance(description, dict) else None
    if not isinstance(description, dict) or stated != FORMAT:
        raise WeightsError(
            f'{path} does not describe an adapter: "format" is {stated!r}.', f'Expected "format": "{FORMAT}".'
        )
    if description.get("version") != FORMAT_VERSION:
        raise WeightsError(
            f"{path} has format version {description.get('version')}, this program reads version {FORMAT_VERSION}.",
            "Use the release of MagicMirror that wrote it, or an adapter written by this one.",
        )
    if description.get("base_class") != BASE_CLASS:
        raise WeightsError(f"The adapter {path} was made for {description.get('base_class')}, expected {BASE_CLASS}.")
    return description


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(str(path), framework="pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verified_sha256(path: Path, description: Mapping[str, Any]) -> str:
    """SHA-256 of weights, compared with the one in their description where there is one.

    Raises:
        WeightsError: If they differ.
    """
    found = file_sha256(path)
    if description.get("sha256", found) != found:
        raise WeightsError(
            f"{path} is damaged, or belongs to another adapter: its SHA-256 is not that in {CONFIG_FILE}.",
            "Copy or download the adapter again.",
        )
    return found


def _tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """``part.name`` -> tensor of all that belongs to the adapter."""
    tensors = {}
    for part, module in modules.items():
        read: Any = getattr(module, "adapter_state_dict", partial(plain_state_dict, module))
        tensors.update({f"{part}.{name}": value for name, value in read().items()})
    if any(value.is_meta for value in tensors.values()):
        # Copying into such a tensor does nothing, without a word.
        raise WeightsError(
            "The adapter's weights are not in memory: they were offloaded one by one.",
            "Load or save the adapter before the networks are offloaded.",
        )
    return tensors


def _configuration(module: Any) -> dict[str, Any]:
    """The settings that names, shapes and meaning of the saved tensors depend on, as JSON gives them back."""
    if hasattr(module, "adapter_config"):
        config = module.adapter_config()
    else:
        config = {key: value for key, value in module.config.items() if not key.startswith("_")}
    restored: dict[str, Any] = json.loads(json.dumps(config))
    return restored


def check_description(path: Path, description: Mapping[str, Any], modules: Mapping[str, nn.Module]) -> None:
    """Compare what an adapter was made for with networks, which may be on the meta device.

    Args:
        path: Of the adapter.
        description: Of ``read_description``.
        modules: Part -> network.

    Raises:
        WeightsError: If they differ, or the adapter lacks a part.
    """
    for part, module in modules.items():
        _check_configuration(path, part, description.get(part), _configuration(module))


def check_base(path: Path, description: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Compare what an adapter was made for with the configuration of a base, before the base's weights are fetched.

    Args:
        path: Of the adapter.
        description: Of ``read_description``.
        config: The transformer's of the base, with or without the settings that have their default, and with or
            without those of the adapter itself.

    Raises:
        WeightsError: If they differ.
    """
    made_for = description.get("transformer")
    if not isinstance(made_for, dict) or not config:
        return  # what is wrong with them is said where they are loaded
    # CogVideoX 1.0 does not name its temporal patch.
    of_base = {"patch_size_t": None, **{key: config[key] for key in {*BASE_SETTINGS, *made_for} & config.keys()}}
    found = {key: made_for.get(key) for key in of_base}
    _check_configuration(path, "transformer", found, of_base)


def _check_configuration(path: Path, part: str, found: Any, expected: dict[str, Any]) -> None:
    if not isinstance(found, dict):
        raise WeightsError(
            f"The adapter {path} has no part {part}.", "Expected one that was saved together with that part."
        )
    differing = [key for key in sorted(expected.keys() | found.keys()) if found.get(key) != expected.get(key)]
    if differing:
        details = ", ".join(f"{key} is {found.get(key)}, expected {expected.get(key)}" for key in differing[:_SHOWN])
        raise WeightsError(
            f"The adapter {path} was made for another {part}: {details} ({len(differing)} settings differ).",
            "Take the adapter of this model, or the model of this adapter.",
        )


def _read_tensors(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the expected tensors; refuse the file if names or shapes of the expected parts differ."""
    parts = {name.partition(".")[0] for name in expected}
    try:
        with safe_open(str(path), framework="pt") as file:
            names = {name for name in file.keys() if name.partition(".")[0] in parts}  # noqa: SIM118 - no mapping
            _check_names(path, names, set(expected))
            for name in sorted(names):
                shape = tuple(file.get_slice(name).get_shape())
                if shape != tuple(expected[name].shape):
                    raise WeightsError(f"{name} in {path} is {shape}, expected {tuple(expected[name].shape)}.")
            return {
                name: usable_tensor(path, name, file.get_tensor(name), expected[name].dtype) for name in sorted(names)
            }
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from error


def usable_tensor(path: Path, name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """Give a tensor of an adapter the type in which it will be used.

    Args:
        path: Of the adapter, for the message.
        name: Of the tensor.
        value: The tensor.
        dtype: A type of numbers with a point.

    Raises:
        WeightsError: For NaN, infinity and whole numbers, and for values that are too large for the type.
    """
    if not value.is_floating_point():
        raise WeightsError(
            f"{name} in {path} holds whole numbers ({_name(value.dtype)}), which no weights are.",
            "Export the adapter again, as float32, float16 or bfloat16.",
        )
    cast = value.to(dtype)
    for each in (value, cast) if cast is not value else (value,):
        if not is_finite(each):
            raise WeightsError(
                f"{name} in {path} holds NaN or infinity as {_name(each.dtype)}.",
                "Take an earlier state of its training, or another dtype.",
            )
    return cast


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_names(path: Path, found: set[str], expected: set[str]) -> None:
    missing, unknown = sorted(expected - found), sorted(found - expected)
    if missing or unknown:
        raise WeightsError(
            f"{path} does not fit: missing {missing[:_SHOWN]} ({len(missing)}), "
            f"unknown {unknown[:_SHOWN]} ({len(unknown)}).",
            f"Expected exactly the {len(expected)} tensors of this model's adapter.",
        )
