"""Adapters for other people: what is in one, a package with a model card, and the way to the hub.

::

    magicmirror_adapter.safetensors + .json   the adapter (``models/adapter.py``)
    README.md                                 model card: what it is for, how to load it, how it was made, its limits
    recipe.json                               settings of the training, where they are known

Nothing else goes into a package, and so no photo of anybody.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, RevisionNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.media import complete_folder, make_folder
from magicmirror.models.adapter import (
    ADAPTER_PARTS,
    CONFIG_FILE,
    WEIGHTS_FILE,
    read_description,
    usable_tensor,
    verified_sha256,
    weights_path,
    write_adapter,
)
from magicmirror.models.presets import model_preset, preset_names
from magicmirror.models.weights_files import tensor_headers
from magicmirror.pipeline.hub import TRANSPORT_ERRORS, HubOptions, first_line, unserved
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.pipeline.profiles import find_profile
from magicmirror.pipeline.sources import INDEX_FILE, adapter_path

CARD_FILE = "README.md"
RECIPE_FILE = "recipe.json"
PACKAGE_FILES = (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE, RECIPE_FILE)
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class AdapterReport:
    """What an adapter is.

    Args:
        version: Of the format.
        base_class: Class of the transformer that it belongs to.
        preset: Name of the preset that it fits, or ``None``.
        parts: Part -> number of parameters.
        dtypes: Of its tensors, by safetensors' names.
        num_bytes: Size of the weights.
        sha256: Of the weights.
        settings: Part -> the settings that it depends on.
        record: Of the writer: base, recipe.
    """

    version: int
    base_class: str
    preset: str | None
    parts: dict[str, int]
    dtypes: tuple[str, ...]
    num_bytes: int
    sha256: str
    settings: dict[str, dict[str, Any]]
    record: dict[str, Any]


def inspect_adapter(source: str, options: HubOptions | None = None) -> AdapterReport:
    """Read what an adapter is, without a model.

    Args:
        source: Folder, safetensors file or hub id.
        options: Of the hub.

    Raises:
        WeightsError: If it is missing, damaged or of another format.
    """
    path = adapter_path(source, options)
    description, weights = read_description(path), weights_path(path)
    headers = tensor_headers(weights)
    sha256 = verified_sha256(weights, description)
    settings = {part: _object_of(description, part, path) for part in ADAPTER_PARTS if part in description}
    parts = {
        part: sum(prod(shape) for name, (shape, _) in headers.items() if name.startswith(f"{part}."))
        for part in settings
    }
    return AdapterReport(
        version=description["version"],
        base_class=description["base_class"],
        preset=_preset_of(settings.get("transformer", {})),
        parts=parts,
        dtypes=tuple(sorted({dtype for _, dtype in headers.values()})),
        num_bytes=weights.stat().st_size,
        sha256=sha256,
        settings=settings,
        record={} if description.get("config") is None else _object_of(description, "config", path),
    )


def _object_of(description: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """An entry of a description that says several things; what a recipe is, is the writer's affair."""
    value = description[name]
    if not isinstance(value, dict):
        raise WeightsError(
            f'The description of {path} is damaged: "{name}" is {value!r}, expected an object.',
            "Copy or download the adapter again.",
        )
    return value


