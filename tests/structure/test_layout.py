"""The shape of the source: layers, sizes, names, and nothing that ties it to one machine."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# Split, so that this file does not contain what it looks for.
MACHINE_PATHS = [f"/{name}/" for name in ("work", "root", "opt/" + "wheels", "opt/" + "pypi")]
REGISTRY_HOSTS = [
    "pypi." + "org",
    "python" + "hosted.org",
    "download." + "pytorch.org",
    "registry." + "npmjs",
    "deb." + "debian.org",
]


@pytest.fixture(scope="module")
def package(repository) -> list[Path]:
    """Every Python file of the package."""
    return sorted((repository / "magicmirror").rglob("*.py"))


def tracked_text(repository: Path) -> Iterator[tuple[Path, str]]:
    """Path and text of every tracked text file, or of every source file where git is absent."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        paths = [repository / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [*repository.glob("*.*"), *(repository / "magicmirror").rglob("*.py")]
    for path in paths:
        if path.is_file():
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # a picture or weights


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on a checkout."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_layers_are_kept(repository) -> None:
    done = lint_imports(repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("errors.py", "import magicmirror.media"),  # inner imports outer
        ("faces/alignment.py", "import magicmirror.models.transformer"),  # siblings
        ("models/transformer.py", "import magicmirror.faces.alignment"),
    ],
)
def test_the_layer_contract_bites(repository, tmp_path, file: str, line: str) -> None:
    shutil.copytree(
        repository / "magicmirror", tmp_path / "magicmirror", ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
    )
    shutil.copy(repository / "pyproject.toml", tmp_path)
    target = tmp_path / "magicmirror" / file
    target.write_text(target.read_text() + f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert "0 kept, 1 broken" in done.stdout


def test_files_are_short(package) -> None:
    lines = {path: len(path.read_text().splitlines()) for path in package}
    assert {path.name: count for path, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_functions_are_short(package) -> None:
    """Lines of the body; the docstring and the signature, which diffusers' classes make long, do not count."""
    long = {}
    for path in package:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                if length > MAX_FUNCTION_LINES:
                    long[f"{path.name}:{node.name}"] = length
    assert long == {}


def test_no_file_has_a_name_that_says_nothing(package) -> None:
    vague = re.compile(r"^(utils?|helpers?|common|misc|args)(_.*)?$|_utils?$|_helpers?$|_2$")
    assert [path.name for path in package if vague.search(path.stem)] == []


def test_every_room_and_file_states_its_purpose(package) -> None:
    assert [path.name for path in package if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_nothing_ties_the_repository_to_one_machine(repository) -> None:
    found = []
    for path, text in tracked_text(repository):
        found += [f"{path.name}: {host}" for host in REGISTRY_HOSTS if host in text]
        found += [f"{path.name}: {start}" for start in MACHINE_PATHS if re.search(rf"(?<![\w.\-/]){start}", text)]
    assert found == []


def test_source_has_no_search_path_edits(package) -> None:
    assert [path.name for path in package if "sys.path" in path.read_text()] == []


def test_requirements_are_pinned_and_hold_one_opencv(repository) -> None:
    names = []
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (repository / name).read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                assert re.fullmatch(r"[A-Za-z0-9_.\-]+==[0-9][\w.]*", line), line
                names.append(line.split("==")[0].lower())
    assert len(names) == len(set(names))
    assert [name for name in names if "opencv" in name] == ["opencv-python"]
    assert "torch==2.13.0" in (repository / "requirements.txt").read_text().splitlines()


def test_example_faces_were_kept_out_of_training(repository, examples) -> None:
    import hashlib

    licence = (examples / "LICENSE.md").read_text()
    origins = dict(re.findall(r"^\| `(\w+\.jpg)` \| `([\w]+\.jpg)` \|$", licence, re.MULTILINE))
    shown = {path.name for path in examples.glob("*.jpg")}
    assert set(origins) == shown - {"two_people.jpg"}
    for original in origins.values():
        assert int(hashlib.sha1(original.encode()).hexdigest(), 16) % 10 == 0
