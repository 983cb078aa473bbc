import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from magicmirror.errors import ConfigError
from magicmirror.evaluation.benchmark import read_row, run_row, strip_path
from magicmirror.evaluation.cases import make_cases, suite_prompts
from magicmirror.evaluation.identity_pictures import ALTERATIONS
from magicmirror.evaluation.portraits import find_portraits, load_subjects
from magicmirror.evaluation.sources import animated_clips, generated_videos
from magicmirror.media import load_image, write_image
from magicmirror.pipeline.profiles import find_profile
from magicmirror.settings import Settings
from magicmirror.types import GeneratedVideo, VideoShape

SHAPE = VideoShape(num_frames=5, height_px=128, width_px=128, fps=8)


@pytest.fixture(scope="module")
def subjects(examples, face_analyzer):
    return load_subjects(find_portraits(examples, everyone=True), 2, face_analyzer)


@pytest.fixture(scope="module")
def cases(subjects):
    return make_cases(subjects, suite_prompts("obedience")[1:3], (0,))


@pytest.fixture(scope="module")
def data_row(subjects, cases, face_analyzer, tmp_path_factory):
    """A finished row of animated clips."""
    output = tmp_path_factory.mktemp("row")
    told = []
    run_row(
        cases,
        animated_clips(SHAPE),
        face_analyzer,
        output,
        settings={"suite": "test"},
        on_video=lambda *progress: told.append(progress),
    )
    assert told == [(index + 1, 4, case.name) for index, case in enumerate(cases)]
    return output


def test_every_case_is_measured_from_its_saved_video(data_row, cases):
    settings, records, people = read_row(data_row)
    assert settings["suite"] == "test"
    assert [record["name"] for record in records] == [case.name for case in cases]
    assert list(people) == [case.subject.name for case in cases[:2]]
    for record, case in zip(records, cases, strict=True):
        assert (data_row / "videos" / f"{case.name}.mp4").is_file()
        assert load_image(strip_path(data_row, case.name)).shape == (128, 4 * 128, 3)
        assert record["frames"] == record["frames_with_face"] == 5
        assert record["face_recognised"] is record["same_person"] is True
        assert record["own_distance"] < 0.4
        assert record["motions"] == [case.prompt]
        assert record["motion_verdicts"][0]["word"] == case.prompt
        assert record["style_verdicts"] == []
        assert len(record["embedding"]) == 128
    captions = json.loads((data_row / "captions.json").read_text())
    assert captions[f"videos/{cases[0].name}.mp4"] == cases[0].clip.caption


def test_people_have_altered_references_and_other_pictures(data_row, subjects):
    _, _, people = read_row(data_row)
    for subject in subjects:
        person = people[subject.name]
        np.testing.assert_allclose(person.reference, subject.reference.embedding, atol=1e-6)
        assert set(person.altered) == set(ALTERATIONS)
        assert person.pictures.shape == (6, 128) and person.pictures_from == "rendered"
        for embedding in (*person.altered.values(), *person.pictures):
            assert 0.02 < np.linalg.norm(embedding - person.reference) < 0.6


def test_second_run_makes_and_measures_nothing(data_row, cases, face_analyzer):
    before = (data_row / "videos.jsonl").read_bytes()
    run_row(cases, lambda case: pytest.fail("made"), face_analyzer, data_row, settings={"suite": "test"})
    assert (data_row / "videos.jsonl").read_bytes() == before


def test_video_of_a_killed_run_is_measured_and_not_made_again(data_row, cases, face_analyzer, tmp_path):
    (tmp_path / "videos").mkdir()
    name = f"{cases[0].name}.mp4"
    (tmp_path / "videos" / name).write_bytes((data_row / "videos" / name).read_bytes())
    run_row(cases[:1], lambda case: pytest.fail("made"), face_analyzer, tmp_path, settings={"suite": "test"})
    assert read_row(tmp_path)[1] == read_row(data_row)[1][:1]


def test_other_settings_or_cases_are_refused(data_row, cases, face_analyzer):
    with pytest.raises(ConfigError, match="suite: 'test', now 'other'"):
        run_row(cases, animated_clips(SHAPE), face_analyzer, data_row, settings={"suite": "other"})
    with pytest.raises(ConfigError, match="cases_sha256"):
        run_row(cases[:2], animated_clips(SHAPE), face_analyzer, data_row, settings={"suite": "test"})
    with pytest.raises(ConfigError, match="at least one"):
        run_row((), animated_clips(SHAPE), face_analyzer, data_row, settings={})


