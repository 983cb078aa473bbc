"""The components of a full-size pipeline from its published parts: stock CogVideoX and PhotoMaker-V2's encoder.

The adapter is fresh afterwards; ``load_adapter`` gives it its values.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionModel, T5EncoderModel, T5Tokenizer

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.models.fusion import IdentityFusion
from magicmirror.models.perceiver import FacePerceiver, IdentityPerceiver
from magicmirror.models.presets import ModelPreset
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.pipeline.compatibility import ADAPTER_SETTINGS, configs_of, fitting_preset
from magicmirror.pipeline.completeness import check_networks, check_tokenizer, check_values, explained
from magicmirror.pipeline.identity_encoder import load_identity_encoder
from magicmirror.pipeline.sources import component_weights

_Module = TypeVar("_Module", bound=nn.Module)

STOCK_CLASS = "CogVideoXPipeline"
STOCK_PARTS = ("tokenizer", "text_encoder", "vae", "transformer", "scheduler")
STOCK_NETWORKS = {
    "text_encoder": T5EncoderModel,
    "vae": AutoencoderKLCogVideoX,
    "transformer": CogVideoXTransformer3DModel,
}
NETWORKS = {
    **STOCK_NETWORKS,
    "transformer": MagicMirrorTransformer3DModel,
    "image_encoder": CLIPVisionModel,
    "identity_perceiver": IdentityPerceiver,
    "face_perceiver": FacePerceiver,
    "identity_fusion": IdentityFusion,
}
"""Component of a ``MagicMirrorPipeline`` -> class, of its networks."""
ENCODER_PARTS = ("image_encoder", "identity_perceiver")
"""What PhotoMaker-V2's file holds."""
FACE_PARTS = ("image_encoder", "feature_extractor", "identity_perceiver", "face_perceiver", "identity_fusion")


def assemble(
    base: Path,
    identity_encoder: Path | None,
    preset: ModelPreset | None,
    dtype: torch.dtype,
    *,
    variant: str | None = None,
    cache: Path | None = None,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Load or make every component.

    Args:
        base: Folder of a stock CogVideoX pipeline.
        identity_encoder: PhotoMaker-V2's file, or the safetensors file made from it; ``None`` where ``given`` has all
            that is in it.
        preset: Sizes of the adapter and the face networks; ``None`` finds the one that was made for this base.
        dtype: Of all networks.
        variant: Of the base's weights, where a part has it.
        cache: Folder for the converted identity encoder.
        given: Components by name that are taken instead of loading them; ``None`` for one that is left out.

    Returns:
        Name -> component of ``MagicMirrorPipeline``: on the CPU, in evaluation mode, the adapter freshly initialised.

    Raises:
        ConfigError: If there is no such component as one that is given.
        WeightsError: If a part is missing, damaged or does not fit.
    """
    given = dict(given or {})
    check_components(given)
    configs = _read_configs(base, [part for part in STOCK_PARTS if part not in given]) | configs_of(given)
    preset = fitting_preset(str(base), configs, preset)
    check_networks(base, {part: kind for part, kind in STOCK_NETWORKS.items() if part not in given}, variant)

    def load(part: str, make: Callable[..., Any], **kwargs: Any) -> Any:
        if part in given:
            return given[part]
        names = [path.name for path in (base / part).iterdir()]
        if variant and any(f".{variant}" in name for name in component_weights(names, variant)):
            kwargs["variant"] = variant
        with explained(base / part):
            made = make(base / part, **kwargs)
        if isinstance(made, nn.Module):
            check_values(base / part, made)
        return made

    def stock_with_adapter(folder: Path, **kwargs: Any) -> MagicMirrorTransformer3DModel:
        stock = CogVideoXTransformer3DModel.from_pretrained(folder, torch_dtype=dtype, **kwargs)
        settings = {key: value for key, value in preset.transformer.items() if key in ADAPTER_SETTINGS}
        transformer: MagicMirrorTransformer3DModel = MagicMirrorTransformer3DModel.from_base(stock, **settings).eval()
        return transformer

    components = {
        "tokenizer": load("tokenizer", T5Tokenizer.from_pretrained),
        "text_encoder": load("text_encoder", T5EncoderModel.from_pretrained, dtype=dtype),
        "vae": load("vae", AutoencoderKLCogVideoX.from_pretrained, torch_dtype=dtype),
        "transformer": load("transformer", stock_with_adapter),
        "scheduler": load("scheduler", CogVideoXDDIMScheduler.from_pretrained),
    }
    if identity_encoder is not None:
        frozen = load_identity_encoder(identity_encoder, preset, cache)
        for network in frozen:
            check_values(identity_encoder, network)
        components |= zip(ENCODER_PARTS, (_ready(each, dtype) for each in frozen), strict=True)
    return components | _new_parts(preset, dtype) | given


def check_components(given: Mapping[str, Any]) -> None:
    """Refuse names of components that there are none of, and components that are none.

    Raises:
        ConfigError: Naming them and those that there are.
    """
    unknown = sorted(set(given) - {*STOCK_PARTS, *FACE_PARTS})
    if unknown:
        raise ConfigError(
            f"There is no component {', '.join(unknown)}.", f"They are {', '.join((*STOCK_PARTS, *FACE_PARTS))}."
        )
    for name, component in given.items():
        if component is None:
            continue  # a pipeline may lack what its calls do not need
        kind, inner = NETWORKS.get(name, object), getattr(component, "_orig_mod", component)  # compiled, or as it is
        if not isinstance(inner, kind) or isinstance(inner, str | os.PathLike):
            expected = f", expected {kind.__name__}" if name in NETWORKS else ", expected the component itself"
            raise ConfigError(f"The component {name} is a {type(inner).__name__}{expected}.", "Load it first.")


def _new_parts(preset: ModelPreset, dtype: torch.dtype) -> dict[str, Any]:
    """What no published weights have: the adapter's own networks, and how pictures get into the vision tower."""
    side = preset.image_encoder["image_size"]
    return {
        "feature_extractor": CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        "face_perceiver": _ready(FacePerceiver(**preset.face_perceiver), dtype),
        "identity_fusion": _ready(IdentityFusion(**preset.identity_fusion), dtype),
    }


def _read_configs(base: Path, parts: list[str]) -> dict[str, dict[str, Any]]:
    """Part -> its configuration, for those that say something about sizes."""
    configs = {}
    for part in parts:
        if not (base / part).is_dir():
            raise WeightsError(
                f"{base} has no folder {part}.", "It must be a CogVideoX text-to-video model in diffusers' layout."
            )
        if part == "tokenizer":
            check_tokenizer(base / part)
        if part in ("text_encoder", "vae", "transformer"):
            with explained(base / part):
                configs[part] = dict(json.loads((base / part / "config.json").read_text(encoding="utf-8")))
    return configs


def _ready(module: _Module, dtype: torch.dtype) -> _Module:
    # diffusers' own ``to`` warns about layers that must stay float32 even where there are none.
    nn.Module.to(module, dtype)
    return module.eval()
