"""What a clip shows, in varied natural language, and the sampling of clips that can be said so.

Every caption names one person and puts the trigger ``img`` directly after that word (paper, A.2). "Left" and "right"
are those of the viewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from magicmirror.data.caption_vocabulary import (
    ACTIONS,
    ADVERBS,
    CAMERA,
    ENDINGS,
    HER_WORDS,
    HIS_WORDS,
    IMAGE_FRAMINGS,
    MIRRORED,
    PERSON_WORDS,
    STILL_CLAUSES,
    STYLE_CLAUSES,
    VIDEO_FRAMINGS,
)
from magicmirror.data.motion import MOTIONS, ClipSpec, MotionCue, Pace, Strength
from magicmirror.data.style import STYLES
from magicmirror.errors import ConfigError
from magicmirror.pipeline.person_word import TRIGGER

PLAIN_STYLE_SHARE = 0.45
TWO_MOTIONS_SHARE = 0.3
NEUTRAL_WORD_SHARE = 0.15
NUM_PATTERNS = 1
LONG_SENTENCE_WORDS = 17
"""A longer sentence gets no ending, so that a caption stays within about 30 tokens."""
# Half the way, or another pace, can only be told from a picture for a motion that goes one way.
PACED = frozenset(
    {"turn_left", "turn_right", "look_up", "look_down", "tilt_left", "tilt_right"}
    | {"zoom_in", "zoom_out", "pan_left", "pan_right", "smile", "open_mouth"}
)
MOTION_WEIGHTS: dict[str, float] = dict.fromkeys(MOTIONS, 1.0) | {
    "nod": 2.5,
    "shake": 2.0,
    "look_down": 4.0,
    "blink": 2.5,
    "smile": 3.0,
    "open_mouth": 1.5,
    "talk": 3.0,
    "still": 4.0,
}
"""Small motions are the hardest to learn, and the face's own are the smallest. Keeping still is what a prompt without a
motion asks for; where it was rare, and never told as "looks at the camera", mouths opened at these words."""

STYLE_WEIGHTS: dict[str, float] = dict.fromkeys(STYLES, 1.0) | {"none": 0.0, "snow": 2.5, "rain": 2.5}
"""Of a clip that has a style; what moves is the hardest to learn."""


def sample_person_word(rng: np.random.Generator, group: str) -> str:
    """Choose how to name a person.

    Args:
        rng: Source of randomness.
        group: Key of ``PERSON_WORDS``.

    Returns:
        A word of the group, or now and then a neutral one that holds for everybody.

    Raises:
        ConfigError: For an unknown group.
    """
    if group not in PERSON_WORDS:
        raise ConfigError(f"Unknown group {group!r}.", f"Choose one of {', '.join(PERSON_WORDS)}.")
    if rng.random() < NEUTRAL_WORD_SHARE:
        return "person"
    return _choose(rng, PERSON_WORDS[group])


def sample_clip_spec(rng: np.random.Generator, person_word: str, style: str | None = None) -> ClipSpec:
    """Sample the motions, the style and the caption of a clip.

    Args:
        rng: Source of randomness.
        person_word: How the caption names the person, e.g. ``woman``.
        style: One of ``STYLES``; ``None`` samples it.

    Returns:
        The clip; the caption says all that was sampled.
    """
    motions = sample_motions(rng)
    style = style or sample_style(rng)
    return ClipSpec(motions, style, clip_caption(rng, person_word, motions, style), _pattern(rng))


def sample_image_spec(rng: np.random.Generator, person_word: str, style: str | None = None) -> ClipSpec:
    """Sample the style and the caption of a still.

    Args:
        rng: Source of randomness.
        person_word: How the caption names the person.
        style: One of ``STYLES``; ``None`` samples it.

    Returns:
        A clip without motion.
    """
    style = style or sample_style(rng)
    return ClipSpec((), style, image_caption(rng, person_word, style), _pattern(rng))


def sample_motions(rng: np.random.Generator) -> tuple[MotionCue, ...]:
    """Sample one motion, or two of different groups ("still" stays alone)."""
    names = list(MOTIONS)
    first = _weighted(rng, {name: MOTION_WEIGHTS[name] for name in names})
    chosen = [first]
    if first != "still" and rng.random() < TWO_MOTIONS_SHARE:
        taken = {MOTIONS[first].group, "rest"}
        chosen.append(_weighted(rng, {n: MOTION_WEIGHTS[n] for n in names if MOTIONS[n].group not in taken}))
    return tuple(_sample_cue(rng, name) for name in chosen)


def sample_style(rng: np.random.Generator) -> str:
    """Sample a style; about half of the time none."""
    if rng.random() < PLAIN_STYLE_SHARE:
        return "none"
    return _weighted(rng, STYLE_WEIGHTS)


def clip_caption(rng: np.random.Generator, person_word: str, motions: Sequence[MotionCue], style: str) -> str:
    """Say what a clip shows.

    Args:
        rng: Chooses among the ways to say it.
        person_word: How to name the person.
        motions: One or two motions.
        style: One of ``STYLES``.

    Returns:
        At most about 25 words, with ``img`` after the person word.

    Raises:
        ConfigError: When there is no motion to tell.
    """
    if not motions:
        raise ConfigError("A clip's caption needs a motion.", "Use image_caption for a still.")
    actions = [cue for cue in motions if MOTIONS[cue.name].group != "camera"]
    cameras = [cue for cue in motions if MOTIONS[cue.name].group == "camera"]
    framing = _choose(rng, VIDEO_FRAMINGS)
    subject = _subject(person_word)
    sentence = _told(rng, framing, subject, [_action(rng, cue, person_word) for cue in actions])
    for cue in cameras:
        clause = _camera(rng, cue)
        if actions:
            sentence += _choose(rng, (" while ", ", ", " as ", " and ")) + clause
        else:
            sentence = _choose(rng, (f"{sentence}, {clause}", f"{clause} on {subject}", f"{sentence} as {clause}"))
    return _finished(rng, sentence, style)


def image_caption(rng: np.random.Generator, person_word: str, style: str) -> str:
    """Say what a still shows: a framing, the person, at times a filler, the style."""
    framing = _choose(rng, IMAGE_FRAMINGS)
    clause = _choose(rng, STILL_CLAUSES)
    sentence = f"{framing} {_subject(person_word)} {clause}".strip()
    return _finished(rng, sentence, style)


def _told(rng: np.random.Generator, framing: str, subject: str, actions: Sequence[tuple[str, str]]) -> str:
    """Join framing, person and actions; each action is (third person, participle)."""
    if not actions:
        return f"{framing} {subject}".strip()
    both = _choose(rng, (" and ", " and ", " while "))
    participles = " and ".join(participle for _, participle in actions)
    if len(actions) == 2 and both == " while ":
        finite = f"{actions[0][0]} while {actions[1][1]}"
    else:
        finite = " and ".join(third for third, _ in actions)
    if not framing:
        return _choose(rng, (f"{subject} {finite}", f"{subject} {finite}", f"{subject} is {participles}"))
    return _choose(rng, (f"{framing} {subject} {participles}", f"{framing} {subject} who {finite}"))


def _finished(rng: np.random.Generator, sentence: str, style: str) -> str:
    """Add style and ending, and vary case and full stop."""
    clause = _choose(rng, STYLE_CLAUSES[style])
    if clause and rng.random() < 0.15:
        sentence = f"{clause}, {sentence}"
    elif clause:
        blank = clause.startswith(("in ", "at ", "on ", "with ", "while ", "under ", "during ", "by ", "as "))
        sentence += f" {clause}" if blank and rng.random() < 0.6 else f", {clause}"
    ending = _choose(rng, ENDINGS)
    if ending and len(sentence.split()) <= LONG_SENTENCE_WORDS:
        sentence += f", {ending}"
    if rng.random() < 0.3:
        sentence = sentence[0].upper() + sentence[1:] + "."
    return " ".join(sentence.split())


def _subject(person_word: str) -> str:
    article = "an" if person_word[0] in "aeiou" else "a"
    return f"{article} {person_word} {TRIGGER}"


def _action(rng: np.random.Generator, cue: MotionCue, person_word: str) -> tuple[str, str]:
    """(third person, participle) of a motion of the head."""
    phrases = ACTIONS[MIRRORED.get(cue.name, cue.name)]
    third, participle = phrases[int(rng.integers(len(phrases)))]
    adverb = _adverb(rng, cue)
    noun = person_word.split()[-1]
    pronoun = "his" if noun in HIS_WORDS else "her" if noun in HER_WORDS else "their"
    third, participle = (_placed(phrase, adverb).replace("{their}", pronoun) for phrase in (third, participle))
    return (_mirrored(third), _mirrored(participle)) if cue.name in MIRRORED else (third, participle)


def _camera(rng: np.random.Generator, cue: MotionCue) -> str:
    clause = _placed(_choose(rng, CAMERA[MIRRORED.get(cue.name, cue.name)]), _adverb(rng, cue))
    return _mirrored(clause) if cue.name in MIRRORED else clause


def _adverb(rng: np.random.Generator, cue: MotionCue) -> str:
    return _choose(rng, ADVERBS[cue.strength, cue.pace])


def _placed(phrase: str, adverb: str) -> str:
    """Put the adverb into its place, or after a phrase that has none."""
    if "{slowly}" not in phrase:
        return f"{phrase} {adverb}".strip()
    # "a little" and "a bit" follow the verb's phrase, plain adverbs stand before the verb.
    if adverb.split()[-1:] in (["little"], ["bit"], ["fast"]):
        return " ".join(phrase.replace("{slowly}", "").split()) + f" {adverb}"
    return " ".join(phrase.replace("{slowly}", adverb).split())


def _mirrored(phrase: str) -> str:
    """Write the phrase with "right" for "left"."""
    return phrase.replace("left", "right")


def _sample_cue(rng: np.random.Generator, name: str) -> MotionCue:
    if name not in PACED:
        return MotionCue(name)
    said: Mapping[tuple[Strength, Pace], float] = {
        ("normal", "normal"): 0.5,
        ("normal", "slow"): 0.2,
        ("normal", "quick"): 0.12,
        ("slight", "normal"): 0.18,
    }
    keys = list(said)
    strength, pace = keys[int(rng.choice(len(keys), p=list(said.values())))]
    return MotionCue(name, strength, pace)


def _pattern(rng: np.random.Generator) -> int:
    return int(rng.integers(NUM_PATTERNS))


def _choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _weighted(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    names = list(weights)
    total = sum(weights.values())
    return names[int(rng.choice(len(names), p=[weights[name] / total for name in names]))]
