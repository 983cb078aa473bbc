import json

import numpy as np
import pytest

from magicmirror.errors import ConfigError
from magicmirror.evaluation.benchmark import Person
from magicmirror.evaluation.benchmark_report import TABLE_1, TABLE_5, markdown, write_benchmark_report
from magicmirror.evaluation.figures import rank_among, row_figures
from magicmirror.evaluation.identity_pictures import ALTERATIONS
from magicmirror.media import load_image, write_image

FACES = np.eye(4, dtype=np.float32)


def person(index, altered_as=None):
    """A person at a corner; in the altered gallery perhaps at another one."""
    face = FACES[index]
    altered = dict.fromkeys(ALTERATIONS, FACES[index if altered_as is None else altered_as])
    return Person(f"p{index}", "man" if index < 2 else "woman", face, altered, None, "none")


def record(index, looks_like, **changes):
    """A video of person ``index`` that shows person ``looks_like``."""
    seen = looks_like is not None
    return {
        "name": f"p{index}--nod--0",
        "person": f"p{index}",
        "group": "man" if index < 2 else "woman",
        "prompt_name": "nod",
        "prompt": "a man nods",
        "motions": ["nod"],
        "style": "none",
        "seed": 0,
        "frames": 4,
        "frames_with_face": 4 if seen else 0,
        "face_recognised": seen,
        "same_person": looks_like == index,
        "dynamic": index % 2 == 0,
        "smoothness": 0.5,
        "id_similarity": 0.9 if seen else None,
        "fm_inter": 0.1 * index,
        "decay": None,
        "fm_ref": None,
        "own_distance": 0.4 if seen else None,
        "embedding": (FACES[looks_like] * 0.9).tolist() if seen else None,
        "motion_verdicts": [{"word": "nod", "effect": 1.0 if seen else None, "limit": 2.5, "obeyed": False}],
        "style_verdicts": [],
        **changes,
    }


@pytest.fixture
def people():
    return {f"p{index}": person(index) for index in range(4)}


def test_rank_and_distances():
    rank, distances = rank_among(np.float32([0.9, 0.1, 0, 0]), FACES, 1)
    assert rank == 2
    assert distances[0] == pytest.approx(np.hypot(0.1, 0.1))
    assert rank_among(FACES[3], FACES, 3)[0] == 1
    assert rank_among(np.zeros(4, dtype=np.float32), FACES, 0)[0] == 4  # ties count against the model


def test_means_shares_and_ranks(people):
    figures = row_figures([record(0, 0), record(1, 0), record(2, 2), record(3, None)], people)
    overall = figures.overall
    assert overall["videos"] == overall["people"] == 4
    assert overall["rank_1"] == pytest.approx(0.5)
    assert overall["rank_5"] == pytest.approx(0.75)
    assert overall["face_found"] == overall["face_recognised"] == pytest.approx(0.75)
    assert overall["same_person"] == overall["dynamic"] == pytest.approx(0.5)
    assert overall["id_similarity"] == pytest.approx(0.9)
    assert overall["fm_inter"] == pytest.approx(0.15)
    assert overall["decay"] is None and overall["text_score"] is None
    assert overall["motion_obeyed"] == overall["text_obeyed"] == 0
    assert figures.groups["man"]["rank_1"] == figures.groups["woman"]["rank_1"] == pytest.approx(0.5)
    assert figures.groups["woman"]["face_found"] == pytest.approx(0.5)
    # From the corner that is shown to each of the three others.
    assert overall["other_distance"] == pytest.approx(
        np.mean([np.sqrt(1 + 0.81), (2 * np.sqrt(1 + 0.81) + 0.1) / 3, np.sqrt(1 + 0.81)]), abs=1e-5
    )


