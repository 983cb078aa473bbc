"""The identification test as files: JSON for programs, Markdown and a contact sheet for people."""

from __future__ import annotations

import json
import math
from pathlib import Path

from magicmirror.evaluation.contact_sheet import SheetEntry, write_contact_sheet
from magicmirror.evaluation.figures import Figures
from magicmirror.evaluation.identification import IdentificationResult, PersonResult, Summary, strip_path
from magicmirror.evaluation.targets import identity_targets, target_lines

JSON_FILE = "identification.json"
MARKDOWN_FILE = "identification.md"
SHEET_FILE = "contact_sheet.png"

FOUND, NEAR, MISSED = (0, 120, 60), (170, 110, 0), (180, 30, 30)


def write_report(result: IdentificationResult, output: Path) -> tuple[Path, Path, Path]:
    """Write all three files, in place of earlier ones.

    Args:
        result: Of ``run_identification`` with the same ``output``.
        output: Folder.

    Returns:
        Paths of the JSON file, the Markdown file and the contact sheet.
    """
    json_path, markdown_path = output / JSON_FILE, output / MARKDOWN_FILE
    json_path.write_text(json.dumps(result.to_json(), indent=2) + "\n", encoding="utf-8")
    markdown_path.write_text(markdown(result), encoding="utf-8")
    entries = [_sheet_entry(person, output) for person in result.people]
    return json_path, markdown_path, write_contact_sheet(entries, output / SHEET_FILE)


def markdown(result: IdentificationResult) -> str:
    """Return the report as Markdown."""
    overall, count = result.overall, len(result.people)
    lines = [
        "# Identification by face",
        "",
        f"One video of each of {count} people, made from one portrait; all {count} portraits ranked by the distance of",
        "their face embeddings to the video's. In brackets: 95 % confidence interval.",
        "",
        "| figure | value | chance |",
        "|---|---|---|",
        f"| rank-1 | {_share(overall.rank_1, count)} | {result.chance(1):.1%} |",
        f"| rank-5 | {_share(overall.rank_5, count)} | {result.chance(5):.1%} |",
        f"| mean distance to the own portrait | {_distance(overall.mean_own_distance)} | |",
        f"| mean distance to other portraits | {_distance(overall.mean_other_distance)} | |",
        f"| frames with a face | {overall.face_found:.1%} | |",
        "",
        *target_lines(
            identity_targets(_figures(overall), {name: _figures(each) for name, each in result.groups.items()})
        ),
        "## By group",
        "",
        "| group | people | rank-1 | rank-5 | own distance | other distance | frames with a face |",
        "|---|---|---|---|---|---|---|",
        *(_group_row(group, summary) for group, summary in result.groups.items()),
        "",
        "## Settings",
        "",
        *(f"- {key}: {value}" for key, value in result.settings.items()),
        "",
        f"![Reference, first, middle and last frame of each person]({SHEET_FILE})",
        "",
    ]
    return "\n".join(lines)


def confidence_interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share that was seen in ``count`` cases."""
    z = 1.96
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    spread = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return max(0.0, centre - spread), min(1.0, centre + spread)


def _figures(summary: Summary) -> Figures:
    """Under the names that the targets know."""
    return {
        "face_found": summary.face_found,
        "rank_1": summary.rank_1,
        "rank_5": summary.rank_5,
        "own_distance": summary.mean_own_distance,
        "other_distance": summary.mean_other_distance,
    }


def _share(share: float, count: int) -> str:
    low, high = confidence_interval(share, count)
    return f"{share:.1%} ({low:.0%} to {high:.0%})"


def _distance(value: float | None) -> str:
    return "no face" if value is None else f"{value:.3f}"


def _group_row(group: str, summary: Summary) -> str:
    cells = (
        group,
        str(summary.people),
        f"{summary.rank_1:.0%}",
        f"{summary.rank_5:.0%}",
        _distance(summary.mean_own_distance),
        _distance(summary.mean_other_distance),
        f"{summary.face_found:.0%}",
    )
    return f"| {' | '.join(cells)} |"


def _sheet_entry(person: PersonResult, output: Path) -> SheetEntry:
    """Label a strip with name, rank and distance."""
    if person.rank is None:
        return SheetEntry(strip_path(output, person.name), f"{person.name}: no face found", MISSED)
    colour = FOUND if person.rank == 1 else NEAR if person.rank <= 5 else MISSED
    label = f"{person.name}: rank {person.rank}, distance {_distance(person.own_distance)}"
    return SheetEntry(strip_path(output, person.name), label, colour)
