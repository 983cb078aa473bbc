import numpy as np
import pytest

from magicmirror.evaluation.identity_pictures import altered_references, group_embeddings, rendered_views
from magicmirror.evaluation.portraits import Portrait, Subject


@pytest.fixture(scope="module")
def subjects(examples, example_references):
    return [
        Subject(Portrait(examples / f"{name}.jpg", "person"), example_references[name]) for name in ("man_1", "woman_1")
    ]


def test_rendered_views_are_other_pictures_of_the_person_and_always_the_same(subjects):
    first = rendered_views(subjects[0], 3)
    assert first.shape == (3, 128, 128, 3)
    np.testing.assert_array_equal(first, rendered_views(subjects[0], 3))
    assert all(np.abs(view.astype(int) - subjects[0].reference.crop).mean() > 3 for view in first)
    assert np.abs(first[0].astype(int) - first[1]).mean() > 3


def test_groups_identify_their_person(subjects, face_analyzer):
    groups = [group_embeddings(subject, face_analyzer)[0] for subject in subjects]
    for index, subject in enumerate(subjects):
        own = np.linalg.norm(groups[index] - subject.reference.embedding, axis=1)
        other = np.linalg.norm(groups[1 - index] - subject.reference.embedding, axis=1)
        assert own.max() < 0.5 < 0.6 < other.min()


def test_alterations_are_what_they_are_called(subjects):
    crop = subjects[0].reference.crop
    mirrored, lit, dark = altered_references(subjects[0]).astype(float)
    np.testing.assert_array_equal(mirrored[:, ::-1], crop)
    assert (lit[:, :16].mean() / crop[:, :16].mean()) > 1.05
    assert (lit[:, -16:].mean() / crop[:, -16:].mean()) < 0.65
    assert dark.mean() / crop.mean() == pytest.approx(0.55, abs=0.02)


def test_a_person_without_a_folder_of_photos_gets_rendered_ones(subjects, face_analyzer, tmp_path):
    embeddings, origin = group_embeddings(subjects[0], face_analyzer, tmp_path)
    assert origin == "rendered" and embeddings.shape == (6, 128)
    (tmp_path / "man_1").mkdir()
    assert group_embeddings(subjects[0], face_analyzer, tmp_path)[1] == "rendered"
