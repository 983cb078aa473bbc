"""The map from the paper to the code: every link leads to something, and nothing of the paper's method is left out."""

import ast
import re

import pytest

LINK = re.compile(r"\[(`?)([^\]`]+)\1\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "paper_map.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def links(page):
    found = [(text, target) for _, text, target in LINK.findall(page)]
    assert len(found) > 50
    return found


def names_in(path):
    """Names that a module defines: functions, classes, constants, and methods as ``Class.method``."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_every_link_leads_to_a_file_and_a_name_in_it(links, repository):
    broken = []
    for text, target in links:
        path = (repository / "docs" / target).resolve()
        file, _, name = text.partition(":")
        if not path.is_file() or not path.as_posix().endswith(f"/{file}"):
            broken.append(f"{text} -> {target}: no such file")
        elif name and name not in names_in(path):
            broken.append(f"{text}: {file} has no {name}")
    assert not broken, "\n".join(broken)


def test_follower_knows_a_broken_link(repository):
    names = names_in(repository / "magicmirror" / "models" / "block.py")
    assert {"BlockAdapter", "BlockAdapter.reset", "MagicMirrorBlock._forward_adapted"} <= names
    assert "MagicMirrorBlock.reset" not in names


@pytest.mark.parametrize("equation", range(3, 9))
def test_every_equation_has_code_and_a_test(page, equation):
    rows = [line for line in page.splitlines() if line.startswith(f"| Eq. {equation} |")]
    assert len(rows) == 1
    assert "../magicmirror/" in rows[0] and "../tests/" in rows[0]


def test_every_decision_is_told_and_says_where_it_lives(page):
    decisions = page.split("## Decisions where the paper is silent")[1].split("\n**D")[1:]
    assert [int(re.match(r"\d+", text).group()) for text in decisions] == list(range(1, len(decisions) + 1))
    assert len(decisions) >= 8
    for text in decisions:
        assert "../magicmirror/" in text, text
    mentioned = {int(number) for number in re.findall(r"\*\*D(\d+)", page)}
    assert mentioned == set(range(1, len(decisions) + 1))
