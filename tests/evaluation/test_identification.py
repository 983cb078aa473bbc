import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from magicmirror.errors import ConfigError
from magicmirror.evaluation.identification import rank_people, run_identification, strip_path
from magicmirror.evaluation.identification_report import confidence_interval, markdown, write_report
from magicmirror.evaluation.portraits import find_portraits, load_subjects
from magicmirror.faces.dlib_analyzer import DlibFaceAnalyzer
from magicmirror.media import load_image


@pytest.fixture(scope="module")
def subjects(examples, face_analyzer):
    subjects = load_subjects(find_portraits(examples, everyone=True), 6, face_analyzer)
    assert len(subjects) == 6
    return subjects


def copies(crop, frames=3):
    return np.repeat(crop[None], frames, axis=0)


def test_perfect_copy_is_always_found(subjects, face_analyzer, tmp_path):
    result = run_identification(
        subjects, lambda subject, seed: copies(subject.reference.crop), face_analyzer, tmp_path, frames_per_video=2
    )
    assert result.overall.rank_1 == result.overall.rank_5 == 1.0
    assert result.overall.face_found == 1.0
    assert result.overall.mean_own_distance < 0.3 < 0.6 < result.overall.mean_other_distance
    assert [person.seed for person in result.people] == list(range(6))
    assert sum(group.people for group in result.groups.values()) == 6


def test_exchanged_people_are_never_found(subjects, face_analyzer, tmp_path):
    following = {subjects[index - 1].name: subjects[index] for index in range(len(subjects))}
    result = run_identification(
        subjects,
        lambda subject, seed: copies(following[subject.name].reference.crop, 1),
        face_analyzer,
        tmp_path,
        frames_per_video=1,
    )
    assert result.overall.rank_1 == 0.0
    assert result.overall.mean_own_distance > 0.6


def test_videos_without_faces_count_as_missed(subjects, face_analyzer, tmp_path):
    def generate(subject, seed):
        frames = copies(subject.reference.crop)
        frames[1:] = 128
        return np.zeros_like(frames) if subject is subjects[0] else frames

    result = run_identification(subjects, generate, face_analyzer, tmp_path, frames_per_video=3)
    first, *others = result.people
    assert first.rank is first.own_distance is first.other_distance is None
    assert all(person.rank == 1 and person.frames_with_face == 1 for person in others)
    assert result.overall.rank_1 == pytest.approx(5 / 6)
    assert result.overall.face_found == pytest.approx(5 / 18)
    assert "no face" in markdown(run_identification(subjects[:2], generate, face_analyzer, tmp_path / "two"))


def test_random_people_are_found_as_often_as_chance():
    generator = np.random.default_rng(0)
    references, videos = generator.normal(size=(2, 400, 16)).astype(np.float32)
    distances, ranks = rank_people(videos, references)
    assert np.mean(ranks <= 5) == pytest.approx(5 / 400, abs=0.01)
    assert np.mean(ranks <= 200) == pytest.approx(0.5, abs=0.08)
    assert distances[3, 7] == pytest.approx(np.linalg.norm(videos[3] - references[7]))
    assert (rank_people(references, references)[1] == 1).all()


def test_ties_are_counted_against_the_model():
    same = np.ones((4, 8), dtype=np.float32)
    assert rank_people(same, same)[1].tolist() == [4, 4, 4, 4]


def test_frames_are_spread_over_the_whole_video(subjects, tmp_path):
    class Recorder(DlibFaceAnalyzer):
        def __init__(self):
            super().__init__()
            self.seen = []

        def embed_frames(self, frames):
            self.seen += [int(frame[0, 0, 0]) for frame in frames]
            return (None,) * len(frames)

    recorder = Recorder()
    frames = np.repeat(np.arange(17, dtype=np.uint8), 3 * 64).reshape(17, 8, 8, 3)
    result = run_identification(subjects[:2], lambda subject, seed: frames, recorder, tmp_path, frames_per_video=5)
    assert recorder.seen == [0, 4, 8, 12, 16] * 2
    assert result.overall.mean_own_distance is None
    short = run_identification(subjects[:2], lambda subject, seed: frames[:2], recorder, tmp_path / "short")
    assert short.people[0].frames == 2