def test_real_pictures_of_a_person_are_the_group(subjects, cases, face_analyzer, tmp_path):
    folder = tmp_path / "photos" / subjects[0].name
    folder.mkdir(parents=True)
    crop = subjects[0].reference.crop
    for index, crop_of in enumerate((crop, crop[:, ::-1], np.zeros_like(crop))):
        write_image(np.ascontiguousarray(crop_of), folder / f"{index}.png")
    run_row(
        cases[:1], animated_clips(SHAPE), face_analyzer, tmp_path / "row", settings={}, group_folder=tmp_path / "photos"
    )
    _, records, people = read_row(tmp_path / "row")
    person = people[subjects[0].name]
    assert person.pictures_from == "photos" and person.pictures.shape == (2, 128)
    assert records[0]["group_similarity"] == pytest.approx(
        float(person.pictures[0] @ person.pictures[1] / np.prod(np.linalg.norm(person.pictures, axis=1))), abs=1e-5
    )


def test_video_without_a_face_is_a_result(cases, face_analyzer, tmp_path):
    black = GeneratedVideo(np.zeros((5, 128, 128, 3), dtype=np.uint8), 8, {})
    run_row(cases[:1], lambda case: black, face_analyzer, tmp_path, settings={})
    record = read_row(tmp_path)[1][0]
    assert record["frames_with_face"] == 0
    assert record["embedding"] is record["own_distance"] is record["fm_inter"] is record["id_similarity"] is None
    assert record["same_person"] is record["face_recognised"] is False
    assert record["motion_verdicts"][0]["obeyed"] is False


def test_generated_source_asks_for_the_case(cases):
    asked = []
    profile = find_profile("preview", Settings())
    source = generated_videos(asked.append, profile, num_inference_steps=3)
    source(cases[1])
    assert asked[0].prompt == cases[1].clip.caption
    assert (asked[0].seed, asked[0].num_inference_steps) == (cases[1].seed, 3)
    assert asked[0].references == (cases[1].subject.reference,)


def test_damaged_files_are_named(data_row, tmp_path):
    assert read_row(tmp_path) is None
    (tmp_path / "videos.jsonl").write_bytes((data_row / "videos.jsonl").read_bytes())
    (tmp_path / "people.json").write_text("[{}]")
    with pytest.raises(ConfigError, match="damaged"):
        read_row(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from magicmirror.evaluation.benchmark import run_row
from magicmirror.evaluation.cases import make_cases, suite_prompts
from magicmirror.evaluation.portraits import find_portraits, load_subjects
from magicmirror.evaluation.sources import animated_clips
from magicmirror.faces.analyzer import create_face_analyzer
from magicmirror.types import VideoShape

analyzer = create_face_analyzer("dlib")
subjects = load_subjects(find_portraits(Path("assets/examples"), everyone=True), 2, analyzer)
cases = make_cases(subjects, suite_prompts("obedience")[1:3], (0,))
source = animated_clips(VideoShape(num_frames=5, height_px=128, width_px=128, fps=8))

def killing(case):
    if case is cases[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return source(case)

run_row(cases, killing, analyzer, Path(sys.argv[1]), settings={"suite": "test"})
"""


@pytest.mark.skipif(os.name != "posix", reason="kills a process with SIGKILL")
def test_killed_run_loses_the_video_at_work_and_no_other(repository, data_row, cases, face_analyzer, tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=repository, check=False)
    assert killed.returncode == -signal.SIGKILL
    # The line that was being written is torn; it does not count.
    with (tmp_path / "videos.jsonl").open("ab") as file:
        file.write(b'{"name": "torn')
    made = []
    source = animated_clips(SHAPE)

    def counted(case):
        made.append(case.name)
        return source(case)

    run_row(cases, counted, face_analyzer, tmp_path, settings={"suite": "test"})
    assert made == [case.name for case in cases[2:]]
    assert read_row(tmp_path)[1] == read_row(data_row)[1]
