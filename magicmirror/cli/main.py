"""Entry of ``python -m magicmirror``: find the command, run it, turn errors into exit statuses.

==== =================================================================
0    done
1    a failure inside; the traceback is logged
2    bad input; one plain line on stderr
130  stopped with Ctrl-C; nothing half-written is left
==== =================================================================
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from magicmirror import __version__
from magicmirror.cli.commands import COMMANDS
from magicmirror.errors import ConfigError, MagicMirrorError, UserInputError

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
_OUT_OF_MEMORY = "The memory did not suffice. Choose a lower --memory policy, fewer frames or a smaller size."

log = logging.getLogger("magicmirror")


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with status 2."""
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser(wanted: str | None) -> argparse.ArgumentParser:
    """Build the parser; only the wanted command's module is imported.

    Args:
        wanted: Name of the command on the command line, if there is one.
    """
    parser = OneLineParser(
        prog="magicmirror", description="Identity-preserved text-to-video: a face, a prompt, a video."
    )
    parser.add_argument("--version", action="version", version=f"magicmirror {__version__}")
    parser.add_argument("--verbose", action="store_true", help="log what happens, on stderr")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=OneLineParser)
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.name, help=command.summary, description=command.summary[0].upper() + command.summary[1:] + "."
        )
        if command.name == wanted:
            module = command.load()
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; ``None`` takes those of the process.

    Returns:
        The exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    names = {command.name for command in COMMANDS}
    parser = build_parser(next((argument for argument in arguments if argument in names), None))
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        # argparse would say this of the whole program, whose help does not list a command's arguments.
        name = " ".join(filter(None, (parser.prog, args.command)))
        parser.exit(EXIT_BAD_INPUT, f"{name}: unrecognized arguments: {' '.join(unknown)} (see {name} --help)\n")
    if args.command is None:
        parser.print_help()
        return 0
    _set_up_logging(args.verbose)
    try:
        return int(args.run(args))
    except (UserInputError, ConfigError) as error:
        log.debug("Refused", exc_info=True)
        return _say(f"{parser.prog}: {error}", EXIT_BAD_INPUT)
    except MagicMirrorError as error:
        log.debug("Failed", exc_info=True)
        return _say(f"{parser.prog}: {error}", EXIT_FAILURE)
    except KeyboardInterrupt:
        return _say(f"{parser.prog}: stopped", EXIT_INTERRUPTED)
    except Exception as error:  # the border: everything else is ours to mend, so its traceback is wanted
        from magicmirror.pipeline.out_of_memory import is_out_of_memory

        if is_out_of_memory(error):
            log.debug("Out of memory", exc_info=True)
            return _say(f"{parser.prog}: {_OUT_OF_MEMORY}", EXIT_FAILURE)
        log.exception("Internal failure")
        return _say(f"{parser.prog}: internal failure ({type(error).__name__})", EXIT_FAILURE)


def _say(text: str, status: int) -> int:
    """Print one line on stderr and pass the status on."""
    print(" ".join(text.split()), file=sys.stderr)
    return status


def _set_up_logging(verbose: bool) -> None:
    """Log to stderr; without ``--verbose`` only errors, so that a refusal stays one line."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.ERROR,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if verbose:
        for chatty in ("PIL", "httpx", "httpcore", "asyncio", "urllib3"):
            logging.getLogger(chatty).setLevel(logging.INFO)
    else:
        import warnings

        # The hub's library has a handler of its own, and logs each of its many tries. Its level is read from the
        # environment when it is imported, which may be later than this or earlier.
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        # These too, and they warn whenever torchao is installed, whether it is used or not.
        for noisy in ("torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
