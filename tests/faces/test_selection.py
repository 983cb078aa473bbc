"""Which face is meant, and whether several photos show one person."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from magicmirror.errors import FaceError, NoFaceFound, SeveralFaces
from magicmirror.faces.selection import choose_face, find_mismatches, photo_record
from magicmirror.types import FaceBox, FaceReference, QualityCheck


def face(side: float = 100, embedding: tuple[float, ...] = (1.0, 0.0)) -> FaceReference:
    """A face whose box has ``side`` px a side."""
    return FaceReference(
        box=FaceBox(0, 0, side, side),
        landmarks=np.zeros((5, 2), dtype=np.float32),
        landmark_scheme="dlib5",
        crop=np.zeros((16, 16, 3), dtype=np.uint8),
        embedding=np.array(embedding, dtype=np.float32),
        score=1.0,
    )


def test_no_face_is_an_error_with_a_remedy() -> None:
    with pytest.raises(NoFaceFound, match="No face was found") as caught:
        choose_face([])
    assert caught.value.remedy


def test_one_face_is_taken() -> None:
    only = face(10)
    assert choose_face([only]) is only


def test_a_clearly_larger_face_is_taken_and_a_comparable_one_is_not() -> None:
    large = face(100)
    assert choose_face([large, face(70)]) is large  # 10000 against 4900: more than twice
    with pytest.raises(SeveralFaces, match="2 faces"):
        choose_face([large, face(72)])  # 10000 against 5184


def test_an_index_decides_and_is_checked() -> None:
    faces = [face(100), face(99)]
    assert choose_face(faces, 0) is faces[0]
    assert choose_face(faces, 1) is faces[1]
    for index in (2, -1):
        with pytest.raises(FaceError, match=rf"Face {index} .* has 2 faces\. Use 0 to 1\."):
            choose_face(faces, index)
    with pytest.raises(FaceError, match=r"has 1 face\. Use 0\."):
        choose_face(faces[:1], 1)


def test_the_remedy_names_the_option_of_the_caller() -> None:
    with pytest.raises(SeveralFaces, match="Choose one with --face-index 0 to 1, the largest is 0, or crop"):
        choose_face([face(100), face(99)], option="--face-index")
    with pytest.raises(SeveralFaces, match="Choose one of them, or crop"):
        choose_face([face(100), face(99)])


def test_photos_of_one_person_do_not_differ() -> None:
    assert find_mismatches([]) == () == find_mismatches([face()])
    assert find_mismatches([face(embedding=(0.0, 0.1 * i)) for i in range(6)]) == ()  # at most 0.5 apart


def test_a_photo_of_somebody_else_is_named_with_its_distance() -> None:
    person = [face(embedding=(0.0, 0.0)), face(embedding=(0.1, 0.0)), face(embedding=(0.0, 0.1))]
    (odd,) = find_mismatches([person[0], face(embedding=(0.0, 1.0)), *person[1:]])
    assert odd.index == 1
    assert odd.distance == pytest.approx(1.0)  # to (0, 0); the others are at 0.9 and 1.005
    assert odd.limit == 0.6
    assert str(odd).startswith("Photo 2 may show another person") and "1.00" in str(odd)


def test_of_two_that_differ_the_later_is_named() -> None:
    assert [odd.index for odd in find_mismatches([face(embedding=(0.0, 0.0)), face(embedding=(1.0, 0.0))])] == [1]


def test_several_odd_photos_are_all_named() -> None:
    photos = [face(embedding=point) for point in ((0, 0), (5, 0), (0.1, 0), (0, 5), (0, 0.1))]
    assert [odd.index for odd in find_mismatches(photos)] == [1, 3]


def test_arcface_embeddings_are_compared_by_their_angle() -> None:
    def arcface(*values: float) -> FaceReference:
        return replace(face(), embedding=np.pad(np.float32(values), (0, 512 - len(values))))

    assert find_mismatches([arcface(1, 0), arcface(9, 0.1)]) == ()  # far apart, but in one direction
    (odd,) = find_mismatches([arcface(1, 0), arcface(0, 1)])
    assert odd.distance == pytest.approx(1.0) and odd.limit == pytest.approx(0.6)


def test_real_people_are_told_apart(example_references) -> None:
    woman, man = example_references["woman_1"], example_references["man_1"]
    assert [odd.index for odd in find_mismatches([woman, man, woman])] == [1]


def test_the_record_of_a_photo_is_plain_json() -> None:
    import json

    check = QualityCheck("size", 12.5, 20.0, "px", False, "Come closer.")
    record = json.loads(json.dumps(photo_record([replace(face(100), checks=(check,)), face(20)])))
    assert (record["chosen"], record["problem"]) == (0, "")
    assert record["faces"][0]["checks"] == [
        {"name": "size", "value": 12.5, "limit": 20.0, "unit": "px", "passed": False, "remedy": "Come closer."}
    ]
    assert [each["index"] for each in record["faces"]] == [0, 1]
    undecided = photo_record([face(100), face(99)])
    assert undecided["chosen"] is None and "2 faces" in undecided["problem"]
    nobody = photo_record([])
    assert nobody == {"faces": [], "chosen": None, "problem": nobody["problem"]} and "No face" in nobody["problem"]
