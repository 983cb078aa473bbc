"""The shipped weights keep a face: a video looks like its own reference, and not like anybody else's."""

from dataclasses import dataclass

import numpy as np
import pytest

from magicmirror.faces.similarity import person_distance, same_person_limit
from magicmirror.media import read_video, write_video
from magicmirror.pipeline.loading import generate, load_pipeline
from magicmirror.pipeline.profiles import find_profile
from magicmirror.settings import Settings
from magicmirror.types import GenerationRequest

PEOPLE = {"man_1": "man", "woman_2": "woman"}
"""None of them was in the training set (assets/examples/LICENSE.md)."""


@dataclass
class Shown:
    """What was found in the file of a video."""

    faces: int
    frames: int
    embedding: np.ndarray


@pytest.fixture(scope="module")
def shown(example_references, face_analyzer, tmp_path_factory):
    """One video of each person, read back from its mp4."""
    profile = find_profile("preview", Settings())
    pipeline = load_pipeline(profile, "cpu")
    found = {}
    for name, word in PEOPLE.items():
        request = GenerationRequest(
            f"a {word} looks at the camera", (example_references[name],), seed=7, profile="preview"
        )
        path = tmp_path_factory.mktemp("shipped") / f"{name}.mp4"
        write_video(generate(pipeline, profile, request), path)
        frames = read_video(path)[0][::4]
        embeddings = [each for each in face_analyzer.embed_frames(frames) if each is not None]
        found[name] = Shown(len(embeddings), len(frames), np.mean(embeddings, axis=0))
    return found


@pytest.mark.parametrize("name", PEOPLE)
def test_a_video_shows_its_own_person_and_no_other(example_references, shown, name):
    video = shown[name]
    assert video.faces == video.frames == 5
    distances = {other: person_distance(video.embedding, face.embedding) for other, face in example_references.items()}
    own = distances.pop(name)
    assert own < same_person_limit(len(video.embedding))
    assert own == min(own, *distances.values())
    assert np.mean(list(distances.values())) - own > 0.15


def test_videos_of_two_people_are_further_apart_than_each_from_its_reference(example_references, shown):
    apart = person_distance(*(video.embedding for video in shown.values()))
    assert all(apart > person_distance(shown[name].embedding, example_references[name].embedding) for name in PEOPLE)
