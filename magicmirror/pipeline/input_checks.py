"""What a pipeline call refuses before any model runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from magicmirror.errors import ConfigError, PromptError
from magicmirror.number_checks import check_seed, shown

OUTPUT_TYPES = ("np", "pt", "pil", "latent")


def check_size(height: int, width: int, cell: int, largest: tuple[int, int] | None = None) -> None:
    """Refuse pictures that do not divide into patches, or that a backbone has no positions for.

    Args:
        height: In px.
        width: In px.
        cell: Px a side of one patch.
        largest: Largest height and width in px, a multiple of ``cell``; ``None`` is no limit.

    Raises:
        ConfigError: With the nearest size that works.
    """
    for index, (name, size) in enumerate((("height", height), ("width", width))):
        limit = largest[index] if largest is not None else math.inf
        if size < cell or size % cell or size > limit:
            nearest = min(max(cell, round(size / cell) * cell), limit)
            upto = f" up to {limit}" if largest is not None else ""
            raise ConfigError(
                f"{name} must be a multiple of {cell} px{upto}, got {size}.", f"The nearest is {nearest}."
            )


def check_frame_count(num_frames: int, frame_stride: int, decoded: bool) -> None:
    """Refuse numbers of frames that the VAE does not decode to.

    It decodes latent frames in pairs, and where the number is odd, the first alone to one pixel frame; so stock
    CogVideoX returns 8 frames when it is asked for 5.

    Args:
        num_frames: Pixel frames.
        frame_stride: Pixel frames a latent frame.
        decoded: Whether there will be pixel frames at all.

    Raises:
        ConfigError: With the nearest number that works.
    """

    def works(count: int) -> bool:
        return isinstance(count, Integral) and count >= 1 and (not decoded or count % (2 * frame_stride) in (0, 1))

    if not works(num_frames):
        first = max(int(num_frames), 1)
        around = range(first - 2 * frame_stride, first + 2 * frame_stride)
        nearest = min(filter(works, around), key=lambda count: abs(count - num_frames))
        pair = 2 * frame_stride
        raise ConfigError(
            f"num_frames must be {pair} k or {pair} k + 1, got {num_frames}.", f"The nearest is {nearest}."
        )


def check_text(
    prompt: str | Sequence[str] | None,
    negative_prompt: str | Sequence[str] | None,
    prompt_embeds: Tensor | None,
    negative_prompt_embeds: Tensor | None,
) -> None:
    """Refuse missing text, empty text, and text given in two ways.

    Raises:
        PromptError: For missing or empty text.
        ConfigError: For contradictory arguments.
    """
    if (prompt is None) == (prompt_embeds is None):
        raise PromptError("Give either prompt or prompt_embeds, one of them.")
    if negative_prompt is not None and negative_prompt_embeds is not None:
        raise ConfigError("Give either negative_prompt or negative_prompt_embeds, not both.")
    for given in (prompt, negative_prompt):
        _check_type(given)
    if prompt is not None and (not prompt or any(not text for text in texts_of(prompt))):
        raise PromptError("The prompt is empty.", 'Describe what the person does, for example "a man smiles".')
    if negative_prompt is not None and not isinstance(negative_prompt, str):
        rows = prompt_embeds.size(0) if prompt_embeds is not None else len(texts_of(prompt or ""))
        if len(negative_prompt) != rows:
            raise ConfigError(f"{len(negative_prompt)} negative prompts were given for {rows}.", "Give one for each.")


def _check_type(prompt: object) -> None:
    for text in prompt if isinstance(prompt, Sequence) else [] if prompt is None else [prompt]:
        if not isinstance(text, str):
            raise PromptError(f"A prompt must be a text, got {shown(text)}.")


def check_randomness(
    seed: int | None, generator: torch.Generator | Sequence[torch.Generator] | None, rows: int = 1
) -> None:
    """Refuse a call that could not be repeated.

    Args:
        seed: Of all noise.
        generator: In place of it; a list has one for each video.
        rows: Videos.

    Raises:
        ConfigError: If there is no seed, or none in [0, 2^63), or two sources of noise, or a list of another length.
    """
    if isinstance(generator, Sequence) and len(generator) != rows:
        raise ConfigError(f"{len(generator)} generators were given for {rows} videos.", "Give one for each, or one.")
    if seed is not None:
        check_seed(seed)
    if (seed is None) == (generator is None):
        given = "neither" if seed is None else "both"
        raise ConfigError(f"Give either seed or generator, got {given}.", "A seed such as 0 makes a result repeatable.")


def check_count(name: str, count: int, most: int | None = None) -> None:
    """Refuse what is no number of things.

    Args:
        name: Of the argument.
        count: Its value.
        most: The largest; ``None`` is no limit.

    Raises:
        ConfigError: If it is below one, above the limit, or no whole number.
    """
    if not isinstance(count, Integral) or count < 1 or (most is not None and count > most):
        upto = "on" if most is None else f"to {most}"
        raise ConfigError(f"{name} must be a whole number from 1 {upto}, got {count!r}.")


def check_latents(latents: Tensor, shape: Sequence[int]) -> None:
    """Refuse first noise that is not of the video that was asked for.

    Args:
        latents: Noise.
        shape: (B, F, C, H, W) of that video.

    Raises:
        ConfigError: With the shape that works.
    """
    if tuple(latents.shape) != tuple(shape):
        raise ConfigError(
            f"latents are {tuple(latents.shape)}, expected {tuple(shape)}.",
            "They are (videos, frames, channels, height, width), the last two in latent cells.",
        )


def check_embeds(
    prompt_embeds: Tensor | None, negative_prompt_embeds: Tensor | None, encoded: Sequence[int], guided: bool
) -> None:
    """Refuse embeddings that do not fit the model, or each other where guidance puts them into one batch.

    Args:
        prompt_embeds: In place of text, or ``None``.
        negative_prompt_embeds: In place of the negative text, or ``None``.
        encoded: (P, T, D_txt) of text that the pipeline encodes itself.
        guided: Whether negative text is needed.

    Raises:
        ConfigError: With both shapes.
    """
    positive = tuple(encoded) if prompt_embeds is None else tuple(prompt_embeds.shape)
    negative = tuple(encoded) if negative_prompt_embeds is None else tuple(negative_prompt_embeds.shape)
    if len(positive) != len(encoded) or positive[-1] != encoded[-1]:
        raise ConfigError(f"prompt_embeds are {positive}, expected (prompts, tokens, {encoded[-1]}).")
    if guided and positive != negative:
        raise ConfigError(
            f"The prompts' embeddings are {positive}, those of the negative prompts {negative}.",
            "Give both of encode_prompt, or max_sequence_length as many tokens as were given.",
        )


def check_output_type(output_type: str) -> None:
    """Refuse unknown forms of the result.

    Raises:
        ConfigError: With the forms there are.
    """
    if output_type not in OUTPUT_TYPES:
        raise ConfigError(f'Unknown output_type "{output_type}".', f"Choose one of {', '.join(OUTPUT_TYPES)}.")


def check_callback_inputs(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names of tensors that a callback cannot get.

    Raises:
        ConfigError: With the names there are.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"A callback cannot get {unknown}.", f"It can get {list(known)}.")


def texts_of(prompt: str | Sequence[str]) -> list[str]:
    """Return the prompts as a list."""
    return [prompt] if isinstance(prompt, str) else list(prompt)
