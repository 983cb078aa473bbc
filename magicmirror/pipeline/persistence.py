"""How a pipeline and its adapter are saved and loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import CogVideoXLoraLoaderMixin
from torch import nn

from magicmirror.errors import WeightsError
from magicmirror.models.adapter import load_adapter, save_adapter
from magicmirror.pipeline.components import recorded_as

_ALIGNMENT_BYTES = 64
"""What torch's CPU allocator gives."""


class PersistentPipeline(DiffusionPipeline, CogVideoXLoraLoaderMixin):  # type: ignore[misc]
    """A diffusers pipeline with components of this package; it takes LoRA weights that were made for CogVideoX."""

    def register_to_config(self, **components: Any) -> None:
        """Record components for ``model_index.json``; see ``magicmirror.pipeline.components``."""
        super().register_to_config(
            **{name: recorded_as(value) if isinstance(value, tuple) else value for name, value in components.items()}
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Load a pipeline that ``save_pretrained`` wrote.

        Args:
            pretrained_model_name_or_path: Folder, or hub id.
            **kwargs: As for every diffusers pipeline; components given here are not loaded.

        Returns:
            The pipeline, in evaluation mode.

        Raises:
            WeightsError: If the folder is no saved pipeline.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            # diffusers' own download refuses components of other packages.
            hub = ("cache_dir", "force_download", "local_files_only", "token", "revision")
            options = {key: kwargs.pop(key) for key in hub if key in kwargs}
            folder = Path(snapshot_download(str(pretrained_model_name_or_path), **options))
        if not (folder / cls.config_name).is_file():
            raise WeightsError(
                f"{folder} is not a saved pipeline: it has no {cls.config_name}.",
                f"It must be a folder written by {cls.__name__}.save_pretrained.",
            )
        if "dtype" not in kwargs and "torch_dtype" not in kwargs:
            # diffusers' default is float32, transformers' the precision of the file; one pipeline needs one of them.
            kwargs["dtype"] = torch.float32
        pipeline: Self = super().from_pretrained(folder, **kwargs)
        for component in pipeline.components.values():
            if isinstance(component, nn.Module):
                _align(component)
        return pipeline

    def save_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Save what the training stages train: the transformer's adapter, face perceiver and fusion."""
        save_adapter(folder, self._adapter_parts())

    def load_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Load what ``save_adapter`` saved.

        Args:
            folder: With the two files of an adapter.

        Raises:
            WeightsError: If a file is missing, damaged, of another format version or made for other networks; nothing
                is loaded then.
        """
        load_adapter(folder, self._adapter_parts())

    def _adapter_parts(self) -> dict[str, nn.Module]:
        """What stages 1 and 2 train, by the name it has in the file."""
        return {name: getattr(self, name) for name in ("transformer", "face_perceiver", "identity_fusion")}


@torch.no_grad()
def _align(module: nn.Module) -> None:
    """Move weights that begin at an odd place of a mapped file into memory of torch's own.

    CPU kernels round differently on unaligned data, and a loaded pipeline is to give the bits of the saved one.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % _ALIGNMENT_BYTES:
            tensor.data = tensor.data.clone()
