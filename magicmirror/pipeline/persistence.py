"""How a pipeline and its adapter are saved and loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import diffusers
import torch
import transformers
from accelerate.hooks import add_hook_to_module, remove_hook_from_module
from diffusers import DiffusionPipeline
from diffusers.loaders import CogVideoXLoraLoaderMixin
from torch import nn

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.models.adapter import ADAPTER_PARTS, load_adapter, save_adapter
from magicmirror.models.lora import check_no_lora
from magicmirror.models.presets import ModelPreset, model_preset, preset_names
from magicmirror.pipeline.assembly import (
    ENCODER_PARTS,
    FACE_PARTS,
    NETWORKS,
    STOCK_CLASS,
    STOCK_PARTS,
    assemble,
    check_components,
)
from magicmirror.pipeline.compatibility import check_together, configs_of
from magicmirror.pipeline.completeness import check_networks, check_tokenizer, check_values, explained
from magicmirror.pipeline.components import recorded_as
from magicmirror.pipeline.hub import HubOptions
from magicmirror.pipeline.quantisation import accept_loaded, check_savable
from magicmirror.pipeline.sources import (
    PHOTOMAKER,
    adapter_description,
    adapter_path,
    component_configs,
    folder_hash,
    identity_encoder_path,
    origin,
    pipeline_class,
    pipeline_folder,
)

_PARTS = (*STOCK_PARTS, *FACE_PARTS)
_ALIGNMENT_BYTES = 64
"""What torch's CPU allocator gives."""


