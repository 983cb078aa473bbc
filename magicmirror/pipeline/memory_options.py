"""What a user may ask of the memory: how the networks share it, and how many bits a weight has.

Free of torch, so that settings and command line can name the choices without loading it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from magicmirror.errors import ConfigError
from magicmirror.settings import MemoryChoice, Quantisation

Policy = Literal["resident", "model", "group", "sequential"]

POLICIES: tuple[Policy, ...] = get_args(Policy)
"""From the fastest to the one that needs least memory."""


@dataclass(frozen=True)
class MemoryOptions:
    """What was asked for.

    Args:
        policy: ``resident`` keeps every network on the device, ``model`` only the one at work, ``group`` only the
            layers at work with the next ones on their way, ``sequential`` only the layer at work (slow). ``auto``
            takes the first of these that fits into the free memory.
        quantisation: ``int8`` or ``fp8`` stores the weights of the base transformer and the text encoder in 8 bits,
            which needs ``torchao``; ``none`` leaves them alone.
        vae_tiling: Whether the video is decoded in tiles; ``None`` takes the profile's choice.
    """

    policy: MemoryChoice = "auto"
    quantisation: Quantisation = "none"
    vae_tiling: bool | None = None

    @classmethod
    def named(cls, policy: str = "auto", quantisation: str = "none", vae_tiling: bool | None = None) -> MemoryOptions:
        """Build the options from what a user wrote.

        Raises:
            ConfigError: For a name that is none of the choices.
        """
        for given, kind, what in (
            (policy, MemoryChoice, "memory policy"),
            (quantisation, Quantisation, "quantisation"),
        ):
            if given not in get_args(kind):
                raise ConfigError(f'"{given}" is no {what}.', f"Choose one of {', '.join(get_args(kind))}.")
        return cls(cast(MemoryChoice, policy), cast(Quantisation, quantisation), vae_tiling)
