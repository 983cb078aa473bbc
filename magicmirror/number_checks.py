"""Numbers of a generation, with the same limits for a call of the pipeline, a request, the command line and the API."""

from __future__ import annotations

import math
from numbers import Integral, Real

from magicmirror.errors import ConfigError

_SHOWN_CHARS = 40


def check_steps(value: object, name: str = "steps") -> int:
    """Return denoising steps: a whole number in [1, 1000].

    Args:
        value: From outside.
        name: Of the argument, for the message.

    Raises:
        ConfigError: When it is none.
    """
    steps = whole_number(name, value)
    if not 1 <= steps <= 1000:
        raise ConfigError(f"{name} must lie in [1, 1000], got {shown(value)}.")
    return steps


def check_guidance(value: object, name: str = "guidance") -> float:
    """Return a scale of classifier-free guidance: in [1, 30], where 1 is off.

    Args:
        value: From outside.
        name: Of the argument, for the message.

    Raises:
        ConfigError: When it is none.
    """
    scale = number(name, value)
    if not 1.0 <= scale <= 30.0:
        raise ConfigError(f"{name} must lie in [1, 30], got {shown(value)}.", "1 switches it off.")
    return scale


def check_identity_scale(value: object, name: str = "identity scale") -> float:
    """Return a strength of the identity: in [0, 2], where 0 is the base model.

    Args:
        value: From outside.
        name: Of the argument, for the message.

    Raises:
        ConfigError: When it is none.
    """
    scale = number(name, value)
    if not 0.0 <= scale <= 2.0:
        raise ConfigError(f"{name} must lie in [0, 2], got {shown(value)}.")
    return scale


def check_seed(value: object) -> int:
    """Return a seed: a whole number in [0, 2^63).

    Raises:
        ConfigError: When it is none.
    """
    seed = whole_number("seed", value)
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed must lie in [0, 2^63), got {shown(value)}.")
    return seed


def whole_number(name: str, value: object) -> int:
    """Return a value as a whole number.

    Raises:
        ConfigError: When it is none.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    found = number(name, value, "a whole number")
    if int(found) != found:
        raise ConfigError(f"{name} must be a whole number, got {shown(value)}.")
    return int(found)


def number(name: str, value: object, kind: str = "a number") -> float:
    """Return a value as a finite number.

    Raises:
        ConfigError: When it is none.
    """
    try:
        if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:  # a whole number with hundreds of digits
        pass
    raise ConfigError(f"{name} must be {kind}, got {shown(value)}.")


def shown(value: object) -> str:
    """Return a value from outside as it may stand in a message."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**_SHOWN_CHARS else "a very large number"
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
