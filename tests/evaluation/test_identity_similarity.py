import numpy as np
import pytest

from magicmirror.errors import ConfigError
from magicmirror.evaluation.identity_similarity import group_similarity


def at(*degrees):
    """Unit vectors in a plane, by their angle."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_known_angles():
    result = group_similarity(at(0), at(60, 90))
    assert result.similarity == pytest.approx((0.5 + 0.0) / 2, abs=1e-6)
    assert result.group == pytest.approx(np.cos(np.radians(30)), abs=1e-6)
    assert result.gap == pytest.approx(0.25 - np.cos(np.radians(30)), abs=1e-6)


def test_lengths_do_not_count():
    assert group_similarity(5 * at(10), at(0, 20) * 3).similarity == pytest.approx(np.cos(np.radians(10)), abs=1e-6)


def test_all_frames_and_pictures_count_alike_and_faceless_frames_do_not():
    faces = at(0, 90, 45)
    faces[2] = np.nan
    assert group_similarity(faces, at(0)).similarity == pytest.approx(0.5, abs=1e-6)
    assert group_similarity(np.full((2, 2), np.nan, dtype=np.float32), at(0)) is None


def test_a_group_of_one_has_no_likeness_within():
    result = group_similarity(at(0), at(0))
    assert result.similarity == pytest.approx(1.0)
    assert result.group is result.gap is None


def test_a_copied_reference_gains_nothing():
    """Pictures of one person scatter about a centre; the reference is one of them, and not in the group."""
    rng = np.random.default_rng(0)
    pictures = (np.eye(32)[0] * 4 + rng.normal(0, 0.4, (60, 32))).astype(np.float32)
    reference, group = pictures[:1], pictures[1:]
    copied = group_similarity(np.repeat(reference, 5, axis=0), group)
    another = group_similarity(pictures[:1] * 0 + (np.eye(32)[0] * 4).astype(np.float32), group)
    assert copied.gap == pytest.approx(0, abs=0.05)
    assert another.similarity > copied.similarity
    stranger = group_similarity((np.eye(32)[5:6] * 4).astype(np.float32), group)
    assert stranger.gap < -0.5


def test_unusable_embeddings_are_refused():
    with pytest.raises(ConfigError, match="G > 0"):
        group_similarity(at(0), np.zeros((0, 2), dtype=np.float32))
    with pytest.raises(ConfigError, match="zero embedding"):
        group_similarity(at(0), np.zeros((1, 2), dtype=np.float32))
