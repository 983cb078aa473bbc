"""Whether the files of a network hold all of it, before any value is read.

The libraries tell of a tensor that a copy lacks in their logs alone, and fill it with random values or leave it empty.
So its names and shapes, as the headers of its files give them, are compared with those of the class that is built from
its configuration on the meta device, which takes no memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel

from magicmirror.errors import WeightsError
from magicmirror.models.weights_files import is_finite, is_floating_point, tensor_headers
from magicmirror.pipeline.hub import first_line
from magicmirror.pipeline.sources import component_weights

TOKENIZER_FILES = ("spiece.model", "tokenizer.json")
_AGAIN = "Copy or download it again."
_NAMED = 3
_SHARD = re.compile(r".*-\d{5}-of-\d{5}.*")
_OLD_PREFIX = "vision_model"
"""Of CLIP's tower in files that are older than the class; the library takes both."""
_RAISED = (
    *(OSError, ValueError, LookupError, TypeError, RuntimeError, AttributeError, ImportError),
    SafetensorError,
    StrictDataclassError,  # of transformers' configurations
)


@contextmanager
def explained(part: str | Path) -> Iterator[None]:
    """Turn what the libraries raise for a damaged folder into one sentence.

    Raises:
        WeightsError: In place of theirs.
    """
    try:
        yield
    except _RAISED as error:
        raise WeightsError(f"{part} cannot be loaded: {first_line(error)}.", _AGAIN) from error


