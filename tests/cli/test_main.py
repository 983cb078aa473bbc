"""The table of commands, the help, and how errors become exit statuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from magicmirror import __version__
from magicmirror.cli import main as entry
from magicmirror.cli.commands import COMMANDS
from magicmirror.errors import ConfigError, NoFaceFound, WeightsError


def test_help_lists_every_command(command):
    done = command("--help")
    assert done.returncode == 0 and done.stderr == ""
    for item in COMMANDS:
        assert item.name in done.stdout and item.summary in " ".join(done.stdout.split())
    assert command().stdout == done.stdout
    assert command("--version").stdout == f"magicmirror {__version__}\n"


def test_help_needs_no_heavy_library(repository):
    code = (
        "import sys\nfrom magicmirror.cli.main import build_parser\n"
        "build_parser('generate').format_help()\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'cv2', 'dlib', 'gradio', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_generate_does_not_wait_for_the_page(repository, examples, tmp_path):
    code = (
        "import sys\nfrom magicmirror.cli.main import main\n"
        f"status = main(['generate', '--reference', {str(examples / 'LICENSE.md')!r}, '--prompt', 'a man smiles', "
        f"'--output', {str(tmp_path / 'out.mp4')!r}])\n"
        "assert status == 2 and 'gradio' not in sys.modules and 'magicmirror.ui.photos' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_takes_less_than_half_a_second_of_work(repository):
    """Processor time, so that a busy machine does not fail the test."""
    code = "import sys, time\nfrom magicmirror.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n"
    code += "    print(time.process_time(), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert float(done.stderr) < 0.5


@pytest.mark.parametrize("item", COMMANDS, ids=lambda item: item.name)
def test_every_command_has_help_and_does_not_import_on_listing(item, capsys):
    with pytest.raises(SystemExit) as left:
        entry.main([item.name, "--help"])
    assert left.value.code == 0
    assert item.summary.lower() in " ".join(capsys.readouterr().out.split()).lower()


@pytest.mark.parametrize(
    "arguments", [["generate"], ["nonsense"], ["faces"], ["generate", "--seed", "x"], ["--nonsense"]]
)
def test_wrong_arguments_are_one_line_and_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        entry.main(arguments)
    error = capsys.readouterr().err
    assert left.value.code == 2 and error.count("\n") == 1 and "--help" in error


def test_an_unknown_argument_leads_to_the_help_of_its_command(capsys):
    for arguments, name in ((["faces", "a.jpg", "--frames", "17"], "magicmirror faces"), (["--no"], "magicmirror")):
        with pytest.raises(SystemExit) as left:
            entry.main(arguments)
        assert left.value.code == 2 and capsys.readouterr().err.endswith(f"(see {name} --help)\n")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (NoFaceFound("No face.", "Another photo."), 2, "No face. Another photo."),
        (ConfigError("Bad\n  value."), 2, "Bad value."),
        (WeightsError("Missing.", "Get them."), 1, "Missing. Get them."),
        (RuntimeError("CUDA error: out of memory"), 1, entry._OUT_OF_MEMORY),
        (MemoryError(), 1, entry._OUT_OF_MEMORY),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_expected_errors_are_one_line(monkeypatch, capsys, tmp_path, error, status, line):
    monkeypatch.setattr("magicmirror.cli.faces.run", _raising(error))
    assert entry.main(["faces", str(tmp_path)]) == status
    assert capsys.readouterr().err == f"magicmirror: {line}\n"


def test_an_internal_failure_is_status_1_with_its_traceback(monkeypatch, capsys, caplog, tmp_path):
    monkeypatch.setattr("magicmirror.cli.faces.run", _raising(ZeroDivisionError("trouble")))
    assert entry.main(["faces", str(tmp_path)]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert any(record.exc_info and "trouble" in str(record.exc_info[1]) for record in caplog.records)


def _raising(error):
    def run(args):
        raise error

    return run
