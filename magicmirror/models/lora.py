"""LoRA layers of PEFT beside the adapter: a LoRA of the base neither trains the adapter nor gets into its file.

PEFT finds layers by the end of their names, and ``to_k`` and ``to_v`` are names of the adapter's layers too. Around
every one that it finds it puts a layer of its own, after which the weights have other names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from magicmirror.errors import WeightsError
from magicmirror.models.weights_files import in_eight_bits

_ADAPTER_LAYERS = r"(.*\.)?(adapter|identity_proj)(\..*)?"
"""Regular expression for the names of the adapter's layers in the transformer."""


def for_base(config: Any) -> Any:
    """A PEFT configuration that leaves the adapter's layers out, unless it says itself what to leave out or names them.

    Args:
        config: ``LoraConfig`` or another with ``target_modules``; it is not changed.
    """
    targets = getattr(config, "target_modules", None) or ()
    named = [targets] if isinstance(targets, str) else targets
    if getattr(config, "exclude_modules", ...) is not None or any("adapter" in each for each in named):
        return config
    config = copy.copy(config)
    config.exclude_modules = _ADAPTER_LAYERS
    return config


def plain_state_dict(module: nn.Module, is_wanted: Callable[[str], bool] = lambda _: True) -> dict[str, Tensor]:
    """State of a module as it would be without PEFT's layers; the tensors are the module's own.

    Args:
        module: With or without such layers.
        is_wanted: Says of a name whether its tensor is.

    Raises:
        WeightsError: If a LoRA is fused into one of the wanted weights, or one is stored in 8 bits.
    """
    tensors = dict(module.state_dict())
    for name, layer in module.named_modules():
        if not hasattr(layer, "base_layer"):
            continue
        of_layer = [key for key in tensors if key.startswith(f"{name}.")]
        base = {
            key.replace(f"{name}.base_layer.", f"{name}."): tensors[key] for key in of_layer if ".base_layer." in key
        }
        if getattr(layer, "merged", False) and any(is_wanted(key) for key in base):
            raise WeightsError(f"A LoRA is fused into {name}, a layer of the adapter.", "Call unfuse_lora() first.")
        tensors = {key: value for key, value in tensors.items() if key not in of_layer} | base
    wanted = {key: value for key, value in tensors.items() if is_wanted(key)}
    if quantised := [key for key, value in wanted.items() if in_eight_bits(value)]:
        raise WeightsError(
            f"The adapter's weights are stored in 8 bits ({quantised[0]}), which hold too little of them.",
            'Quantise the base alone: modules_to_not_convert=["adapter", "identity_proj"].',
        )
    return wanted


def check_no_lora(name: str, module: nn.Module) -> None:
    """Refuse to save a network whole while layers of PEFT are in it: nothing would load it again as what it is.

    Args:
        name: Of the network.
        module: The network.

    Raises:
        WeightsError: If there are any.
    """
    if any(hasattr(layer, "base_layer") for layer in module.modules()):
        raise WeightsError(
            f"A LoRA is loaded into the {name}, and would be saved as a part of its layers.",
            "Call unload_lora_weights() first; to keep what it does in the weights, fuse_lora() before that.",
        )
