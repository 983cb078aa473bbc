"""Where weights come from: a path is taken as it is, anything else is the id of a repository on the hub.

=================  ======================================================================  ======================
weights            path                                                                    on the hub
=================  ======================================================================  ======================
base               folder of a CogVideoX in diffusers' layout, or of a saved pipeline      ``owner/name[@revision]``
identity encoder   PhotoMaker-V2's file, its folder, or the safetensors file made from it  the same
adapter            folder of ``save_adapter``, or its safetensors file alone               the same
=================  ======================================================================  ======================
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from magicmirror.errors import WeightsError
from magicmirror.models.adapter import CONFIG_FILE, WEIGHTS_FILE, read_description
from magicmirror.pipeline.hub import HubOptions, fetch

PHOTOMAKER = "TencentARC/PhotoMaker-V2"
PHOTOMAKER_FILE = "photomaker-v2.bin"
INDEX_FILE = "model_index.json"

_HUB_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_PLAIN_WEIGHTS = re.compile(r"\w+(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
_TEXTS = (".json", ".model", ".txt")


def split_source(source: str, revision: str | None = None) -> Path | tuple[str, str | None]:
    """Tell a path from the id of a repository.

    Args:
        source: As the user wrote it; a revision may follow the id after an ``@``.
        revision: Given apart; counts where the id has none.

    Returns:
        The path, which need not exist, or id and revision.

    Raises:
        WeightsError: If the system refuses to say whether there is such a path.
    """
    try:
        path = Path(source).expanduser()
        there = path.exists() or path.parent.exists()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise WeightsError(f'"{source}" cannot be looked up: {reason}.', "Check the path or the name.") from error
    found = _HUB_ID.fullmatch(source)
    # "runs/adapter" where there is a folder "runs" is a path with a slip in it, not somebody's repository.
    if there or found is None or source.startswith((".", "/", "~")):
        return path
    return found["repository"], found["revision"] or revision


def pipeline_class(source: str, revision: str | None = None, options: HubOptions | None = None) -> str:
    """Name of the class that a pipeline in diffusers' layout is of; of one on the hub only that file is fetched.

    Args:
        source: Folder or hub id.
        revision: Of the repository.
        options: Of the hub.

    Raises:
        WeightsError: If there is no such pipeline.
    """
    place = split_source(source, revision)
    if not isinstance(place, Path):
        place = fetch(*place, INDEX_FILE, lambda _: [INDEX_FILE], options or HubOptions())
    try:
        return str(json.loads((place / INDEX_FILE).read_text(encoding="utf-8"))["_class_name"])
    except OSError as error:
        raise WeightsError(
            f"{place} is not a saved pipeline: it has no {INDEX_FILE}.",
            "It must be a CogVideoX text-to-video model in diffusers' layout or a saved MagicMirrorPipeline, "
            "or the id of one on the hub (owner/name).",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{place / INDEX_FILE} is damaged: {error!r}.", "Copy or download it again.") from error


def component_configs(
    source: str, parts: Sequence[str], revision: str | None = None, options: HubOptions | None = None
) -> dict[str, dict[str, Any]]:
    """Configurations of a pipeline's networks; of a pipeline on the hub only these files are fetched.

    Args:
        source: Folder or hub id.
        parts: Names of components.
        revision: Of the repository.
        options: Of the hub.

    Returns:
        Component -> settings, of those that can be read: why another cannot is said when it is loaded.
    """
    place, files = split_source(source, revision), {part: f"{part}/config.json" for part in parts}
    if not isinstance(place, Path):
        place = fetch(
            *place,
            INDEX_FILE,
            lambda names: [INDEX_FILE, *(name for name in names if name in files.values())],
            options or HubOptions(),
        )
    configs = {}
    for part, file in files.items():
        with suppress(OSError, ValueError, TypeError):
            configs[part] = dict(json.loads((place / file).read_text(encoding="utf-8")))
    return configs


def pipeline_folder(
    source: str,
    revision: str | None = None,
    variant: str | None = None,
    options: HubOptions | None = None,
    parts: Sequence[str] | None = None,
) -> Path:
    """Folder of a pipeline in diffusers' layout: stock CogVideoX or a saved ``MagicMirrorPipeline``.

    Args:
        source: Folder or hub id.
        revision: Of the repository.
        variant: Of the weights, as ``fp16``; parts without it are taken plain.
        options: Of the hub.
        parts: Components that are wanted; ``None`` is all. Nothing of the others is fetched.

    Raises:
        WeightsError: If it is neither here nor on the hub, lacks a part, or no part has the variant.
    """

    def select(names: Sequence[str]) -> list[str]:
        _check_listing(source, names, variant, parts)
        return _needed(names, variant, parts)

    place = split_source(source, revision)
    if not isinstance(place, Path):
        return fetch(*place, INDEX_FILE, select, options or HubOptions())
    _check_variant(source, [path.relative_to(place).as_posix() for path in place.glob("*/*")], variant)
    return place


def identity_encoder_path(source: str, options: HubOptions | None = None) -> Path:
    """PhotoMaker-V2's file, or the safetensors file made from it.

    Args:
        source: The file, its folder, or a hub id.
        options: Of the hub.

    Raises:
        WeightsError: If it is neither here nor on the hub.
    """
    place = split_source(source)
    if not isinstance(place, Path):
        place = fetch(*place, PHOTOMAKER_FILE, lambda _: [PHOTOMAKER_FILE], options or HubOptions())
    path = place / PHOTOMAKER_FILE if place.is_dir() else place
    if not path.is_file():
        raise WeightsError(
            f"There is no {path}.", f"Give PhotoMaker-V2's file {PHOTOMAKER_FILE}, its folder, or {PHOTOMAKER}."
        )
    return path


def adapter_description(source: str, options: HubOptions | None = None) -> tuple[Path, dict[str, Any]]:
    """What an adapter was made for; of one on the hub only its description is fetched.

    Args:
        source: Folder, safetensors file or hub id.
        options: Of the hub.

    Returns:
        Folder or file, whose weights need not be there yet, and ``read_description`` of it.

    Raises:
        WeightsError: If there is no such adapter, or it is of another format.
    """
    place = split_source(source)
    if isinstance(place, Path):
        return place, read_description(place)
    place = fetch(*place, CONFIG_FILE, lambda _: [CONFIG_FILE], options or HubOptions())
    return place, read_description(place, [CONFIG_FILE])


def adapter_path(source: str, options: HubOptions | None = None) -> Path:
    """Folder or file of an adapter; need not exist where the source is a path.

    Args:
        source: Folder, safetensors file or hub id.
        options: Of the hub.

    Raises:
        WeightsError: If the hub does not have it.
    """
    place = split_source(source)
    if isinstance(place, Path):
        return place
    return fetch(*place, CONFIG_FILE, lambda _: [CONFIG_FILE, WEIGHTS_FILE], options or HubOptions())


def origin(source: str, path: Path) -> str:
    """What to record of weights: repository and commit, or the name of a local folder without its place."""
    place = split_source(source)
    return f"local:{path.name}" if isinstance(place, Path) else f"{place[0]}@{path.name}"


def folder_hash(folder: Path) -> str:
    """SHA-256 over the weights and configurations in a folder, by relative path and content; of a file alone, its own.

    Two folders share it exactly when loading them gives the same model.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if path.suffix in (".safetensors", ".json", ".model") and path.is_file():
            name = path.relative_to(folder).as_posix() if path != folder else path.name
            digest.update(f"{name}\0".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def _check_listing(source: str, names: Sequence[str], variant: str | None, parts: Sequence[str] | None) -> None:
    """Refuse a repository that lacks what will be missed once gigabytes of the rest are here.

    Raises:
        WeightsError: Naming the part.
    """
    another = "Take another repository or revision: a CogVideoX in diffusers' layout, with its weights in safetensors."
    for part in parts or ():
        inner = [name for name in names if PurePosixPath(name).parent.as_posix() == part]
        if not inner:
            raise WeightsError(f"{source} has no folder {part}.", another)
        if f"{part}/config.json" in inner and not component_weights(inner, variant):  # only networks have one
            raise WeightsError(f"{source} has no weights of its {part} in safetensors.", another)
    _check_variant(source, names, variant)


def _check_variant(source: str, names: Sequence[str], variant: str | None) -> None:
    if variant and not any(f".{variant}" in PurePosixPath(name).name for name in names if ".safetensors" in name):
        raise WeightsError(f"No part of {source} has the variant {variant}.", "Leave it out, or give one that it has.")


def _needed(names: Sequence[str], variant: str | None, parts: Sequence[str] | None) -> list[str]:
    """Of all files of a repository those that loading reads: configurations, tokenizer, weights of one variant."""
    folders = {name.partition("/")[0] for name in names if name.count("/") == 1}
    chosen = [INDEX_FILE]
    for folder in sorted(folders if parts is None else folders & set(parts)):
        inner = [name for name in names if PurePosixPath(name).parent.as_posix() == folder]
        chosen += [name for name in inner if name.endswith(_TEXTS) and ".index." not in name]
        chosen += component_weights(inner, variant)
    return chosen


def component_weights(names: Sequence[str], variant: str | None) -> list[str]:
    """Of the files of one component its weights in safetensors, with the index of their shards.

    Args:
        names: Of files.
        variant: Of the weights; a component without it is taken plain.
    """
    weights = [name for name in names if ".safetensors" in name]
    chosen = [name for name in weights if variant and f".{variant}" in PurePosixPath(name).name]
    return chosen or [name for name in weights if _PLAIN_WEIGHTS.fullmatch(PurePosixPath(name).name)]