def test_videos_are_also_searched_among_altered_references(people):
    altered = {name: person(index, altered_as=(index + 1) % 4) for index, name in enumerate(people)}
    figures = row_figures([record(0, 0), record(1, 1)], altered).overall
    assert figures["rank_1"] == 1.0
    assert all(figures[f"rank_1 ({name})"] == 0.0 for name in ALTERATIONS)
    same = row_figures([record(0, 0)], people).overall
    assert all(same[f"rank_1 ({name})"] == 1.0 for name in ALTERATIONS)


def test_words(people):
    def nod(effect):
        return [{"word": "nod", "effect": effect, "limit": 2.5, "obeyed": effect is not None and effect > 2.5}]

    unknown = [{"word": "flying", "effect": None, "limit": None, "obeyed": None}]
    records = [record(0, 0, motion_verdicts=nod(effect)) for effect in (3.0, 5.0, 1.0, -1.0, None)]
    records.append(record(0, 0, motion_verdicts=unknown))
    figures = row_figures(records, people)
    word = figures.words["motions"]["nod"]
    assert (word.videos, word.obeyed, word.right_sign, word.mean_effect) == (5, 0.4, 0.6, 2.0)
    flying = figures.words["motions"]["flying"]
    assert (flying.videos, flying.obeyed, flying.right_sign, flying.limit) == (1, None, None, None)
    # A video whose words cannot be judged is in no rate.
    assert figures.overall["motion_obeyed"] == pytest.approx(2 / 5)


def test_the_papers_rows_stand_beside_ours(people):
    figures = {"generated": row_figures([record(0, 0)], people), "data": row_figures([record(1, 1)], people)}
    text = markdown(figures, {"generated": {"seed": 3}, "data": {}})
    assert "|  | MagicMirror (paper) | ConsisID (paper) | generated | data | note |" in text
    assert "| average ID similarity | 0.922 | 0.913 | 0.900 | 0.900 |  |" in text
    assert "| FM_inter | 0.610 | 0.601 | 0.000 | 0.100 |  |" in text
    assert "| identity check | 81.0% |  | 100.0% | 100.0% |  |" in text
    assert "| nod | 2.5 | 1 | 0% | 100% | 1.000 | 1 | 0% | 100% | 1.000 |" in text
    assert "- generated, seed: 3" in text


def test_published_figures():
    published = {metric.key: metric.paper for metric in TABLE_1}
    assert published["dynamic"] == (0.705, 0.615) and published["decay"] == (0.002, 0.002)
    assert published["inception"] == (10.59, 11.09) and published["fm_ref"] == (0.730, 0.652)
    assert {metric.label: metric.paper[0] for metric in TABLE_5} == {
        "motion": 0.44,
        "text": 0.755,
        "face recognised": 0.98,
        "identity check": 0.81,
    }


def test_report_of_a_folder_is_made_from_its_logs(people, tmp_path):
    row = tmp_path / "generated"
    (row / "strips").mkdir(parents=True)
    records = [record(0, 0), record(1, None)]
    lines = [{"settings": {"suite": "paper"}}, *records]
    (row / "videos.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"name": "to')
    for each in records:
        write_image(np.zeros((16, 64, 3), dtype=np.uint8), row / "strips" / f"{each['name']}.png")
    stored = [
        {
            "name": each.name,
            "group": each.group,
            "reference": each.reference.tolist(),
            "pictures": None,
            "altered": {k: v.tolist() for k, v in each.altered.items()},
            "pictures_from": "none",
        }
        for each in people.values()
    ]
    (row / "people.json").write_text(json.dumps(stored))
    json_path, markdown_path, sheets = write_benchmark_report(tmp_path)
    data = json.loads(json_path.read_text())
    assert data["rows"]["generated"]["overall"]["rank_1"] == 0.5
    assert data["rows"]["generated"]["settings"] == {"suite": "paper"}
    assert data["paper"]["FM_ref"] == [0.73, 0.652]
    assert "![generated](generated.png)" in markdown_path.read_text()
    assert load_image(sheets[0]).shape[1] > 2 * 64


def test_nothing_to_report_is_said(tmp_path):
    with pytest.raises(ConfigError, match="no finished videos"):
        write_benchmark_report(tmp_path)
