"""Recipes and the settings that they are made of."""

import pytest

from magicmirror.errors import ConfigError
from magicmirror.training.networks import identity_objective, train_only
from magicmirror.training.recipes import RECIPES, find_recipe
from magicmirror.training.tower import TowerObjective
from tests.tiny_training import make_config


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_parts_that_exist(trainable, name):
    recipe = find_recipe(name)
    assert recipe.config.name == name and recipe.purpose
    if name == "tower":
        objective = TowerObjective(trainable.image_encoder, trainable.face_perceiver, trainable.transformer)
    else:
        objective = identity_objective(trainable, recipe.config)
    trained = train_only(objective, recipe.trained)
    assert {parameter.split(".")[0] for parameter in trained} == set(recipe.trained)
    assert recipe.config.warmup_steps + recipe.config.decay_steps <= recipe.config.max_steps


def test_conditions_are_dropped_as_the_paper_map_says():
    for make in RECIPES.values():
        assert (make().config.drop_all, make().config.drop_identity) == (0.10, 0.05)
        assert make().config.face_loss_share == 0.5


def test_only_likeness_has_the_identity_term():
    assert [name for name, make in RECIPES.items() if make().config.identity_loss > 0] == ["likeness"]


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ConfigError, match=r'"big".*tower, joint, likeness'):
        find_recipe("big")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_steps": 0}, "max_steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"clip_share": 1.5}, "clip_share must lie in"),
        ({"drop_all": -0.1}, "drop_all must lie in"),
        ({"drop_identity": 2}, "drop_identity must lie in"),
        ({"face_loss_share": 1.01}, "face_loss_share must lie in"),
        ({"high_noise_share": 1.01}, "high_noise_share must lie in"),
        ({"mixed_precision": "fp16"}, "mixed_precision"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        make_config(**changes)
