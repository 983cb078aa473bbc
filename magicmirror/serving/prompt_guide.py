"""What can be said of a prompt before anything is generated, and a prompt from three choices; no model, no network."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicmirror.data import caption_vocabulary as phrases
from magicmirror.errors import PromptError
from magicmirror.pipeline.person_word import find_person_word, remove_trigger
from magicmirror.pipeline.prompt_length import check_length, longest_prompt

if TYPE_CHECKING:
    from magicmirror.pipeline.profiles import Profile

log = logging.getLogger(__name__)

_WORD = re.compile(r"[^\W\d_]+")
# What captions put between the phrases, and what English cannot do without.
_GLUE = (
    "a an the and or of in on at with by for to from into is are was who while as then his her their him them he she "
    "they it its this that one right be there img s video"
)

HELPER_PERSONS = tuple(phrases.PERSON_WORDS)
HELPER_MOTIONS = (
    *("smile", "open_mouth", "talk", "blink", "still", "nod", "shake"),
    *("turn_left", "turn_right", "look_up", "look_down", "tilt_left", "tilt_right"),
    *("zoom_in", "zoom_out", "pan_left", "pan_right"),
)
HELPER_STYLES = tuple(phrases.STYLE_CLAUSES)


@dataclass(frozen=True)
class PromptNotes:
    """What was found in a prompt.

    Args:
        person: The word that stands for the person; empty when there is none.
        tokens: Length for the model, special tokens included; ``None`` where the tokenizer is not on this machine.
        max_tokens: Longest length that is accepted with a reference face; ``None`` as above.
        unknown_words: Words that the profile's model never met in training, in order; empty for models trained on
            whatever people write.
    """

    person: str
    tokens: int | None
    max_tokens: int | None
    unknown_words: tuple[str, ...]

    @property
    def too_long(self) -> bool:
        """Whether the model would refuse the prompt for its length."""
        return self.tokens is not None and self.max_tokens is not None and self.tokens > self.max_tokens


class PromptGuide:
    """Reads prompts for one profile. Any thread may call it.

    Args:
        profile: Whose tokenizer and vocabulary count.
    """

    def __init__(self, profile: Profile) -> None:
        base = Path(profile.base)
        self._knows_all = profile.preset != "preview"
        self._tokenizer = _load_tokenizer(base / "tokenizer" / "tokenizer.json")
        self._max_length = _max_length(base / "transformer" / "config.json") if self._tokenizer else None

    def read(self, prompt: str) -> PromptNotes:
        """Describe a prompt; never raises, whatever the text."""
        try:
            person = find_person_word(prompt).word
        except PromptError:
            person = ""
        text = remove_trigger(prompt)
        tokens = None if self._tokenizer is None else self._count(text)
        most = None if self._max_length is None else longest_prompt(self._max_length)
        return PromptNotes(person, tokens, most, () if self._knows_all else unknown_words(text, person))

    def check(self, prompt: str) -> None:
        """Refuse a prompt that generation would refuse; its length only where the tokenizer is on this machine.

        Raises:
            PromptError: When the prompt names no person or is too long.
        """
        text = find_person_word(prompt).prompt
        if self._max_length is not None:
            check_length(text, self._max_length, self._count)

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode(text).ids)


def compose_prompt(person: str, motion: str, style: str = "none") -> str:
    """Put a prompt together from the phrases that the preview model was trained with.

    Args:
        person: One of ``HELPER_PERSONS``.
        motion: One of ``HELPER_MOTIONS``.
        style: One of ``HELPER_STYLES``.

    Returns:
        For example ``a woman turns her head to the left, in black and white``.

    Raises:
        PromptError: For anything else.
    """
    if person not in HELPER_PERSONS or motion not in HELPER_MOTIONS or style not in HELPER_STYLES:
        raise PromptError(f"There is no phrase for {person!r}, {motion!r} and {style!r}.", "Choose from the lists.")
    noun = phrases.PERSON_WORDS[person][0]
    subject = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    base = phrases.MIRRORED.get(motion, motion)
    if base in phrases.CAMERA:
        sentence = f"{subject} looks at the camera, {phrases.CAMERA[base][0]}"
    else:
        sentence = f"{subject} {phrases.ACTIONS[base][0][0]}"
    if motion in phrases.MIRRORED:
        sentence = sentence.replace("left", "right")
    sentence = sentence.replace("{slowly}", "").replace("{their}", _pronoun(noun))
    clause = next((clause for clause in phrases.STYLE_CLAUSES[style] if style != "none"), "")
    return " ".join(f"{sentence}, {clause}".rstrip(", ").split())


def unknown_words(prompt: str, person: str = "") -> tuple[str, ...]:
    """Return the words of a prompt that no training caption of the preview model has, each once, in order.

    Args:
        prompt: Any text.
        person: The word that stands for the person: it takes the face's place and need not be known.
    """
    known = trained_words() | {person.lower()}
    return tuple(dict.fromkeys(word for word in _WORD.findall(prompt.lower()) if word not in known))


@cache
def trained_words() -> frozenset[str]:
    """All words that training captions are made of, lower case."""
    texts: list[str] = [_GLUE]
    texts.extend(_flat(phrases.ACTIONS.values()))
    for group in (phrases.PERSON_WORDS, phrases.CAMERA, phrases.ADVERBS, phrases.STYLE_CLAUSES):
        texts.extend(_flat(group.values()))
    texts.extend((*phrases.VIDEO_FRAMINGS, *phrases.IMAGE_FRAMINGS, *phrases.STILL_CLAUSES, *phrases.ENDINGS))
    return frozenset(_WORD.findall(" ".join(texts).lower()))


def _flat(nested: Iterable[Sequence[Any]]) -> Iterable[str]:
    for item in nested:
        for part in item:
            yield from (part,) if isinstance(part, str) else part


def _pronoun(noun: str) -> str:
    last = noun.split()[-1]
    return "his" if last in phrases.HIS_WORDS else "her" if last in phrases.HER_WORDS else "their"


def _load_tokenizer(path: Path) -> Any:
    """Return the tokenizer without padding or cutting; ``None`` where its file is not on this machine."""
    if not path.is_file():
        log.info("No tokenizer at %s: prompts are not counted", path)
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _max_length(path: Path) -> int | None:
    if not path.is_file():
        return None
    length = json.loads(path.read_text(encoding="utf-8")).get("max_text_seq_length")
    return int(length) if length is not None else None
