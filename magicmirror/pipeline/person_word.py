"""The word of a prompt that stands for the person, and where the tokenizer puts it (paper section 3.2, A.2).

The rule, first match wins:

1. The word directly before the trigger ``img`` ("a wizard img waves"), whatever it is, unless it is a function word
   ("a img"). So anybody can name the word that the vocabulary does not know.
2. The leftmost noun for one person. Of nouns in a row ("baby girl", "lady doctor") it is the last, because an English
   compound ends with its head; adjectives ("elderly man") play no part. Plurals do not count: one face is one person.
   A noun that goes on after a hyphen ("man-made") and a few fixed phrases ("baby blue") do not count either.
3. The leftmost pronoun of ``he``, ``she``, ``him``, ``himself``, ``herself``.

Case does not matter, and a possessive ``'s`` is not part of the word. The trigger is always removed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from magicmirror.errors import PromptError

TRIGGER = "img"

NOUNS_BY_GROUP: dict[str, tuple[str, ...]] = {
    "man": (
        *("man", "guy", "gentleman", "male", "dude", "fellow", "bloke", "lad", "husband", "father", "dad", "daddy"),
        *("uncle", "brother", "son", "groom", "king", "prince", "emperor", "businessman", "craftsman", "fireman"),
        *("fisherman", "policeman", "salesman", "sportsman", "waiter", "monk", "priest", "cowboy", "wizard", "knight"),
    ),
    "woman": (
        *("woman", "lady", "gal", "female", "wife", "mother", "mom", "mum", "mommy", "aunt", "sister", "daughter"),
        *("bride", "queen", "princess", "empress", "businesswoman", "policewoman", "sportswoman", "actress"),
        *("waitress", "hostess", "heroine", "ballerina", "nun", "witch", "cowgirl", "goddess"),
    ),
    "elderly man": ("grandfather", "grandpa", "granddad", "grandad"),
    "elderly woman": ("grandmother", "grandma", "granny", "nana"),
    "boy": ("boy", "schoolboy"),
    "girl": ("girl", "schoolgirl", "lass"),
    "baby": ("baby", "infant", "newborn", "toddler"),
    "person": (
        *("person", "human", "adult", "somebody", "someone", "elder", "senior", "pensioner"),
        *("grandparent", "parent", "child", "kid", "youngster", "teen", "teenager", "youth", "friend", "stranger"),
    ),
    "role": (
        *("actor", "architect", "artist", "astronaut", "athlete", "author", "baker", "barista", "boxer", "carpenter"),
        *("chef", "clown", "comedian", "conductor", "cyclist", "dancer", "dentist", "detective", "diver", "doctor"),
        *("driver", "drummer", "elf", "engineer", "explorer", "farmer", "firefighter", "gardener", "guitarist"),
        *("gymnast", "hero", "hiker", "hunter", "influencer", "inventor", "journalist", "lawyer", "librarian"),
        *("magician", "mechanic", "model", "musician", "ninja", "nurse", "officer", "painter", "performer"),
        *("photographer", "pianist", "pilot", "pirate", "player", "poet", "potter", "president", "professor"),
        *("programmer", "rapper", "reporter", "researcher", "rider", "runner", "sailor", "samurai", "scholar"),
        *("scientist", "sculptor", "singer", "skateboarder", "skater", "skier", "soldier", "speaker", "student"),
        *("superhero", "surfer", "surgeon", "swimmer", "tailor", "teacher", "tourist", "traveler", "traveller"),
        *("vampire", "vet", "viking", "villain", "violinist", "warrior", "worker", "writer"),
    ),
}
PRONOUNS = frozenset({"he", "she", "him", "himself", "herself"})

_NOUNS = frozenset(noun for nouns in NOUNS_BY_GROUP.values() for noun in nouns)
_NOT_A_PERSON = frozenset(
    {
        *(("baby", "blue"), ("baby", "pink"), ("baby", "shower"), ("baby", "stroller"), ("baby", "carriage")),
        *(("man", "cave"), ("model", "airplane"), ("model", "car"), ("model", "train"), ("human", "nature")),
    }
)
_FUNCTION_WORDS = frozenset(
    {"a", "an", "the", "this", "that", "and", "or", "of", "in", "on", "at", "with", "by", "for", "to", "is", "are"}
)
# Not part of a file name ("photo.img", "img.png") or of a longer word.
_TRIGGER = re.compile(rf"(?<![\w.\-]){TRIGGER}(?!\w|[.\-]\w)", re.IGNORECASE)
_POSSESSIVES = ("'s", "’s", "'", "’")
_WORD = re.compile(r"[^\W\d_]+")
_REMEDY = (
    'Name one person with a word such as "man", "woman", "elderly man", "girl", "boy", "baby", "person" or "doctor", '
    'or write "img" after the word that means the person: "a wizard img waves".'
)


@dataclass(frozen=True)
class PersonWord:
    """Where a prompt names its person.

    Args:
        prompt: The prompt without the trigger.
        start: First character of the word in ``prompt``.
        end: One past its last character.
    """

    prompt: str
    start: int
    end: int

    @property
    def word(self) -> str:
        """The word as written."""
        return self.prompt[self.start : self.end]


def remove_trigger(prompt: str) -> str:
    """Take every ``img`` out of a prompt, with the white space that belonged to it."""
    return _without_trigger(prompt)[0]


def find_person_word(prompt: str) -> PersonWord:
    """Find the word that the identity is fused with; see the rule above.

    Args:
        prompt: As the user wrote it.

    Returns:
        The word in the prompt without trigger.

    Raises:
        PromptError: If no word means a person.
    """
    text, trigger_ends = _without_trigger(prompt)
    words = list(_WORD.finditer(text))
    word = _before_trigger(words, text, trigger_ends) or _first_noun(words, text) or _first_pronoun(words)
    if word is None:
        raise PromptError(f"The prompt names no person: {prompt!r}.", _REMEDY)
    return PersonWord(text, word.start(), word.end())


def token_position(tokenizer: Any, person: PersonWord) -> int:
    """Position of the *last* token of the person word.

    Args:
        tokenizer: A tokenizer with character offsets (every tokenizer of transformers 5).
        person: The word in its prompt.

    Returns:
        Index into the token ids of ``person.prompt``, which start at its first token.
    """
    offsets = tokenizer(person.prompt, return_offsets_mapping=True)["offset_mapping"]
    # Special tokens have empty offsets; a token may begin before the word or reach beyond it.
    touching = [index for index, (start, end) in enumerate(offsets) if start < person.end and end > person.start]
    assert touching, f"no token covers {person.word!r}"
    return touching[-1]


def _without_trigger(prompt: str) -> tuple[str, list[int]]:
    """The prompt without triggers, and where in it each trigger stood: the end of the text before it."""
    text, cursor, ends = "", 0, []
    for match in _TRIGGER.finditer(prompt):
        text = (text + prompt[cursor : match.start()]).rstrip()
        ends.append(len(text))
        cursor = match.end()
    rest = prompt[cursor:]
    return text + (rest if text or not ends else rest.lstrip()), ends


def _before_trigger(words: list[re.Match[str]], text: str, trigger_ends: list[int]) -> re.Match[str] | None:
    for end in trigger_ends:
        for word in words:
            touches = word.end() == end or text[word.end() : end] in _POSSESSIVES
            if touches and word[0].lower() not in _FUNCTION_WORDS:
                return word
    return None


def _first_noun(words: list[re.Match[str]], text: str) -> re.Match[str] | None:
    last: re.Match[str] | None = None
    for word, following in zip_longest(words, words[1:]):
        gap = text[word.end() : following.start()] if following else text[word.end() :]
        pair = (word[0].lower(), following[0].lower() if following else "")
        if pair[0] not in _NOUNS or pair in _NOT_A_PERSON or gap == "-":
            if last is not None:
                return last
            continue
        last = word
        if gap.strip():  # punctuation, or a possessive, ends the compound
            return last
    return last


def _first_pronoun(words: list[re.Match[str]]) -> re.Match[str] | None:
    return next((word for word in words if word[0].lower() in PRONOUNS), None)
