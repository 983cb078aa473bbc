import numpy as np
import pytest

from magicmirror.faces.dlib_analyzer import DlibFaceAnalyzer
from magicmirror.media import load_image
from magicmirror.serving.chip_embedder import ChipEmbedder


@pytest.mark.parametrize("name", ["woman_1.jpg", "two_people.jpg"])
def test_embeddings_are_those_of_dlib(repository, name):
    photo = load_image(repository / "assets" / "examples" / name)
    expected, found = (DlibFaceAnalyzer(**how).analyze(photo) for how in ({}, {"embed_chips": ChipEmbedder()}))
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.embedding, theirs.embedding, rtol=0, atol=5e-6)
        assert ours.photo_sha256 == theirs.photo_sha256 and ours.quality == theirs.quality
