"""Which portraits a model is tested on: a fixed tenth that no training run may use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from magicmirror.data.manifest import HELD_OUT_ONE_IN, name_hash, picture_paths, split_of
from magicmirror.errors import ConfigError, FaceError, ImageError
from magicmirror.faces.analyzer import FaceAnalyzer
from magicmirror.faces.selection import choose_face
from magicmirror.media import load_image
from magicmirror.types import FaceReference

PERSON_WORDS = {"female": "woman", "woman": "woman", "male": "man", "man": "man"}


@dataclass(frozen=True)
class Portrait:
    """A picture of a test person.

    Args:
        path: The file; its name is unique among the portraits.
        group: What the report splits by, see ``portrait_group``.
    """

    path: Path
    group: str

    @property
    def person_word(self) -> str:
        """The word that names this person in a prompt: man, woman or person."""
        return PERSON_WORDS.get(self.group.split("_")[0], "person")


@dataclass(frozen=True, eq=False)
class Subject:
    """A test person with the analysed reference face."""

    portrait: Portrait
    reference: FaceReference

    @property
    def name(self) -> str:
        """File name of the portrait without suffix."""
        return self.portrait.path.stem


def is_held_out(file_name: str) -> bool:
    """Say whether a portrait belongs to the tenth that is kept for tests; training leaves these out."""
    return split_of(file_name) == "validation"


def portrait_group(path: Path) -> str:
    """Return the group of a portrait: ``female_white`` for ``female_white_1a2b.jpg``, else the name of its folder."""
    parts = path.stem.split("_")
    return "_".join(parts[:-1]) if len(parts) > 1 and parts[0] in PERSON_WORDS else path.parent.name


def find_portraits(folder: Path, everyone: bool = False) -> tuple[Portrait, ...]:
    """List the test portraits below a folder, groups in turn.

    The order depends on the file names only. Any first part of it has the same number of people of each group, as
    long as a group lasts, however uneven the groups are.

    Args:
        folder: Searched with its subfolders.
        everyone: Take the portraits that are not held out, too.

    Returns:
        At least one portrait.

    Raises:
        ConfigError: When the folder is missing or has no such portrait, or two have one name.
    """
    if not folder.is_dir():
        raise ConfigError(f'There is no folder "{folder}".', "Name the folder of the portraits.")
    files = [folder / path for path in picture_paths(folder)]
    chosen = [path for path in files if everyone or is_held_out(path.name)]
    if not chosen:
        raise ConfigError(
            f'"{folder}" has {len(files)} pictures, none of them held out (one in {HELD_OUT_ONE_IN} is).',
            "Give a folder with more portraits, or take everyone.",
        )
    if len({path.stem for path in chosen}) < len(chosen):
        raise ConfigError(f'Two portraits below "{folder}" have the same name.', "Rename one.")
    return _groups_in_turn(Portrait(path, portrait_group(path)) for path in chosen)


def load_subjects(portraits: Sequence[Portrait], limit: int, analyzer: FaceAnalyzer) -> tuple[Subject, ...]:
    """Analyse portraits until there are enough; those without one clear face are passed over.

    Args:
        portraits: In the order in which they are taken.
        limit: How many people to test, at least 2.
        analyzer: Finds and embeds the faces.

    Returns:
        ``limit`` people, fewer when there are not enough portraits.

    Raises:
        ConfigError: When fewer than two people are left, so that there is nobody to mix up.
    """
    if limit < 2:
        raise ConfigError(f"The limit must be at least 2 people, got {limit}.")
    subjects: list[Subject] = []
    for portrait in portraits:
        if len(subjects) == limit:
            break
        try:
            face = choose_face(analyzer.analyze(load_image(portrait.path)))
        except (FaceError, ImageError):
            continue
        subjects.append(Subject(portrait, face))
    if len(subjects) < 2:
        raise ConfigError(f"{len(subjects)} of {len(portraits)} portraits show one clear face; 2 are needed.")
    return tuple(subjects)


def _groups_in_turn(portraits: Iterable[Portrait]) -> tuple[Portrait, ...]:
    """Deal the groups out in turn; within a group the order is that of the names' hashes."""
    groups: dict[str, list[Portrait]] = defaultdict(list)
    for portrait in sorted(portraits, key=lambda portrait: name_hash(portrait.path.name)):
        groups[portrait.group].append(portrait)
    rounds = zip_longest(*(groups[name] for name in sorted(groups)))
    return tuple(portrait for turn in rounds for portrait in turn if portrait is not None)
