"""Weights in 8 bits, by torchao: half the memory for the two large networks, with bfloat16 arithmetic.

Only weights of linear layers are stored in 8 bits, each output channel with a scale of its own, and are widened when
they are used. Left alone are the adapter, whose small residuals an 8-bit number cannot hold; the norms, where the
modulation of every block is; what maps latents and text in and latents out; and the time embedding: few weights that
every token passes. Without ``torch.compile`` the widening makes a step slower than it is with bfloat16 weights. The
networks are saved and loaded with their 8 bits, by the libraries' own means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.models.weights_files import in_eight_bits

if TYPE_CHECKING:
    from magicmirror.pipeline.pipeline import MagicMirrorPipeline
    from magicmirror.settings import Quantisation

KEPT = (
    *("adapter", "identity_proj", "norm1", "norm2", "norm_out"),
    *("patch_embed", "time_embedding", "ofs_embedding", "proj_out"),
)
"""Modules whose weights keep their precision."""

_KINDS: Mapping[torch.dtype, Quantisation] = {torch.int8: "int8", torch.float8_e4m3fn: "fp8"}


def quantise(pipeline: MagicMirrorPipeline, kind: Quantisation) -> None:
    """Store the weights of the base transformer and of the text encoder in 8 bits.

    Args:
        pipeline: With its adapter loaded; its weights are replaced, one layer after the other.
        kind: ``none`` does nothing, and neither does the kind that they are stored in already.

    Raises:
        ConfigError: If torchao is missing, or the weights are stored in another kind.
    """
    if kind == "none":
        return
    networks = [each for each in (pipeline.transformer, pipeline.text_encoder) if _stored_as(each) != kind]
    if any((other := _stored_as(network)) != "none" for network in networks):
        raise ConfigError(
            f"The weights are stored as {other}, and {kind} was asked for.",
            "Load the pipeline again from weights that are not quantised, or leave the setting out.",
        )
    try:
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise ConfigError(
            f'Quantisation "{kind}" needs torchao, which is not installed.',
            'Install it with pip install "magicmirror[quantisation]", or leave the setting out.',
        ) from error
    config = {"int8": Int8WeightOnlyConfig, "fp8": Float8WeightOnlyConfig}[kind]()
    for network in networks:
        quantize_(network, config, filter_fn=is_quantised)
        _tell_library(network, config)


def _tell_library(network: Any, config: Any) -> None:
    """Have a network saved as one that its library has quantised itself, so that the library loads it as well."""
    import diffusers
    import transformers

    if isinstance(network, diffusers.ModelMixin):
        settings = diffusers.TorchAoConfig(config, modules_to_not_convert=list(KEPT))
        quantizer: Any = diffusers.quantizers.auto.DiffusersAutoQuantizer.from_config(settings, pre_quantized=False)
        network.register_to_config(quantization_config=settings)
    else:
        settings = transformers.TorchAoConfig(config)
        quantizer = transformers.quantizers.AutoHfQuantizer.from_config(settings, pre_quantized=False)
        network.config.quantization_config = settings
    quantizer.validate_environment()
    network.hf_quantizer = quantizer


def stored_kind(pipeline: MagicMirrorPipeline) -> Quantisation:
    """How the base's weights are stored now; ``none`` where neither network is quantised."""
    kinds = {_stored_as(pipeline.transformer), _stored_as(pipeline.text_encoder)} - {"none"}
    return kinds.pop() if kinds else "none"


def _stored_as(network: nn.Module) -> Quantisation:
    weight = _first_quantised(network)
    return "none" if weight is None else _KINDS.get(weight.qdata.dtype, "none")


def _first_quantised(network: nn.Module) -> Any:
    """The first weight that is one of torchao's tensors, or ``None``."""
    return next((value for value in network.parameters() if in_eight_bits(value)), None)


def check_savable(components: Mapping[str, Any]) -> None:
    """Refuse to save weights in 8 bits of which the library that would save them knows nothing.

    Args:
        components: Of a pipeline, by name.

    Raises:
        WeightsError: Naming the network.
    """
    for name, network in components.items():
        if not isinstance(network, nn.Module) or getattr(network, "hf_quantizer", None) is not None:
            continue
        if _first_quantised(network) is not None:
            raise WeightsError(
                f"The {name} was quantised by torchao directly, and cannot be saved so.",
                "Quantise it with magicmirror.pipeline.quantisation.quantise, or load it with a quantization_config.",
            )


def accept_loaded(networks: Iterable[Any], dtype: torch.dtype) -> None:
    """Take networks that were saved in 8 bits.

    Args:
        networks: Just loaded; plain ones too.
        dtype: That was asked for.

    Raises:
        WeightsError: If weights in 8 bits were made for another precision: torchao's stay with it.
    """
    for network in networks:
        if (weight := _first_quantised(network)) is None:
            continue
        if weight.dtype != dtype:
            raise WeightsError(
                f"The weights in 8 bits were made for {weight.dtype}, and {dtype} was asked for.",
                f"Load the pipeline with dtype={weight.dtype}.",
            )
        # How transformers read the 8 bits, which it would undo when it saves them again, and cannot.
        vars(network).pop("_weight_conversions", None)


def is_quantised(layer: nn.Module, name: str) -> bool:
    """Whether a layer of the transformer or the text encoder is stored in 8 bits.

    Args:
        layer: The layer.
        name: Its name in its network.
    """
    return isinstance(layer, nn.Linear) and not any(part in KEPT for part in name.split("."))


def planned_bytes(network: nn.Module, value_bytes: int, eight_bits: bool, prefix: str = "") -> int:
    """Bytes that the weights and buffers of a network take at a precision that it may not have yet.

    Args:
        network: Its weights may lie anywhere.
        value_bytes: Of one value.
        eight_bits: Whether ``quantise`` concerns the network.
        prefix: Name of the network in the one that it is part of, with a dot at its end.
    """
    values: int = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers())) * value_bytes
    if not eight_bits:
        return values
    small: list[Any] = [layer.weight for name, layer in network.named_modules() if is_quantised(layer, prefix + name)]
    return values + sum(int(weight.numel() * (1 - value_bytes) + weight.size(0) * value_bytes) for weight in small)


def weight_bytes(network: nn.Module) -> int:
    """Bytes that the weights and buffers of a network take, those in 8 bits with their scales."""
    return sum(_bytes(tensor) for tensor in (*network.parameters(), *network.buffers()))


def _bytes(tensor: Any) -> int:
    parts = getattr(tensor, "tensor_data_names", None)  # torchao's tensors state the type that they stand for
    if parts is None:
        return int(tensor.numel() * tensor.element_size())
    return sum(_bytes(getattr(tensor, part)) for part in parts)
