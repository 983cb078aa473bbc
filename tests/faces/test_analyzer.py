"""The door of the room: factory, choice of a face, checks of pictures."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from magicmirror.errors import ConfigError
from magicmirror.faces.analyzer import FaceAnalyzer, check_image, create_face_analyzer, photo_sha256


def test_factory_makes_what_was_asked_for() -> None:
    analyzer = create_face_analyzer("dlib", crop_size_px=64)
    assert isinstance(analyzer, FaceAnalyzer)
    assert (analyzer.crop_size_px, analyzer.embedding_size, analyzer.landmark_scheme) == (64, 128, "dlib5")


def test_factory_refuses_what_it_has_not() -> None:
    with pytest.raises(ConfigError, match="mediapipe") as caught:
        create_face_analyzer("mediapipe")
    assert "Choose" in caught.value.remedy


def test_the_door_loads_no_heavy_library() -> None:
    code = (
        "import sys, magicmirror.faces.analyzer, magicmirror.faces.similarity\n"
        "for kind in ('dlib', 'insightface'):\n"
        "    magicmirror.faces.analyzer.create_face_analyzer(kind)\n"
        "print([name for name in ('torch', 'dlib', 'cv2', 'insightface') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_pictures_of_another_form_are_refused() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ConfigError, match=r"\(H, W, 3\) uint8"):
            check_image(wrong)
    with pytest.raises(ConfigError):
        check_image(np.zeros((0, 4, 3), np.uint8))
    assert check_image(np.zeros((4, 6, 3), np.uint8)[:, ::2]).flags.c_contiguous


def test_the_hash_depends_on_pixels_and_shape_only() -> None:
    picture = np.arange(2 * 6 * 3, dtype=np.uint8).reshape(2, 6, 3)
    assert photo_sha256(picture) == photo_sha256(picture.copy())
    assert photo_sha256(picture) != photo_sha256(picture.reshape(6, 2, 3))
    changed = picture.copy()
    changed[0, 0, 0] ^= 1
    assert photo_sha256(picture) != photo_sha256(changed)
    assert len(photo_sha256(picture)) == 64
