"""What a benchmark asks for: identities x prompts x seeds, each case with the motions and the style that it names."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from magicmirror.data.captions import clip_caption, sample_clip_spec
from magicmirror.data.manifest import name_hash
from magicmirror.data.motion import MOTIONS, ClipSpec, MotionCue
from magicmirror.data.style import STYLES
from magicmirror.errors import ConfigError
from magicmirror.evaluation.portraits import Subject

SuiteName = Literal["paper", "obedience"]
PAPER_PROMPTS = 4
SUITES: tuple[SuiteName, ...] = ("paper", "obedience")


@dataclass(frozen=True)
class Prompt:
    """One prompt of a suite, for any person.

    Args:
        name: Short and unique in the suite; part of file names.
        clip: Makes motions, style and caption for a person.
    """

    name: str
    clip: Callable[[Subject], ClipSpec]


@dataclass(frozen=True, eq=False)
class Case:
    """One video of a benchmark.

    Args:
        subject: Whom it shows.
        prompt: Name of the prompt.
        clip: Caption, and what it asks for.
        seed: Of the video.
    """

    subject: Subject
    prompt: str
    clip: ClipSpec
    seed: int

    @property
    def name(self) -> str:
        """Unique in a benchmark; name of the video without suffix."""
        return f"{self.subject.name}--{self.prompt}--{self.seed}"


def suite_prompts(suite: SuiteName) -> tuple[Prompt, ...]:
    """Return the prompts of a built-in suite; each person gets its own wording, always the same.

    Args:
        suite: ``paper``: four prompts an identity, as in section A.2, with motions and styles sampled as in training.
            ``obedience``: one prompt for each motion word, and one for each style word on a face that keeps still.
    """
    if suite == "paper":
        return tuple(_sampled(f"p{index + 1}") for index in range(PAPER_PROMPTS))
    motions = [_fixed(motion, motion, "none") for motion in MOTIONS]
    return (*motions, *(_fixed(style, "still", style) for style in STYLES if style != "none"))


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Read prompts from a file, one a line.

    Args:
        path: A line is a plain prompt, or a JSON object with ``prompt`` and, optionally, ``motions`` (a list) and
            ``style``: what the prompt asks for. ``{person}`` in a prompt becomes the word for the person.

    Raises:
        ConfigError: When the file is missing or empty, or with the number of the line that is wrong.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'The prompts cannot be read from "{path}": {error}.') from error
    prompts = tuple(_parse(line, number) for number, line in enumerate(lines, start=1) if line)
    if not prompts:
        raise ConfigError(f'"{path}" has no prompt.', "Write one a line.")
    return prompts


def make_cases(subjects: Sequence[Subject], prompts: Sequence[Prompt], seeds: Sequence[int]) -> tuple[Case, ...]:
    """Multiply identities, prompts and seeds; all people of one prompt and seed come before the next.

    So any first part of a benchmark has as many people as possible. The seed of a video is the given one plus
    the number of the person, as in the identification test.

    Raises:
        ConfigError: When seeds repeat or are so close that two videos would share noise, person and prompt.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ConfigError(f"Seeds must be different numbers from 0, got {list(seeds)}.")
    return tuple(
        Case(subject, prompt.name, prompt.clip(subject), seed + index)
        for seed in seeds
        for prompt in prompts
        for index, subject in enumerate(subjects)
    )


def _rng(prompt: str, subject: Subject) -> np.random.Generator:
    return np.random.default_rng([name_hash(prompt) % 2**32, name_hash(subject.name) % 2**32])


def _sampled(name: str) -> Prompt:
    return Prompt(name, lambda subject: sample_clip_spec(_rng(name, subject), subject.portrait.person_word))


def _fixed(name: str, motion: str, style: str) -> Prompt:
    def clip(subject: Subject) -> ClipSpec:
        cues = (MotionCue(motion),)
        caption = clip_caption(_rng(name, subject), subject.portrait.person_word, cues, style)
        return ClipSpec(cues, style, caption)

    return Prompt(name, clip)


def _parse(line: str, number: int) -> Prompt:
    """Read one line of a file of prompts."""
    name = f"line{number}"
    record: Any = {"prompt": line}
    try:
        if line.startswith("{") and not line.startswith("{person}"):
            record = json.loads(line)
        unknown = record.keys() - {"prompt", "motions", "style"}
        if unknown:
            raise ConfigError(f"unknown fields {sorted(unknown)}.")
        cues = tuple(MotionCue(motion) for motion in record.get("motions", ()))
        style = record.get("style", "none")
        if style not in STYLES:
            raise ConfigError(f"unknown style {style!r}, choose one of {', '.join(STYLES)}.")
        template = ClipSpec(cues, style, str(record["prompt"]))
    except ConfigError as error:
        raise ConfigError(f"Prompts, line {number}: {error.message}", error.remedy) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"Prompts, line {number}: not a prompt ({error}).") from error

    def clip(subject: Subject) -> ClipSpec:
        caption = template.caption.replace("{person}", subject.portrait.person_word)
        return ClipSpec(template.motions, template.style, caption)

    return Prompt(name, clip)
