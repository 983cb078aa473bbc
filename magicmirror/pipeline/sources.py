"""Where weights come from: a path is taken as it is, a hub id is downloaded (or found in the hub's cache)."""

from __future__ import annotations

import hashlib
from pathlib import Path

from magicmirror.errors import WeightsError
from magicmirror.models.adapter import CONFIG_FILE, WEIGHTS_FILE

PHOTOMAKER_FILE = "photomaker-v2.bin"
_STOCK_FILES = ["model_index.json", "*/*.json", "*/*.safetensors", "tokenizer/*"]


def stock_folder(source: str) -> Path:
    """Folder of a stock CogVideoX pipeline.

    Args:
        source: Folder or hub id.

    Raises:
        WeightsError: If it is neither here nor on the hub.
    """
    return Path(source) if Path(source).is_dir() else _download(source, _STOCK_FILES)


def photomaker_file(source: str) -> Path:
    """PhotoMaker-V2's file.

    Args:
        source: The file, its folder, or a hub id.

    Raises:
        WeightsError: If it is neither here nor on the hub.
    """
    path = Path(source)
    if path.is_file():
        return path
    folder = path if path.is_dir() else _download(source, [PHOTOMAKER_FILE])
    return folder / PHOTOMAKER_FILE


def adapter_folder(source: str) -> Path:
    """Folder of an adapter; need not exist where the source is a path.

    Args:
        source: Folder, or hub id ("owner/name").

    Raises:
        WeightsError: If the hub does not have it.
    """
    path = Path(source)
    is_hub_id = source.count("/") == 1 and not source.startswith((".", "/", "~")) and not path.parent.exists()
    return _download(source, [WEIGHTS_FILE, CONFIG_FILE]) if is_hub_id else path.expanduser()


def folder_hash(folder: Path) -> str:
    """SHA-256 over the weights and configurations in a folder, by relative path and content."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".json", ".model") and path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def _download(repository: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except (OSError, ValueError) as error:  # unreachable hub, unknown repository, malformed id
        raise WeightsError(
            f"{repository} is no folder here and cannot be downloaded: {error}",
            "Check the name and the network, or give the path of a folder.",
        ) from error
