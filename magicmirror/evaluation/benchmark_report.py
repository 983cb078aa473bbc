"""A benchmark as files: JSON for programs, Markdown and contact sheets for people. Made from the logs alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from magicmirror.errors import ConfigError
from magicmirror.evaluation.benchmark import read_row, strip_path
from magicmirror.evaluation.contact_sheet import Colour, SheetEntry, write_contact_sheet
from magicmirror.evaluation.figures import RowFigures, WordFigures, row_figures
from magicmirror.evaluation.identity_pictures import ALTERATIONS
from magicmirror.evaluation.obedience import all_obeyed
from magicmirror.evaluation.targets import benchmark_targets, target_lines
from magicmirror.media import complete_file

ROWS = ("generated", "data", "reconstructed", "clips")
JSON_FILE = "benchmark.json"
MARKDOWN_FILE = "benchmark.md"
SHEET_FILE = "{row}.png"
SHEET_STRIPS = 48
OBEYED, UNKNOWN, MISSED = (0, 120, 60), (90, 90, 90), (180, 30, 30)


@dataclass(frozen=True)
class Metric:
    """A line of a table.

    Args:
        key: Of ``figures.Figures``.
        label: As readers see it.
        paper: Published figures of MagicMirror and of ConsisID; ``None`` where there is none.
        form: How a value is printed.
        note: What to bear in mind; empty when there is nothing.
    """

    key: str
    label: str
    paper: tuple[float | None, float | None] = (None, None)
    form: str = ".3f"
    note: str = ""


TABLE_1 = (
    Metric("dynamic", "dynamic degree", (0.705, 0.615), note="DIS flow here, RAFT in the paper"),
    Metric("text_obeyed", "text", (0.240, 0.236), note="share of obeyed captions here, VBench in the paper"),
    Metric("inception", "Inception Score", (10.59, 11.09), ".2f", "not measured here"),
    Metric("smoothness", "smoothness by cross-frame flow", (0.484, 0.513), note="own formula here"),
    Metric("id_similarity", "average ID similarity", (0.922, 0.913)),
    Metric("decay", "similarity decay", (0.002, 0.002), ".4f"),
    Metric("fm_ref", "FM_ref", (0.730, 0.652)),
    Metric("fm_inter", "FM_inter", (0.610, 0.601)),
)
"""Table 1 of the paper."""

TABLE_5 = (
    Metric("motion_obeyed", "motion", (0.440, None), ".1%"),
    Metric("text_obeyed", "text", (0.755, None), ".1%"),
    Metric("face_recognised", "face recognised", (0.980, None), ".1%"),
    Metric("same_person", "identity check", (0.810, None), ".1%"),
)
"""Table 5: success rates over 200 videos."""

FURTHER = (
    Metric("videos", "videos", form=".0f"),
    Metric("people", "people", form=".0f"),
    Metric("face_found", "frames with a face", form=".1%"),
    Metric("rank_1", "rank-1", form=".1%"),
    Metric("rank_5", "rank-5", form=".1%"),
    *(Metric(f"rank_1 ({name})", f"rank-1 against references that are {name}", form=".1%") for name in ALTERATIONS),
    Metric("own_distance", "distance to the own reference"),
    Metric("other_distance", "distance to the references of others"),
    Metric("likeness", "likeness to the reference"),
    Metric("group_similarity", "similarity within the group of pictures"),
    Metric("id_gap", "gap to it"),
    Metric("top_flow_px", "flow of the top 5 % of pixels, px", form=".2f"),
    Metric("flicker", "flicker, grey levels", form=".2f"),
    Metric("sharpness", "sharpness, variance of the Laplacian", form=".0f"),
    Metric("text_score", "CLIP score"),
)
GROUP_COLUMNS = ("videos", "face_found", "rank_1", "rank_5", "own_distance", "id_similarity", "text_obeyed", "fm_inter")


def write_benchmark_report(output: Path) -> tuple[Path, Path, tuple[Path, ...]]:
    """Write the report of all rows that a folder has, in place of an earlier one.

    Args:
        output: Folder with a folder for each row.

    Returns:
        Paths of the JSON file, the Markdown file and the contact sheets.

    Raises:
        ConfigError: When no video was finished there.
    """
    found = {row: content for row in ROWS if (content := read_row(output / row)) is not None}
    if not found:
        raise ConfigError(f'There are no finished videos in "{output}".', "Run the evaluation first.")
    figures = {row: row_figures(records, people) for row, (_, records, people) in found.items()}
    settings = {row: content[0] for row, content in found.items()}
    origins = {
        row: sorted({person.pictures_from for person in people.values()}) for row, (_, _, people) in found.items()
    }
    data = {
        "paper": {metric.label: metric.paper for metric in (*TABLE_1, *TABLE_5)},
        "rows": {
            row: {**asdict(figures[row]), "settings": settings[row], "group_pictures": origins[row]} for row in found
        },
    }
    sheets = tuple(_write_sheet(output, row, found[row][1]) for row in found)
    json_path, markdown_path = output / JSON_FILE, output / MARKDOWN_FILE
    texts = {json_path: json.dumps(data, indent=2) + "\n", markdown_path: markdown(figures, settings, sheets)}
    for path, text in texts.items():
        with complete_file(path, ConfigError) as partial:
            partial.write_text(text, encoding="utf-8")
    return json_path, markdown_path, sheets


def markdown(
    figures: Mapping[str, RowFigures], settings: Mapping[str, dict[str, Any]], sheets: Sequence[Path] = ()
) -> str:
    """Return the report as Markdown.

    Args:
        figures: Row -> its figures.
        settings: Row -> what its videos depend on.
        sheets: Contact sheets to show.
    """
    parts = [
        "# Benchmark",
        "",
        "`data` is the animation of the same portraits with the same captions: what a perfect model of this kind would",
        "score. `reconstructed` is that through the model's VAE and back: what no denoiser on its latents can pass.",
        "`clips` is real footage. Definitions are in `docs/evaluation.md`.",
        "",
        *target_lines(benchmark_targets(figures)),
        *_section("Table 1 of the paper", TABLE_1, figures, with_paper=True),
        *_section("Success rates (Table 5)", TABLE_5, figures, with_paper=True),
        *_section("Further figures", FURTHER, figures),
        *_groups(figures),
        *_words("motion word", {row: each.words["motions"] for row, each in figures.items()}),
        *_words("style word", {row: each.words["styles"] for row, each in figures.items()}),
        "## Settings",
        "",
        *(f"- {row}, {key}: {value}" for row, facts in settings.items() for key, value in facts.items()),
        "",
        *(f"![{sheet.stem}]({sheet.name})" for sheet in sheets),
        "",
    ]
    return "\n".join(parts)


def _section(
    title: str, metrics: Sequence[Metric], figures: Mapping[str, RowFigures], with_paper: bool = False
) -> list[str]:
    published = ["MagicMirror (paper)", "ConsisID (paper)"] if with_paper else []
    lines = [f"## {title}", "", *_header(["", *published, *figures, *(["note"] if with_paper else [])])]
    for metric in metrics:
        values = [*(metric.paper if with_paper else ()), *(each.overall.get(metric.key) for each in figures.values())]
        if with_paper or any(value is not None for value in values):
            cells = [metric.label, *(_print(value, metric.form) for value in values)]
            lines.append(_line([*cells, *([metric.note] if with_paper else [])]))
    return [*lines, ""]


def _groups(figures: Mapping[str, RowFigures]) -> list[str]:
    forms = {metric.key: metric for metric in (*TABLE_1, *FURTHER, *TABLE_5)}
    lines = ["## By group", "", *_header(["row", "group", *(forms[key].label for key in GROUP_COLUMNS)])]
    for row, each in figures.items():
        for group, values in each.groups.items():
            lines.append(_line([row, group, *(_print(values.get(key), forms[key].form) for key in GROUP_COLUMNS)]))
    return [*lines, ""]


def _words(kind: str, words: Mapping[str, Mapping[str, WordFigures]]) -> list[str]:
    """A table with a line a word and three columns a row: obeyed, sign, effect."""
    names = sorted({word for by_word in words.values() for word in by_word})
    if not names:
        return []
    columns = [f"{row}: {column}" for row in words for column in ("videos", "obeyed", "right sign", "effect")]
    lines = [f"## By {kind}", "", *_header([kind, "limit", *columns])]
    for name in names:
        figures = [by_word.get(name) for by_word in words.values()]
        limit = next(each.limit for each in figures if each is not None)
        cells = [name, "not measured" if limit is None else f"{limit:g}"]
        for each in figures:
            cells += ["", "", "", ""] if each is None else _word_cells(each)
        lines.append(_line(cells))
    return [*lines, ""]


def _word_cells(figures: WordFigures) -> list[str]:
    shares = [_print(figures.obeyed, ".0%"), _print(figures.right_sign, ".0%")]
    return [str(figures.videos), *shares, _print(figures.mean_effect, ".3f")]


def _write_sheet(output: Path, row: str, records: Sequence[dict[str, Any]]) -> Path:
    """Show the first videos of a row; green where everything asked was done."""
    entries = []
    for record in records[:SHEET_STRIPS]:
        obeyed = all_obeyed([*record["motion_verdicts"], *record["style_verdicts"]])
        colour: Colour = UNKNOWN if obeyed is None else OBEYED if obeyed else MISSED
        asked = " ".join([*record["motions"], *([] if record["style"] == "none" else [record["style"]])])
        distance = "no face" if record["own_distance"] is None else f"{record['own_distance']:.2f}"
        label = f"{record['person'][:20]}: {asked or record['prompt_name']}, {distance}"
        entries.append(SheetEntry(strip_path(output / row, record["name"]), label, colour))
    return write_contact_sheet(entries, output / SHEET_FILE.format(row=row))


def _print(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _header(cells: Sequence[str]) -> list[str]:
    return [_line(cells), "|" + "---|" * len(cells)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
