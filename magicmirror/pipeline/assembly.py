"""A full-size pipeline from its published parts: stock CogVideoX and the face encoder of PhotoMaker-V2.

The adapter is fresh afterwards; ``load_adapter`` gives it its values.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXTransformer3DModel,
)
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, T5EncoderModel, T5Tokenizer

from magicmirror.errors import WeightsError
from magicmirror.models.fusion import IdentityFusion
from magicmirror.models.perceiver import FacePerceiver, IdentityPerceiver
from magicmirror.models.presets import ModelPreset
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.pipeline.sources import PHOTOMAKER_FILE

_Module = TypeVar("_Module", bound=nn.Module)

ADAPTER_SETTINGS = ("identity_dim", "num_face_tokens", "identity_proj_dim", "can_hidden_dim")


def assemble(base: Path, face_encoder: Path, preset: ModelPreset, dtype: torch.dtype) -> MagicMirrorPipeline:
    """Put a pipeline together.

    Args:
        base: Folder of a stock CogVideoX pipeline.
        face_encoder: PhotoMaker-V2's file.
        preset: Sizes of the adapter and the face networks.
        dtype: Of all networks.

    Returns:
        The pipeline on the CPU, in evaluation mode, with a freshly initialised adapter.

    Raises:
        WeightsError: If a part is missing or does not fit.
    """
    for part in ("tokenizer", "text_encoder", "vae", "transformer", "scheduler"):
        if not (base / part).is_dir():
            raise WeightsError(
                f"{base} has no folder {part}.", "It must be a CogVideoX text-to-video model in diffusers' layout."
            )
    stock = CogVideoXTransformer3DModel.from_pretrained(base, subfolder="transformer", torch_dtype=dtype)
    settings = {key: value for key, value in preset.transformer.items() if key in ADAPTER_SETTINGS}
    image_encoder, identity_perceiver = load_photomaker(face_encoder, preset)
    side = preset.image_encoder["image_size"]
    return MagicMirrorPipeline(
        tokenizer=T5Tokenizer.from_pretrained(base / "tokenizer"),
        text_encoder=T5EncoderModel.from_pretrained(base / "text_encoder", dtype=dtype),
        vae=AutoencoderKLCogVideoX.from_pretrained(base, subfolder="vae", torch_dtype=dtype),
        transformer=MagicMirrorTransformer3DModel.from_base(stock, **settings).eval(),
        scheduler=CogVideoXDDIMScheduler.from_pretrained(base, subfolder="scheduler"),
        image_encoder=_ready(image_encoder, dtype),
        feature_extractor=CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        identity_perceiver=_ready(identity_perceiver, dtype),
        face_perceiver=_ready(FacePerceiver(**preset.face_perceiver), dtype),
        identity_fusion=_ready(IdentityFusion(**preset.identity_fusion), dtype),
    )


def load_photomaker(path: Path, preset: ModelPreset) -> tuple[CLIPVisionModel, IdentityPerceiver]:
    """Read the vision tower and the ID perceiver out of PhotoMaker-V2's file.

    Args:
        path: The file; a dict whose ``id_encoder`` holds ``vision_model.*`` and ``qformer_perceiver.*``.
        preset: Sizes of the two networks.

    Returns:
        ``F_feat`` and ``tau_id`` with the published weights, which stay frozen in the paper.

    Raises:
        WeightsError: If the file is missing, is something else, or does not fit.
    """
    try:
        contents: Any = torch.load(path, map_location="cpu", weights_only=True)
        state: dict[str, Tensor] = contents["id_encoder"]
    except (OSError, pickle.UnpicklingError, RuntimeError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path} cannot be read as PhotoMaker-V2's encoder: {error!r}.",
            f'Expected the file {PHOTOMAKER_FILE} of "TencentARC/PhotoMaker-V2".',
        ) from error
    tower = CLIPVisionModel(CLIPVisionConfig(**preset.image_encoder))
    perceiver = IdentityPerceiver(**preset.identity_perceiver)
    # Some versions of transformers keep the published prefix in the class, some do not.
    inner = "vision_model." if any(name.startswith("vision_model.") for name in tower.state_dict()) else ""
    _load(tower, state, "vision_model.", inner, path)
    _load(perceiver, state, "qformer_perceiver.", "", path)
    return tower, perceiver


def _ready(module: _Module, dtype: torch.dtype) -> _Module:
    # diffusers' own ``to`` warns about layers that must stay float32 even where there are none.
    nn.Module.to(module, dtype)
    return module.eval()


def _load(module: nn.Module, state: dict[str, Tensor], prefix: str, inner: str, path: Path) -> None:
    """Load the tensors under ``prefix`` into a module that calls them ``inner + name``."""
    own = {inner + name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    own = {name: value for name, value in own.items() if not name.endswith("position_ids")}
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit {type(module).__name__}: {error}.") from error