def check_tokenizer(folder: Path) -> None:
    """Find out whether a tokenizer has its vocabulary; without, every word would be the unknown one.

    Raises:
        WeightsError: If it has none.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise WeightsError(f"{folder} has no vocabulary ({' or '.join(TOKENIZER_FILES)}).", _AGAIN)


def check_networks(folder: Path, networks: Mapping[str, Any], variant: str | None = None) -> None:
    """Find networks that the files of a pipeline do not hold completely, or not in their shapes.

    What the libraries tolerate is tolerated: tensors of another network, tied ones once, a prefix of the class, names
    that the class declares as dispensable or ignores. But a tensor that belongs inside of one of its modules and has no
    place there tells of a configuration that asks for less than was saved. A network whose configuration says that it
    is quantised is left to its library.

    Args:
        folder: Of the pipeline.
        networks: Component -> its class.
        variant: Of the weights, for the components that have it.

    Raises:
        WeightsError: For the first, naming its folder, the file and the tensors.
    """
    for name, kind in networks.items():
        part = folder / name
        with explained(part):
            config = json.loads((part / "config.json").read_text(encoding="utf-8"))
            if config.get("quantization_config"):
                continue
            network = _on_meta(part, kind)
        for label, files in _sets_of_weights(part, variant).items():
            _check_set(part, label, files, network)


def check_values(part: Path, network: nn.Module) -> None:
    """Refuse a loaded network with values that are no numbers; it would end in black frames, an hour later.

    Args:
        part: Where it came from.
        network: With its values.

    Raises:
        WeightsError: Naming the first tensor.
    """
    for name, value in network.named_parameters():
        if not is_finite(value):
            dtype = str(value.dtype).removeprefix("torch.")
            raise WeightsError(
                f"{part} is damaged: {name} holds NaN or infinity as {dtype}.", f"{_AGAIN[:-1]}, or take another dtype."
            )


def _on_meta(part: Path, kind: Any) -> nn.Module:
    """The network of a folder without values."""
    with torch.device("meta"):
        if issubclass(kind, PreTrainedModel):
            network: nn.Module = kind(kind.config_class.from_pretrained(part, local_files_only=True))
        else:
            network = kind.from_config(kind.load_config(part, local_files_only=True))
    return network


def _sets_of_weights(part: Path, variant: str | None) -> dict[str, list[Path]]:
    """Name of an index or a file alone -> its files; where there are several, the libraries differ in which they take.

    Raises:
        WeightsError: If there is none, or a shard is missing.
    """
    there = sorted(path.name for path in part.iterdir() if path.is_file())
    names = component_weights(there, variant)
    sets = {name: [part / name] for name in names if not name.endswith(".json") and not _SHARD.fullmatch(name)}
    for name in names:
        if name.endswith(".json"):
            sets[name] = _shards(part / name)
    if not sets:
        others = [name for name in there if ".safetensors" in name]
        found = f", only {_named(others)}" if others else ""
        remedy = "Copy or download it again, or give the variant that is there." if others else _AGAIN
        raise WeightsError(f"{part} cannot be loaded: it has no weights in safetensors{found}.", remedy)
    return sets


def _shards(index: Path) -> list[Path]:
    """Files of an index."""
    try:
        names = sorted({*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
        outside = [name for name in names if Path(name).name != name]
        missing = [name for name in names if not (index.parent / name).is_file()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index} is damaged: {first_line(error)}.", _AGAIN) from error
    if outside:
        raise WeightsError(f"{index} is damaged: {outside[0]} is no name of a file beside it.", _AGAIN)
    if missing:
        raise WeightsError(f"{index.parent} is not complete: {missing[0]} is missing ({len(missing)} in all).", _AGAIN)
    return [index.parent / name for name in names]


def _check_set(part: Path, label: str, files: Sequence[Path], network: nn.Module) -> None:
    """Compare what the headers of some files say with what a network on the meta device expects."""
    found = _headers(files, network)
    expected = {_plain(network, name): value for name, value in network.state_dict(keep_vars=True).items()}
    held = {id(value) for name, value in expected.items() if name in found}  # tied tensors are one
    dispensable = [re.compile(each) for each in getattr(network, "_keys_to_ignore_on_load_missing", None) or ()]
    missing = {
        id(value): name
        for name, value in reversed(expected.items())
        if id(value) not in held and not any(each.search(name) for each in dispensable)
    }
    if missing:
        foreign = sorted(found.keys() - expected.keys())
        instead = f", which holds {_named(foreign)} of no use to it" if foreign else ""
        raise WeightsError(
            f"{part} is not complete: it lacks {_named(sorted(missing.values()))} in {label}{instead}.", _AGAIN
        )
    if misplaced := [name for name in found.keys() - expected.keys() if _belongs(network, name, found[name][2])]:
        raise WeightsError(
            f"{part} does not fit its config.json, which has no place for {_named(sorted(misplaced))} in {label}.",
            _AGAIN,
        )
    for name, (file, shape, dtype) in found.items():
        value = expected.get(name)
        if value is not None and shape != tuple(value.shape):
            wanted = tuple(value.shape)
            raise WeightsError(
                f"{part} does not fit its config.json: {name} in {file.name} is {shape}, expected {wanted}.", _AGAIN
            )
        if value is not None and value.is_floating_point() and not is_floating_point(dtype):
            raise WeightsError(
                f"{file} is damaged: {name} holds whole numbers ({dtype}), which no weights are.", _AGAIN
            )


def _belongs(network: nn.Module, name: str, dtype: str) -> bool:
    """Whether a tensor that a network does not have is inside of one of its modules; whole numbers are old buffers."""
    ignored = getattr(network, "_keys_to_ignore_on_load_unexpected", None) or ()
    inside = name.partition(".")[0] in dict(network.named_children())
    return inside and is_floating_point(dtype) and not any(re.search(each, name) for each in ignored)


def _headers(files: Sequence[Path], network: nn.Module) -> dict[str, tuple[Path, tuple[int, ...], str]]:
    """Name of a tensor -> file, shape and type."""
    found: dict[str, tuple[Path, tuple[int, ...], str]] = {}
    for file in files:
        try:
            found |= {_plain(network, name): (file, *header) for name, header in tensor_headers(file).items()}
        except WeightsError as error:
            reason = first_line(error.__cause__) if isinstance(error.__cause__, Exception) else error.message
            raise WeightsError(f"{file} is damaged: {reason}.", _AGAIN) from error
    return found


def _plain(network: nn.Module, name: str) -> str:
    """Name of a tensor without what some versions of its library put before it."""
    if isinstance(network, PreTrainedModel):
        for prefix in (network.base_model_prefix, _OLD_PREFIX):
            name = name.removeprefix(f"{prefix}.")
    return name


def _named(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_NAMED])} ({len(names)} in all)"