class PersistentPipeline(DiffusionPipeline, CogVideoXLoraLoaderMixin):  # type: ignore[misc]
    """A diffusers pipeline with components of this package; it takes LoRA weights that were made for CogVideoX.

    Attributes:
        text_encoder_hook: accelerate's, where the text encoder leaves the device between prompts.
    """

    text_encoder_hook: Any = None

    def register_to_config(self, **components: Any) -> None:
        """Record components for ``model_index.json``; see ``magicmirror.pipeline.components``."""
        super().register_to_config(
            **{name: recorded_as(value) if isinstance(value, tuple) else value for name, value in components.items()}
        )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        adapter: str | os.PathLike[str] | None = None,
        identity_encoder: str | os.PathLike[str] | None = PHOTOMAKER,
        preset: str | ModelPreset | None = None,
        device: str | torch.device | None = None,
        revision: str | None = None,
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a saved pipeline, or put one together from stock CogVideoX, PhotoMaker-V2's encoder and an adapter.

        ::

            MagicMirrorPipeline.from_pretrained(
                "zai-org/CogVideoX-5b",
                adapter="owner/name@revision",
                identity_encoder="TencentARC/PhotoMaker-V2",
                dtype=torch.bfloat16,
                device="cuda",
            )

        What is not here is downloaded into the hub's cache, once (``docs/loading.md``).

        Args:
            pretrained_model_name_or_path: Folder or hub id (``owner/name[@revision]``) of a pipeline that
                ``save_pretrained`` wrote, or of a stock CogVideoX.
            adapter: Folder, safetensors file or hub id; needed with a stock CogVideoX, optional with a saved pipeline.
            identity_encoder: PhotoMaker-V2's file, its folder or hub id, which ``None`` takes too; a saved pipeline has
                its own.
            preset: Sizes of the adapter and the face networks, or their name; found by the base's where not given.
            device: Where the pipeline goes; ``None`` leaves it on the CPU.
            revision: Branch, tag or commit of the base.
            variant: Of the base's weights, as ``fp16``, for the parts that have it.
            cache_dir: Of the hub.
            local_files_only: Never ask the network; nor does it with ``HF_HUB_OFFLINE=1``.
            token: For private or gated repositories; without it that of ``hf auth login`` or ``HF_TOKEN``.
            **kwargs: ``dtype`` of all networks, float32 where it is not given, and components that are taken instead
                of loading them; with a saved pipeline, all that diffusers takes.

        Returns:
            The pipeline, in evaluation mode; its ``provenance`` says which weights it holds.

        Raises:
            ConfigError: For a preset or component that does not exist.
            WeightsError: If something is missing, damaged or does not fit; says what to do.
        """
        from magicmirror.pipeline.placement import choose_device  # it places pipelines, so it knows this module

        source, options = os.fspath(pretrained_model_name_or_path), HubOptions(local_files_only, cache_dir, token)
        # diffusers' default is float32, transformers' the precision of the file; one pipeline needs one of them.
        kwargs["dtype"] = _checked_dtype(kwargs.pop("torch_dtype", None) or kwargs.get("dtype") or torch.float32)
        place = None if device is None else choose_device(str(device))
        # Texts come first: a slip in a name, or what does not fit, is to show before gigabytes are fetched.
        others = {key: value for key, value in kwargs.items() if key != "dtype"}
        stock, sizes = cls.compare_sources(source, adapter, preset, revision=revision, options=options, given=others)
        given = {name: part for name, part in kwargs.items() if name in _PARTS}
        wanted = [part for part in (STOCK_PARTS if stock else _PARTS) if part not in given]
        weights = None if adapter is None else adapter_path(os.fspath(adapter), options)
        with _no_loading_bars():
            if stock:
                file = None if given.keys() >= {*ENCODER_PARTS} else os.fspath(identity_encoder or PHOTOMAKER)
                encoder = None if file is None else identity_encoder_path(file, options)
                folder = pipeline_folder(source, revision, variant, options, wanted)
                dtype, cache = kwargs["dtype"], options.own_cache
                pipeline = cls(**assemble(folder, encoder, sizes, dtype, variant=variant, cache=cache, given=given))
                pipeline.provenance = {"base": origin(source, folder)}
            else:
                pipeline = cls._from_saved(pipeline_folder(source, revision, variant, options, wanted), variant, kwargs)
        if weights is not None:
            pipeline.load_adapter(weights)
            pipeline.provenance["adapter"] = folder_hash(weights)
        return pipeline if place is None else pipeline.to(place)

    @classmethod
    def compare_sources(
        cls,
        source: str,
        adapter: str | os.PathLike[str] | None = None,
        preset: str | ModelPreset | None = None,
        *,
        revision: str | None = None,
        options: HubOptions | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> tuple[bool, ModelPreset | None]:
        """Find out whether base, adapter and preset belong together; of a hub only texts are fetched.

        Args:
            source: As for ``from_pretrained``.
            adapter: As for ``from_pretrained``.
            preset: As for ``from_pretrained``.
            revision: Of the base.
            options: Of the hub.
            given: Keyword arguments of ``from_pretrained`` that may name components.

        Returns:
            Whether the base is a stock CogVideoX, and the preset of one, where it can be told.

        Raises:
            ConfigError: For a preset or component that does not exist.
            WeightsError: If something is missing or does not fit.
        """
        sizes, given = model_preset(preset) if isinstance(preset, str) else preset, dict(given or {})
        if not isinstance(sizes, ModelPreset | None):
            raise ConfigError(f"{preset!r} is no preset.", f"Known are {', '.join(preset_names())}.")
        stock = _is_stock(source, pipeline_class(source, revision, options), cls.__name__, adapter is not None)
        components = {name: part for name, part in given.items() if name in _PARTS}
        check_components(given if stock else components)
        made_for = None if adapter is None else adapter_description(os.fspath(adapter), options)
        wanted = [part for part in (STOCK_PARTS if stock else _PARTS) if part not in components]
        configs = component_configs(source, wanted, revision, options) | configs_of(components)
        return stock, check_together(source, configs, sizes, made_for, stock=stock, given=components)

    @classmethod
    def _from_saved(cls, folder: Path, variant: str | None, options: Mapping[str, Any]) -> Self:
        """Load what ``save_pretrained`` wrote; of the options those that name components are taken as they are."""
        if "tokenizer" not in options:
            check_tokenizer(folder / "tokenizer")
        check_networks(folder, {name: kind for name, kind in NETWORKS.items() if name not in options}, variant)
        with explained(folder):
            pipeline: Self = super().from_pretrained(folder, variant=variant, **options)
        pipeline.provenance = {"base": folder_hash(folder), "adapter": "part of base"}
        networks = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
        accept_loaded([part for name, part in networks.items() if name not in options], options["dtype"])
        for name, network in networks.items():
            _align(network)
            if name not in options:
                check_values(folder / name, network)
        return pipeline

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], safe_serialization: bool = True, **options: Any
    ) -> None:
        """Save all components, as every diffusers pipeline does; weights in 8 bits are saved so.

        Args:
            save_directory: Made if needed.
            safe_serialization: Whether weights are written as safetensors; others are never read, so not written.
            **options: As for every diffusers pipeline.

        Raises:
            ConfigError: For weights in another format.
            WeightsError: For weights that could not be loaded again; nothing is written then.
        """
        if not safe_serialization:
            raise ConfigError("Weights are loaded from safetensors alone.", "Leave safe_serialization=False out.")
        check_savable(self.components)
        for name, component in self.components.items():
            if isinstance(component, nn.Module):
                check_no_lora(name, component)
        super().save_pretrained(save_directory, **options)

    def remove_all_hooks(self) -> None:
        """Remove all hooks of accelerate; the text encoder's is forgotten with them."""
        super().remove_all_hooks()
        self.text_encoder_hook = None

    def load_lora_weights(self, *source: Any, **options: Any) -> None:
        """Load a LoRA that was made for CogVideoX, as diffusers does; the networks stay where they are.

        Args:
            *source: As for every diffusers pipeline.
            **options: As for every diffusers pipeline.
        """
        # diffusers takes any hook for the offloading of all networks, and switches that on afterwards.
        hook = self.text_encoder_hook
        if hook is not None:
            remove_hook_from_module(self.text_encoder)
        try:
            super().load_lora_weights(*source, **options)
        finally:
            if hook is not None:
                add_hook_to_module(self.text_encoder, hook.hook)

    def save_adapter(self, folder: str | os.PathLike[str], config: Mapping[str, Any] | None = None) -> None:
        """Save what the training stages train: the transformer's adapter, face perceiver and fusion.

        Args:
            folder: Made if needed.
            config: Record of the writer, as the recipe of a training; kept with it and never checked.

        Raises:
            WeightsError: When it cannot be written; nothing new is left then.
        """
        save_adapter(folder, self._adapter_parts(), config)

    def load_adapter(self, source: str | os.PathLike[str]) -> None:
        """Load what ``save_adapter`` saved.

        Args:
            source: Folder with the two files of an adapter, or the one with the weights alone.

        Raises:
            WeightsError: If a file is missing, damaged, of another format version or made for other networks; nothing
                is loaded then.
        """
        load_adapter(source, self._adapter_parts())

    def _adapter_parts(self) -> dict[str, nn.Module]:
        """What stages 1 and 2 train, by the name it has in the file."""
        return {name: getattr(self, name) for name in ADAPTER_PARTS}


