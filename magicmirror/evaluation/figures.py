"""From the log of a row to the figures of the report: means, rates, ranks; over all, by group, by word."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from magicmirror.evaluation.benchmark import Person
from magicmirror.evaluation.identity_pictures import ALTERATIONS
from magicmirror.evaluation.obedience import all_obeyed
from magicmirror.types import Float32Array

Record = dict[str, Any]
Figures = dict[str, float | None]

AVERAGED = (
    *("smoothness", "id_similarity", "group_similarity", "id_gap", "decay", "fm_ref", "fm_inter", "likeness"),
    *("own_distance", "other_distance", "top_flow_px", "flicker", "sharpness", "text_score"),
)
SHARES = ("dynamic", "face_recognised", "same_person", "motion_obeyed", "text_obeyed")


@dataclass(frozen=True)
class WordFigures:
    """How a motion word or a style word fared.

    Args:
        videos: That asked for it and could be judged.
        obeyed: Share in which the effect has the asked sign and is larger than noise.
        right_sign: Share in which the effect has the asked sign, however small.
        mean_effect: In the unit of the word's limit; ``None`` when it was never measured.
        limit: Least effect that counts; ``None`` for a word without a measure.
    """

    videos: int
    obeyed: float | None
    right_sign: float | None
    mean_effect: float | None
    limit: float | None


@dataclass(frozen=True)
class RowFigures:
    """All figures of one row.

    Args:
        overall: Name -> mean or share.
        groups: Group -> the same.
        words: ``motions`` and ``styles``: word -> figures.
    """

    overall: Figures
    groups: dict[str, Figures]
    words: dict[str, dict[str, WordFigures]]


def row_figures(records: Sequence[Record], people: Mapping[str, Person]) -> RowFigures:
    """Compute everything that the report shows of a row.

    Args:
        records: Of the log, at least one.
        people: All test persons by name: whom the faces are searched among.
    """
    ranked = [{**record, **_ranks(record, people), **_successes(record)} for record in records]
    groups = sorted({record["group"] for record in ranked})
    return RowFigures(
        summarize_videos(ranked),
        {group: summarize_videos([r for r in ranked if r["group"] == group]) for group in groups},
        {"motions": _words(ranked, "motion_verdicts"), "styles": _words(ranked, "style_verdicts")},
    )


def summarize_videos(records: Sequence[Record]) -> Figures:
    """Average the figures of some videos.

    Means are over the videos in which a figure could be measured; shares and ranks count a video without a face
    as failed.
    """
    figures: Figures = {
        "videos": float(len(records)),
        "people": float(len({record["person"] for record in records})),
        "face_found": _ratio(sum(r["frames_with_face"] for r in records), sum(r["frames"] for r in records)),
    }
    for name in AVERAGED:
        figures[name] = _mean(record.get(name) for record in records)
    for name in SHARES:
        figures[name] = _mean(record.get(name) for record in records)
    for gallery in ("", *ALTERATIONS):
        ranks = [record["ranks"][gallery] for record in records]
        suffix = f" ({gallery})" if gallery else ""
        for place in (1, 5):
            figures[f"rank_{place}{suffix}"] = _mean(rank is not None and rank <= place for rank in ranks)
    return figures


def rank_among(video: Float32Array, gallery: Float32Array, own: int) -> tuple[int, Float32Array]:
    """Rank the own picture among all by Euclidean distance.

    Args:
        video: (E,) embedding.
        gallery: (N, E) embeddings of one picture a person.
        own: Row of the own picture.

    Returns:
        Its place, 1 is best; another picture at the very same distance counts as nearer. And the (N,) distances.
    """
    distances = np.linalg.norm(gallery.astype(np.float64) - video, axis=1)
    return int((distances <= distances[own]).sum()), distances.astype(np.float32)


def _ranks(record: Record, people: Mapping[str, Person]) -> Record:
    """Rank the own portrait among all, and each altered one among those altered alike."""
    galleries = {"": np.stack([person.reference for person in people.values()])}
    galleries |= {name: np.stack([person.altered[name] for person in people.values()]) for name in ALTERATIONS}
    if record["embedding"] is None:
        return {"ranks": dict.fromkeys(galleries), "other_distance": None}
    video = np.array(record["embedding"], dtype=np.float32)
    own = list(people).index(record["person"])
    ranked = {name: rank_among(video, gallery, own) for name, gallery in galleries.items()}
    distances = ranked[""][1]
    other = float((distances.sum() - distances[own]) / (len(people) - 1)) if len(people) > 1 else None
    return {"ranks": {name: rank for name, (rank, _) in ranked.items()}, "other_distance": other}


def _successes(record: Record) -> Record:
    """Success of motion and of the whole text; ``None`` where nothing was asked that can be judged."""
    both = [*record["motion_verdicts"], *record["style_verdicts"]]
    return {"motion_obeyed": all_obeyed(record["motion_verdicts"]), "text_obeyed": all_obeyed(both)}


def _words(records: Sequence[Record], field: str) -> dict[str, WordFigures]:
    by_word: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        for verdict in record[field]:
            by_word[verdict["word"]].append(verdict)
    return {word: _word_figures(verdicts) for word, verdicts in by_word.items()}


def _word_figures(verdicts: Sequence[Record]) -> WordFigures:
    limit = verdicts[0]["limit"]
    effects = [verdict["effect"] for verdict in verdicts]
    known = limit is not None
    return WordFigures(
        len(verdicts),
        _mean(verdict["obeyed"] for verdict in verdicts),
        _mean(effect is not None and effect > 0 for effect in effects) if known else None,
        _mean(effects),
        limit,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
