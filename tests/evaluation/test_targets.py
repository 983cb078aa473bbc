"""Targets: what counts as met, missed and not measured."""

import pytest

from magicmirror.evaluation.figures import RowFigures, WordFigures
from magicmirror.evaluation.targets import Target, benchmark_targets, identity_targets, target_lines

GOOD = {
    "face_found": 0.98,
    "rank_1": 0.64,
    "rank_5": 0.9,
    "own_distance": 0.45,
    "other_distance": 0.70,
    "decay": 0.01,
}


def by_label(targets):
    return {target.label: target for target in targets}


def row(words=None, **figures):
    return RowFigures({**GOOD, **figures}, {}, {"motions": words or {}, "styles": {}})


def test_limits_belong_to_what_they_allow():
    assert Target("", 0.5, 0.5, True).met and Target("", 0.5, 0.5, False).met
    assert not Target("", 0.49, 0.5, True).met and not Target("", 0.51, 0.5, False).met
    assert Target("", None, 0.5, True).met is None


def test_a_good_model_meets_all_that_is_known_of_identity():
    targets = by_label(identity_targets(GOOD, {"man": {"rank_1": 0.5}, "woman": {"rank_1": 0.7}}))
    assert all(target.met for target in targets.values()) and len(targets) == 7
    assert targets["how much nearer than the others' references"].value == pytest.approx(0.25)
    assert targets["rank-1 of the weakest group, as a share of all"].value == pytest.approx(0.5 / 0.64)


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"face_found": 0.96}, "frames with a face"),
        ({"rank_1": 0.59}, "rank-1"),
        ({"rank_5": 0.84}, "rank-5"),
        ({"own_distance": 0.501, "other_distance": 0.8}, "distance to the own reference"),
        ({"other_distance": 0.64}, "how much nearer than the others' references"),
        ({"decay": 0.03}, "similarity decay"),
    ],
)
def test_each_figure_has_its_own_target(changes, missed):
    targets = identity_targets({**GOOD, **changes}, {"all": {"rank_1": 0.6}})
    assert [target.label for target in targets if target.met is False] == [missed]


def test_a_weak_group_is_missed_and_a_figure_without_a_value_is_not_judged():
    targets = by_label(identity_targets({**GOOD, "decay": None}, {"a": {"rank_1": 0.47}, "b": {"rank_1": 0.9}}))
    assert targets["rank-1 of the weakest group, as a share of all"].met is False
    assert targets["similarity decay"].met is None
    assert by_label(identity_targets({}, {}))["rank-1"].met is None


def test_motion_and_picture_are_judged_beside_the_animated_portraits():
    words = {"turn_left": WordFigures(10, 0.5, 0.9, 8.0, 4.0), "drum": WordFigures(3, None, None, None, None)}
    made = row(words, fm_ref=0.05, fm_inter=0.05, flicker=1.2, sharpness=200.0)
    data = row(fm_ref=0.07, fm_inter=0.10, flicker=1.0, sharpness=400.0)
    targets = by_label(benchmark_targets({"generated": made, "data": data}))
    assert targets["FM_ref, as a share of animated portraits'"].met is True
    assert targets["FM_inter, as a share of animated portraits'"].met is False
    assert targets["turn left: asked sign"].value == 0.9 and "drum: asked sign" not in targets
    assert targets["flicker: away from animated portraits"].met is True
    assert targets["sharpness: away from animated portraits"].value == pytest.approx(0.5)
    alone = by_label(benchmark_targets({"generated": made}))
    assert alone["FM_ref, as a share of animated portraits'"].met is None
    assert benchmark_targets({"data": data}) == ()


def test_lines_say_what_was_met():
    lines = target_lines(
        [Target("one", 0.5, 0.4, True), Target("two", 0.5, 0.4, False), Target("three", None, 1, True)]
    )
    assert "| one | at least 0.40 | 0.500 | met |" in lines
    assert "| two | at most 0.40 | 0.500 | **missed** |" in lines
    assert "| three | at least 1.00 |  | not measured |" in lines
    assert lines[-2] == "1 of 2 measured targets are met."
    assert target_lines([]) == []