def export_adapter(
    source: str,
    target: Path,
    dtype: str | None = None,
    license_id: str | None = None,
    repository: str = "OWNER/NAME",
) -> AdapterReport:
    """Write an adapter as a package, or as one file.

    Args:
        source: Adapter (folder, file or hub id), folder of a saved pipeline, or of a finished training run.
        target: New folder for a package, or a name that ends in ``.safetensors`` for the weights alone.
        dtype: One of ``DTYPES``; ``None`` keeps that of the source.
        license_id: Of the weights, for the model card, by the hub's identifiers.
        repository: Where it will be published, for the model card.

    Returns:
        What was written.

    Raises:
        ConfigError: For an unknown dtype, or a target that exists.
        WeightsError: If the source is no adapter, or the target cannot be written.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f'Unknown dtype "{dtype}".', f"Known are {', '.join(DTYPES)}.")
    if os.path.lexists(target):  # a link to nowhere, too, and a name that is too long is nothing
        raise ConfigError(f"{target} exists already.", "Choose another name, or remove it.")
    with tempfile.TemporaryDirectory() as scratch:
        origin = _adapter_of(source, Path(scratch))
        description = read_description(origin)
        verified_sha256(weights_path(origin), description)
        try:
            tensors = load_file(weights_path(origin))
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{origin} cannot be read: {error}.", "Copy or download it again.") from error
        tensors = {
            name: usable_tensor(weights_path(origin), name, value, getattr(torch, dtype) if dtype else value.dtype)
            for name, value in tensors.items()
        }
        if target.suffix == ".safetensors":
            write_adapter(target, tensors, description)
        else:
            make_folder(target.parent, WeightsError, "Choose another folder.")
            with complete_folder(target, WeightsError) as partial:
                write_adapter(partial, tensors, description)
                write_card(partial, license_id, repository)
    return inspect_adapter(str(target))


def push_adapter(
    source: str,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    license_id: str | None = None,
    token: str | None = None,
) -> str:
    """Publish an adapter with its model card on the hub.

    Args:
        source: As for ``export_adapter``.
        repository: "owner/name"; made if needed.
        private: Whether a new repository is.
        revision: Branch that must exist; ``None`` is the main branch.
        license_id: Of the weights, for the model card.
        token: With the right to write; ``None`` takes that of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        Address of the repository.

    Raises:
        WeightsError: If the source is no adapter, or the hub refuses or cannot be reached.
    """
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / "package"
        export_adapter(source, package, None, license_id, repository)
        try:
            address = api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repository,
                folder_path=package,
                revision=revision,
                allow_patterns=list(PACKAGE_FILES),
                commit_message="Adapter of MagicMirror",
            )
        except (*TRANSPORT_ERRORS, ValueError) as error:
            raise _not_published(error, repository, revision) from error
    return str(address)


def _not_published(error: Exception, repository: str, revision: str | None) -> WeightsError:
    """Say why the hub has not taken an adapter."""
    if isinstance(error, HFValidationError):
        return WeightsError(f'"{repository}" is no id of a repository.', 'Give "owner/name".')
    if isinstance(error, RevisionNotFoundError):
        return WeightsError(
            f"{repository} has no branch {revision}.", "Make it on the hub first, or leave it out for the main branch."
        )
    if isinstance(error, (HfHubHTTPError, LocalTokenNotFoundError)):
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else 401
        if status in (401, 403):
            return WeightsError(
                f"The hub does not let you write to {repository}.",
                "Log in with `hf auth login` or set HF_TOKEN to a token that may write there.",
            )
        return unserved(status, repository, "take")
    # The hub checks the head of the model card before anything is sent; an answer that is no JSON is its fault.
    if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
        return WeightsError(
            f"The hub refuses the model card for {repository}: {' '.join(str(error).split()).rstrip('.')}.",
            "Give a license by the hub's identifiers, as apache-2.0.",
        )
    return WeightsError(f"{repository} could not be sent: {first_line(error)}.", "Check the network and run it again.")


def write_card(folder: Path, license_id: str | None = None, repository: str = "OWNER/NAME") -> None:
    """Put model card and recipe beside an adapter.

    Args:
        folder: With the two files of an adapter.
        license_id: Of the weights, by the hub's identifiers.
        repository: Where it will be published.
    """
    report = inspect_adapter(str(folder))
    recipe = report.record.get("recipe")
    if recipe is not None:
        (folder / RECIPE_FILE).write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    base = None if report.preset in (None, "preview") else find_profile(str(report.preset)).base
    data = ModelCardData(
        license=license_id,
        library_name="magicmirror",
        pipeline_tag="text-to-video",
        base_model=base,
        tags=["magicmirror", "identity-preserving", "adapter"],
    )
    (folder / CARD_FILE).write_text(
        f"---\n{data.to_yaml()}\n---\n{_card_text(report, base, repository)}", encoding="utf-8"
    )


def _card_text(report: AdapterReport, base: str | None, repository: str) -> str:
    rows = "\n".join(f"| {part} | {count:,} |" for part, count in report.parts.items())
    recipe = report.record.get("recipe")
    made = f"\n```json\n{json.dumps(recipe, indent=2)}\n```\n" if recipe else "\nThe writer did not record a recipe.\n"
    return f"""
# Adapter of MagicMirror

Identity-preserved text-to-video: with this adapter a {report.base_class} shows the person of a reference photo
(MagicMirror, arXiv 2501.03931; an open implementation, not the authors' weights).

| part | parameters |
|---|---|
{rows}

Format {report.version}, {", ".join(report.dtypes)}, {report.num_bytes / 1e6:.1f} MB, preset `{report.preset}`,
SHA-256 `{report.sha256}`.

## Use

```python
from magicmirror import MagicMirrorPipeline

pipeline = MagicMirrorPipeline.from_pretrained("{base or "BASE"}", adapter="{repository}")
```

```bash
python -m magicmirror generate --profile {report.preset or "PROFILE"} --adapter {repository} \\
    --reference face.jpg --prompt "a woman smiles" --output out.mp4
```

## Training
{made}
## Limits and responsible use

It draws a likeness, not the person: faces can drift or resemble somebody else. Use photos of people who agreed to it,
mark the videos as AI-generated, and do not use them to deceive. How well an adapter keeps a face is measured by
`python -m magicmirror evaluate`; without such figures nothing is known about this one.
"""


def _adapter_of(source: str, scratch: Path) -> Path:
    """The adapter in what somebody may call one; that of a saved pipeline is taken out first."""
    folder = Path(source).expanduser()
    for made in ("adapter", "pipeline"):  # of a training run
        if (folder / made).is_dir() and not (folder / CONFIG_FILE).is_file():
            folder = folder / made
            break
    if (folder / INDEX_FILE).is_file():
        record = _recipe_of(folder)
        pipeline = MagicMirrorPipeline.from_pretrained(folder, dtype=_dtype_of(folder))
        pipeline.save_adapter(scratch / "adapter", record)
        return scratch / "adapter"
    return adapter_path(str(folder) if folder.exists() else source)


def _recipe_of(folder: Path) -> dict[str, Any] | None:
    """What a training left beside a saved pipeline."""
    path = folder / RECIPE_FILE
    try:
        return {"recipe": json.loads(path.read_text(encoding="utf-8"))} if path.is_file() else None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}.", "Mend or remove it.") from error


def _dtype_of(folder: Path) -> torch.dtype:
    """Precision in which a saved pipeline's transformer is kept."""
    names = {"F16": torch.float16, "BF16": torch.bfloat16}
    found = {
        dtype for path in (folder / "transformer").glob("*.safetensors") for _, dtype in tensor_headers(path).values()
    }
    return names.get(found.pop(), torch.float32) if len(found) == 1 else torch.float32


def _preset_of(settings: Mapping[str, Any]) -> str | None:
    """Preset whose transformer an adapter fits."""
    for name in preset_names():
        sizes = {"patch_size_t": None, **model_preset(name).transformer}
        if settings and all(sizes.get(key, value) == value for key, value in settings.items()):
            return name
    return None
