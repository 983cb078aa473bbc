"""The deployer's say in what may be asked for: a function of theirs, or a list of words."""

from __future__ import annotations

import importlib
import logging
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from magicmirror.errors import ConfigError, PromptError

log = logging.getLogger(__name__)

PromptFilter = Callable[[str], str | None]
"""Gets a prompt; returns why it is refused, in words for its author, or ``None``."""

REFUSED = "This server does not make videos for this prompt."
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def load_prompt_filter(setting: str | None) -> PromptFilter | None:
    """Return the filter that the setting ``prompt_filter`` names.

    Args:
        setting: ``package.module:function``, or a UTF-8 file with one word or phrase a line; lines that begin with
            ``#`` are left out.

    Raises:
        ConfigError: When there is no such function or file, or the file forbids nothing.
    """
    if setting is None:
        return None
    return _function(setting) if _FUNCTION.fullmatch(setting) else word_filter(_words(Path(setting)))


def word_filter(phrases: tuple[str, ...]) -> PromptFilter:
    """Return a filter that refuses whole words and phrases, whatever their case, accents and spaces."""
    found = re.compile("|".join(rf"\b{re.escape(_plain(phrase))}\b" for phrase in phrases))
    return lambda prompt: REFUSED if found.search(_plain(prompt)) else None


def check_prompt(prompt_filter: PromptFilter | None, *texts: str) -> None:
    """Ask the filter about texts.

    Raises:
        PromptError: When it refuses one.
    """
    if prompt_filter is None:
        return
    for text in texts:
        try:
            reason = prompt_filter(text)
        except Exception:  # the deployer's code; what it cannot judge is not made
            log.exception("The prompt filter failed")
            reason = REFUSED
        if reason:
            raise PromptError(str(reason), "Write another prompt.")


def _function(setting: str) -> PromptFilter:
    module, _, name = setting.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f'The prompt filter "{setting}" cannot be imported: {error}.') from error
    if not callable(found):
        raise ConfigError(f'The prompt filter "{setting}" is not a function.')
    return found  # type: ignore[no-any-return]


def _words(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f'The prompt filter "{path}" cannot be read: {error}.', "Give a text file, or package.module:function."
        ) from error
    phrases = tuple(line.strip() for line in lines if _plain(line) and not line.lstrip().startswith("#"))
    if not phrases:
        raise ConfigError(f'The prompt filter "{path}" holds no words.')
    return phrases


def _plain(text: str) -> str:
    """Lower case, without accents, with single spaces."""
    split = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(sign for sign in split if not unicodedata.combining(sign)).split())
