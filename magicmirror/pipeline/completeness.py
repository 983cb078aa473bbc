"""Whether all of a loaded network came from its files: libraries fill in what a copy lacks, or leave it empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from magicmirror.errors import WeightsError
from magicmirror.models.adapter import tensor_sizes
from magicmirror.pipeline.hub import first_line

TOKENIZER_FILES = ("spiece.model", "tokenizer.json")
_AGAIN = "Copy or download it again."
_NAMED = 3
_RAISED = (
    *(OSError, ValueError, LookupError, TypeError, RuntimeError, AttributeError, ImportError),
    SafetensorError,
)


@contextmanager
def explained(part: Path) -> Iterator[None]:
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


def check_found(part: Path, missing: Sequence[str]) -> None:
    """Refuse weights in which a library has missed something.

    Args:
        part: Folder of the network.
        missing: Names of tensors that were not in its files.

    Raises:
        WeightsError: If there is any.
    """
    if missing:
        named = ", ".join(sorted(missing)[:_NAMED])
        raise WeightsError(f"{part} is not complete: it lacks {named} ({len(missing)} in all).", _AGAIN)


def check_networks(folder: Path, components: Mapping[str, Any], weights: Mapping[str, list[str]]) -> None:
    """Find networks of a saved pipeline that are not wholly from its files.

    Libraries tell of missing tensors only in their logs. A network that has one is either left without values there, or
    holds more values than its files.

    Args:
        folder: Of the pipeline.
        components: Name -> component, of those that came from the folder.
        weights: Component -> its files of weights, relative to the folder.

    Raises:
        WeightsError: Naming the first.
    """
    for name, network in components.items():
        if not isinstance(network, nn.Module):
            continue
        check_found(folder / name, [key for key, value in network.named_parameters() if value.is_meta])
        held = sum(value.numel() for value in network.parameters())
        files = [folder / file for file in weights.get(name, ()) if file.endswith(".safetensors")]
        if (there := sum(count for file in files for count, _ in tensor_sizes(file).values())) < held:
            raise WeightsError(
                f"{folder / name} is not complete: its files hold {there:,} values, the network has {held:,}.", _AGAIN
            )
