"""How many parameters each part has, counted on the meta device: nothing is downloaded or allocated."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from magicmirror.models.presets import model_preset

if TYPE_CHECKING:
    import torch
    from torch import nn

# What the paper says of CogVideoX-5B and of MagicMirror, in parameters.
PAPER_TOTALS = {"cogvideox-5b": {"base": 10.5e9, "all": 12.8e9}}


@dataclass(frozen=True)
class Part:
    """One line of the table.

    Args:
        group: ``base``, ``adapter`` or ``encoders``.
        name: What it is.
        count: Parameters.
        trained: Whether the stages of the paper train it.
    """

    group: str
    name: str
    count: int
    trained: bool


def parameter_counts(preset: str) -> tuple[Part, ...]:
    """Count the parameters of every part of a preset.

    Args:
        preset: Name of a preset.

    Returns:
        Every parameter of every network exactly once.

    Raises:
        ConfigError: For an unknown preset.
    """
    networks = build_networks(preset)
    transformer = networks["transformer"]
    by_part = _transformer_parts(transformer)
    face, fusion = networks["face_perceiver"], networks["identity_fusion"]
    return (
        Part("base", "Diffusion transformer (stock CogVideoX)", by_part["base"], trained=False),
        Part("base", "Text encoder (T5)", _count(networks["text_encoder"].parameters()), trained=False),
        Part("base", "VAE", _count(networks["vae"].parameters()), trained=False),
        Part("adapter", "CAN, `phi_cond` (Eq. 7)", by_part["can"], trained=True),
        Part("adapter", "Face modulation, `phi_face` (Eq. 6)", by_part["face_modulation"], trained=True),
        Part("adapter", "Cross-attention keys and values (Eq. 8)", by_part["to_k"] + by_part["to_v"], trained=True),
        Part("adapter", "Global projection of the ID tokens (Eq. 7)", by_part["identity_proj"], trained=True),
        Part("adapter", "Null ID and face tokens (guidance)", by_part["null"], trained=True),
        Part("adapter", "Face perceiver, `tau_face` (Eq. 4)", _count(face.parameters()), trained=True),
        Part("adapter", "Fusion, `MLP_fuse` (Eq. 5)", _count(fusion.parameters()), trained=True),
        Part("encoders", "Vision tower, `F_feat`", _count(networks["image_encoder"].parameters()), trained=False),
        Part(
            "encoders",
            "Identity perceiver, `tau_id` (Eq. 3)",
            _count(networks["identity_perceiver"].parameters()),
            trained=False,
        ),
    )


def parameter_table(preset: str) -> str:
    """Table of ``parameter_counts`` in Markdown, with totals and, where published, those of the paper.

    Args:
        preset: Name of a preset.

    Raises:
        ConfigError: For an unknown preset.
    """
    parts = parameter_counts(preset)
    total = {group: sum(part.count for part in parts if part.group == group) for group in ("base", "adapter")}
    everything = sum(part.count for part in parts)
    paper = PAPER_TOTALS.get(preset, {})
    titles = {"base": "Base model", "adapter": "Adapter", "encoders": "Face encoders"}
    rows = [
        f"| {titles[part.group]} | {part.name} | {part.count:,} | {'yes' if part.trained else 'no'} | |"
        for part in parts
    ]
    totals = [
        ("Base model, all of it", total["base"], "no", paper.get("base")),
        ("Adapter, all of it", total["adapter"], "yes", None),
        ("Everything", everything, "", paper.get("all")),
    ]
    rows += [
        f"| **Total** | **{name}** | **{count:,}** | {trained} | {_billions(published)} |"
        for name, count, trained, published in totals
    ]
    head = ["| Part of | Network | Parameters | Trained in stages 1 and 2 | Paper |", "|---|---|---:|---|---:|"]
    return "\n".join(head + rows)


def _billions(count: float | None) -> str:
    return "" if count is None else f"{count / 1e9:.1f} B"


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _transformer_parts(transformer: Any) -> Mapping[str, int]:
    """Count the transformer by part of the adapter; ``base`` is the rest."""
    counts = dict.fromkeys(("base", "can", "face_modulation", "to_k", "to_v", "identity_proj", "null"), 0)
    for name, parameter in transformer.named_parameters():
        if not transformer.is_adapter_key(name):
            part = "base"
        elif name.startswith("null_"):
            part = "null"
        else:
            part = name.partition(".adapter.")[2].partition(".")[0] or name.partition(".")[0]
        counts[part] += parameter.numel()
    return counts


def build_networks(
    preset: str, device: torch.device | str = "meta", names: Collection[str] | None = None
) -> Mapping[str, nn.Module]:
    """Build the networks of a preset with random weights, by their names in the pipeline.

    Args:
        preset: Of ``magicmirror.models.presets``.
        device: Where; on ``meta`` they have sizes alone.
        names: Which of them; ``None`` is all.

    Raises:
        ConfigError: For an unknown preset.
    """
    sizes = model_preset(preset)
    # Here, because they are slow to import.
    import torch
    from diffusers import AutoencoderKLCogVideoX
    from transformers import CLIPVisionConfig, CLIPVisionModel, T5Config, T5EncoderModel

    from magicmirror.models.fusion import IdentityFusion
    from magicmirror.models.perceiver import FacePerceiver, IdentityPerceiver
    from magicmirror.models.transformer import MagicMirrorTransformer3DModel

    makers: dict[str, Callable[[], nn.Module]] = {
        "transformer": lambda: MagicMirrorTransformer3DModel(**sizes.transformer),
        "text_encoder": lambda: T5EncoderModel(T5Config(**sizes.text_encoder)),
        "vae": lambda: AutoencoderKLCogVideoX(**sizes.vae),
        "image_encoder": lambda: CLIPVisionModel(CLIPVisionConfig(**sizes.image_encoder)),
        "identity_perceiver": lambda: IdentityPerceiver(**sizes.identity_perceiver),
        "face_perceiver": lambda: FacePerceiver(**sizes.face_perceiver),
        "identity_fusion": lambda: IdentityFusion(**sizes.identity_fusion),
    }
    with torch.device(device):
        return {name: make() for name, make in makers.items() if names is None or name in names}
