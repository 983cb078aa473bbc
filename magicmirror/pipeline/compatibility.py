"""Whether base, preset and adapter belong together, by their configurations: before anything large is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from magicmirror.errors import WeightsError
from magicmirror.models.adapter import ADAPTER_PARTS, check_base, check_description
from magicmirror.models.presets import ModelPreset, model_preset, preset_names
from magicmirror.pipeline.completeness import explained
from magicmirror.pipeline.components import FacePerceiver, IdentityFusion, MagicMirrorTransformer3DModel

ADAPTER_SETTINGS = ("identity_dim", "num_face_tokens", "identity_proj_dim", "can_hidden_dim")
_BASE_SETTINGS = ("num_layers", "num_attention_heads", "attention_head_dim", "text_embed_dim", "patch_size_t")
_KINDS = dict(zip(ADAPTER_PARTS, (MagicMirrorTransformer3DModel, FacePerceiver, IdentityFusion), strict=True))

Configs = Mapping[str, Mapping[str, Any]]
"""Component -> its configuration, of those that are known."""


def check_together(
    base: str,
    configs: Configs,
    preset: ModelPreset | None,
    adapter: tuple[Path, Mapping[str, Any]] | None,
    *,
    stock: bool = True,
    given: Mapping[str, Any] | None = None,
) -> ModelPreset | None:
    """Compare base, preset and adapter by what their configurations say.

    Args:
        base: Folder or hub id, for messages.
        configs: Of its components, or of those in their place.
        preset: Sizes of the adapter and the face networks, where they are given.
        adapter: Its path and description.
        stock: Whether the base is a stock CogVideoX, which takes its adapter's sizes from the preset.
        given: Components that are taken in place of the base's.

    Returns:
        The preset of a stock base, where it can be told; what is wrong with the base is said when it is loaded.

    Raises:
        WeightsError: If they do not belong together.
    """
    if adapter is not None:
        check_base(*adapter, (stock and preset and preset.transformer) or configs.get("transformer", {}))
    if stock and "transformer" in configs:
        preset = fitting_preset(base, configs, preset)
    if adapter is not None:
        networks = adapter_networks(base, configs, preset if stock else None)
        networks |= {name: part for name, part in (given or {}).items() if name in ADAPTER_PARTS}
        check_description(*adapter, networks)
    return preset


def fitting_preset(base: str, configs: Configs, preset: ModelPreset | None) -> ModelPreset:
    """Find the preset for a stock CogVideoX, or compare it with one.

    Args:
        base: Folder or hub id, for messages.
        configs: Of its components.
        preset: ``None`` finds the one that was made for this base.

    Raises:
        WeightsError: If there is none, or base and preset, or parts of the base, do not fit each other.
    """
    text, video, transformer = (configs.get(part, {}) for part in ("text_encoder", "vae", "transformer"))
    preset = preset or _preset_of(base, transformer)
    differing = _differing(transformer, preset) if transformer else []
    for part, found, key, expected in (
        ("text_encoder", text.get("d_model"), "d_model", transformer.get("text_embed_dim")),
        ("vae", video.get("latent_channels"), "latent_channels", transformer.get("in_channels")),
    ):
        if None not in (found, expected) and found != expected:
            differing.append(f"{key} of its {part} is {found}, expected {expected}")
    if differing:
        raise WeightsError(
            f"{base} does not fit what was asked for: {'; '.join(differing)}.",
            "Take the base that the profile and the adapter were made for.",
        )
    return preset


def configs_of(components: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Component -> its configuration, of the networks among them."""
    networks = {name: part for name, part in components.items() if isinstance(part, nn.Module)}
    found: dict[str, Any] = {name: getattr(part, "config", {}) for name, part in networks.items()}
    return {name: dict(each.to_dict() if hasattr(each, "to_dict") else each) for name, each in found.items()}


def adapter_networks(base: str, configs: Configs, preset: ModelPreset | None = None) -> dict[str, nn.Module]:
    """What receives an adapter, without values (on the meta device).

    Args:
        base: Folder or hub id, for messages.
        configs: Of its components.
        preset: Sizes of what a stock CogVideoX lacks; ``None`` for a saved pipeline, which lacks nothing.

    Returns:
        Part -> network, of those whose configuration is known.

    Raises:
        WeightsError: If a configuration is none of its class.
    """
    if preset is not None:
        settings = {key: value for key, value in preset.transformer.items() if key in ADAPTER_SETTINGS}
        own = {"face_perceiver": preset.face_perceiver, "identity_fusion": preset.identity_fusion}
        transformer = configs.get("transformer")
        configs = own if transformer is None else {**own, "transformer": {**settings, **transformer}}
    networks: dict[str, nn.Module] = {}
    for part, kind in _KINDS.items():
        if part in configs:
            config = {key: value for key, value in configs[part].items() if not key.startswith("_")}
            with explained(f"{base}/{part}"), torch.device("meta"):
                networks[part] = kind.from_config(config)
    return networks


def _preset_of(base: str, config: Mapping[str, Any]) -> ModelPreset:
    if not config:
        raise WeightsError(f"The sizes of the transformer of {base} are not known.", "Give preset=.")
    for name in preset_names():
        preset = model_preset(name)
        if not _differing(config, preset):
            return preset
    raise WeightsError(
        f"{base} has a transformer of {config.get('num_layers')} layers with {config.get('num_attention_heads')} "
        f"heads, which no adapter is designed for.",
        f"Take the base of one of {', '.join(preset_names())}.",
    )


def _differing(config: Mapping[str, Any], preset: ModelPreset) -> list[str]:
    wanted = {key: preset.transformer.get(key) for key in _BASE_SETTINGS}
    return [
        f"{key} is {config.get(key)}, expected {value}"
        for key, value in wanted.items()
        if config.get(key) != value and (value is not None or key == "patch_size_t")
    ]
