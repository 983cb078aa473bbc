"""How long a prompt may be, and by how much to shorten one; the same before a job is queued and when it is made."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable

from magicmirror.errors import PromptError


def longest_prompt(max_length: int) -> int:
    """Tokens that a prompt may have, its end token included: one place is kept for the second ID token.

    Args:
        max_length: T, as the transformer takes it.
    """
    return max_length - 1


def fits(prompt: str, max_length: int, count: Callable[[str], int]) -> bool:
    """Whether a prompt leaves room for the reference face; arguments as for ``check_length``."""
    return count(prompt) <= longest_prompt(max_length)


def check_length(prompt: str, max_length: int, count: Callable[[str], int]) -> None:
    """Refuse a prompt that leaves no room for the reference face.

    Args:
        prompt: Without the trigger.
        max_length: T.
        count: Tokens of a text, its end token included.

    Raises:
        PromptError: Says how many words have to go.
    """
    tokens, limit = count(prompt), longest_prompt(max_length)
    if tokens > limit:
        words = _words_to_cut(prompt, limit, count)
        raise PromptError(
            f"The prompt is too long: {tokens} tokens, and with a reference face {limit} fit.",
            f"Shorten it by about {words} {'word' if words == 1 else 'words'}.",
        )


def _words_to_cut(prompt: str, limit: int, count: Callable[[str], int]) -> int:
    """Words that have to go from the end until the rest fits; how many tokens a word has depends on the tokenizer."""
    starts = [word.start() for word in re.finditer(r"\S+", prompt)]
    kept = bisect_right(starts, limit, key=lambda start: count(prompt[:start].rstrip()))
    # The text before word i fits for i < kept, so the words before the last of these may stay.
    return max(1, len(starts) - max(kept - 1, 0))