def test_report_files(subjects, face_analyzer, tmp_path):
    result = run_identification(
        subjects,
        lambda subject, seed: copies(subject.reference.crop),
        face_analyzer,
        tmp_path,
        frames_per_video=1,
        settings={"steps": 7},
    )
    json_path, markdown_path, sheet_path = write_report(result, tmp_path)
    data = json.loads(json_path.read_text())
    assert data["overall"]["rank_1"] == 1.0
    assert data["chance"] == {"rank_1": pytest.approx(1 / 6), "rank_5": pytest.approx(5 / 6)}
    assert data["settings"]["steps"] == 7
    assert [person["name"] for person in data["people"]] == [subject.name for subject in subjects]
    text = markdown_path.read_text()
    assert "| rank-1 | 100.0% (61% to 100%) | 16.7% |" in text
    assert "- steps: 7" in text
    sheet = load_image(sheet_path)
    strip = load_image(strip_path(tmp_path, subjects[0].name))
    assert strip.shape == (128, 4 * 128, 3)
    np.testing.assert_array_equal(strip[:, :128], subjects[0].reference.crop)
    np.testing.assert_array_equal(sheet[22:150, 6 : 6 + 512], strip)


@pytest.mark.parametrize(
    ("share", "count", "low", "high"), [(0.3, 50, 0.1910, 0.4375), (0.0, 50, 0.0, 0.0713), (1.0, 10, 0.7225, 1.0)]
)
def test_confidence_interval_is_wilsons(share, count, low, high):
    assert confidence_interval(share, count) == (pytest.approx(low, abs=2e-4), pytest.approx(high, abs=2e-4))


KILLED = """
import os, signal, sys
import numpy as np
from pathlib import Path
from magicmirror.evaluation.identification import run_identification
from magicmirror.evaluation.portraits import find_portraits, load_subjects
from magicmirror.faces.dlib_analyzer import DlibFaceAnalyzer

def generate(subject, seed):
    if seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.repeat(subject.reference.crop[None], 3, axis=0)

analyzer = DlibFaceAnalyzer()
subjects = load_subjects(find_portraits(Path("assets/examples"), everyone=True), 6, analyzer)
run_identification(subjects, generate, analyzer, Path(sys.argv[1]), frames_per_video=1)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills a process with SIGKILL")
def test_killed_run_continues_where_it_stopped(repository, subjects, face_analyzer, tmp_path):
    output = tmp_path / "run"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(output)], cwd=repository, check=False)
    assert killed.returncode == -signal.SIGKILL
    calls, progress = [], []

    def generate(subject, seed):
        calls.append((subject.name, seed))
        return copies(subject.reference.crop)

    def run(folder, **options):
        return run_identification(subjects, generate, face_analyzer, folder, frames_per_video=1, **options)

    result = run(output, on_person=lambda *told: progress.append(told))
    assert calls == [(subjects[index].name, index) for index in (3, 4, 5)]
    assert progress == [(index + 1, 6, subjects[index].name) for index in (3, 4, 5)]
    assert result == run(tmp_path / "uninterrupted")
    calls.clear()
    assert run(output) == result
    assert calls == []
    with pytest.raises(ConfigError, match="seed: 0, now 1"):
        run(output, seed=1)


def test_unusable_arguments_are_refused(subjects, face_analyzer, tmp_path):
    with pytest.raises(ConfigError, match="2 people"):
        run_identification(subjects[:1], lambda subject, seed: None, face_analyzer, tmp_path)
    with pytest.raises(ConfigError, match="uint8"):
        run_identification(subjects, lambda subject, seed: np.zeros((3, 8, 8, 3)), face_analyzer, tmp_path)