def _checked_dtype(dtype: Any) -> torch.dtype:
    """The type, or the one of that name.

    Raises:
        ConfigError: If it is no type of numbers with a point.
    """
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"{dtype!r} is no dtype for weights.", "Use torch.bfloat16, torch.float16 or torch.float32.")
    return found


@torch.no_grad()
def _align(module: nn.Module) -> None:
    """Move weights that begin at an odd place of a mapped file into memory of torch's own.

    CPU kernels round differently on unaligned data, and a loaded pipeline is to give the bits of the saved one.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % _ALIGNMENT_BYTES:
            tensor.data = tensor.data.clone()


def _is_stock(source: str, kind: str, own_class: str, with_adapter: bool) -> bool:
    """Whether a pipeline is a stock CogVideoX rather than a saved one of ours.

    Raises:
        WeightsError: If it is neither, or a stock one lacks an adapter.
    """
    if kind not in (own_class, STOCK_CLASS):
        raise WeightsError(
            f"{source} is a {kind}, expected a {STOCK_CLASS} or a {own_class}.", "Take a CogVideoX text-to-video model."
        )
    if kind == STOCK_CLASS and not with_adapter:
        raise WeightsError(
            f"{source} needs adapter weights, and none were given: without them the video would show somebody else.",
            "None are published yet. Train them (docs/training.md) and give their folder, file or hub id.",
        )
    return kind == STOCK_CLASS


@contextmanager
def _no_loading_bars() -> Iterator[None]:
    """Keep the libraries from drawing a bar for every component; downloads have one of their own."""
    logs = [module.utils.logging for module in (diffusers, transformers)]
    shown = [log for log in logs if log.is_progress_bar_enabled()]
    for log in shown:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()
