"""The table of commands. A new one is a module with ``add_arguments`` and ``run``, and a line here."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast


class CommandModule(Protocol):
    """What a command's module offers; it imports heavy things inside ``run`` only."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit status."""
        ...


@dataclass(frozen=True)
class Command:
    """One line of the table.

    Args:
        name: As the user writes it.
        summary: One line for ``--help``.
        module: Imported only when the command is used.
    """

    name: str
    summary: str
    module: str

    def load(self) -> CommandModule:
        """Import the module."""
        return cast(CommandModule, import_module(self.module))


COMMANDS = (
    Command("generate", "make a video from a face and a prompt", "magicmirror.cli.generate"),
    Command("serve", "serve the page and the API", "magicmirror.cli.serve"),
    Command("faces", "show which faces are found in a photo", "magicmirror.cli.faces"),
    Command("similarity", "compare the face of a video or picture with a reference", "magicmirror.cli.similarity"),
    Command("parameters", "print how many parameters each part of the model has", "magicmirror.cli.parameters"),
    Command("evaluate", "measure identity, motion and obedience of generated videos", "magicmirror.cli.evaluate"),
    Command("prepare", "turn a folder of portraits into training data", "magicmirror.cli.prepare"),
    Command("adapter", "look into, package or publish adapter weights", "magicmirror.cli.adapter"),
    Command("train", "run a training recipe, or go on with it", "magicmirror.cli.train"),
)
