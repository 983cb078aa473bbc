"""Weights in 8 bits, by torchao: half the memory for the two large networks, with bfloat16 arithmetic.

Only weights of linear layers are stored in 8 bits, each output channel with a scale of its own, and are widened when
they are used. Left alone are the adapter, whose small residuals an 8-bit number cannot hold; everything with ``norm``
in its name, where the modulation of every block is; what maps latents and text in and latents out; and the time
embedding: few weights that every token passes. Without ``torch.compile`` the widening makes a step slower than it is
with bfloat16 weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from magicmirror.errors import ConfigError

if TYPE_CHECKING:
    from magicmirror.pipeline.pipeline import MagicMirrorPipeline
    from magicmirror.settings import Quantisation

KEPT = ("norm", "patch_embed", "time_embedding", "ofs_embedding", "proj_out")
"""Parts of the names of layers that keep their precision, beside the adapter's."""


def quantise(pipeline: MagicMirrorPipeline, kind: Quantisation) -> None:
    """Store the weights of the base transformer and of the text encoder in 8 bits.

    Args:
        pipeline: With its adapter loaded; its weights are replaced, one layer after the other.
        kind: ``none`` does nothing.

    Raises:
        ConfigError: If torchao is missing.
    """
    if kind == "none":
        return
    try:
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise ConfigError(
            f'Quantisation "{kind}" needs torchao, which is not installed.',
            'Install it with pip install "magicmirror[quantisation]", or leave the setting out.',
        ) from error
    config = {"int8": Int8WeightOnlyConfig, "fp8": Float8WeightOnlyConfig}[kind]()
    for network in (pipeline.transformer, pipeline.text_encoder):
        quantize_(network, config, filter_fn=is_quantised)


def is_quantised(layer: nn.Module, name: str) -> bool:
    """Whether a layer of the transformer or the text encoder is stored in 8 bits.

    Args:
        layer: The layer.
        name: Its name in its network.
    """
    from magicmirror.models.transformer import MagicMirrorTransformer3DModel as Transformer

    return (
        isinstance(layer, nn.Linear)
        and not Transformer.is_adapter_key(f"{name}.weight")
        and not any(part in name for part in KEPT)
    )


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
