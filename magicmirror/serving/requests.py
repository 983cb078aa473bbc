"""From the fields of a form, an API call or a command line to a ``GenerationRequest``; the same checks for all."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from magicmirror.errors import PromptError
from magicmirror.number_checks import check_guidance, check_identity_scale, check_seed, check_steps, shown
from magicmirror.types import FaceReference, GenerationRequest

RANDOM_SEED_BITS = 32
"""A random seed is short enough to read out and exact in every JavaScript number."""

MAX_PROMPT_CHARS = 2000


@dataclass(frozen=True)
class Fields:
    """What a visitor or client fills in.

    Args:
        prompt: What the person does.
        negative_prompt: What to keep out.
        seed: ``None`` draws one.
        steps: ``None`` takes the profile's default.
        guidance: ``None`` takes the profile's default.
        identity_scale: Strength of the identity in [0, 2].
    """

    prompt: str
    negative_prompt: str = ""
    seed: float | None = None
    steps: float | None = None
    guidance: float | None = None
    identity_scale: float = 1.0


def build_request(fields: Fields, faces: Sequence[FaceReference], profile: str) -> GenerationRequest:
    """Check the fields and put them together with the faces.

    Raises:
        UserInputError: When a text is empty or too long, or there is no face.
        ConfigError: When a number is out of range or not whole.
    """
    for name, text in (("prompt", fields.prompt), ("negative prompt", fields.negative_prompt)):
        if not isinstance(text, str):
            raise PromptError(f"The {name} must be a text, got {shown(text)}.")
        if len(text) > MAX_PROMPT_CHARS:
            raise PromptError(f"The {name} has {len(text)} characters; at most {MAX_PROMPT_CHARS} are accepted.")
    return GenerationRequest(
        prompt=fields.prompt.strip(),
        references=tuple(faces),
        seed=random_seed() if fields.seed is None else check_seed(fields.seed),
        negative_prompt=fields.negative_prompt.strip(),
        num_inference_steps=None if fields.steps is None else check_steps(fields.steps),
        guidance_scale=None if fields.guidance is None else check_guidance(fields.guidance),
        identity_scale=check_identity_scale(fields.identity_scale),
        profile=profile,
    )


def random_seed() -> int:
    """Draw a seed."""
    return secrets.randbits(RANDOM_SEED_BITS)
