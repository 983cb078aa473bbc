"""Recipes and the settings that they are made of."""

import pytest

from magicmirror.errors import ConfigError
from magicmirror.training.caption_objective import CaptionObjective, caption_batches
from magicmirror.training.networks import identity_objective, train_only
from magicmirror.training.parts import Part
from magicmirror.training.recipes import RECIPES, find_recipe
from magicmirror.training.schedule import learning_rate_at
from magicmirror.training.tower import TowerObjective
from magicmirror.training.vae_objective import VaeObjective
from tests.tiny_training import FRAMES, generator, make_batch, make_config


def make_objective(recipe, pipeline):
    if recipe.objective in ("vae", "decoder"):
        return VaeObjective(pipeline.vae, recipe.config)
    if recipe.objective == "tower":
        return TowerObjective(pipeline.image_encoder, pipeline.face_perceiver, pipeline.transformer)
    if recipe.objective == "captions":
        return CaptionObjective(pipeline.text_encoder)
    return identity_objective(pipeline, recipe.config)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_parts_that_exist(trainable, name):
    recipe = find_recipe(name)
    assert recipe.config.name == name and recipe.purpose
    trained = train_only(make_objective(recipe, trainable), recipe.trained)
    named = {"transformer" if part in ("adapter", "base") else part for part in recipe.trained}
    assert {parameter.split(".")[0] for parameter in trained} == named
    assert max(recipe.config.warmup_steps, recipe.config.decay_steps) <= recipe.config.max_steps


def test_every_trained_parameter_of_a_recipe_gets_a_gradient(trainable):
    """Nothing is listed as trained that no loss reaches; processes that share a step would wait for it."""
    for name in ("tower", "captions", "joint", "likeness", "base", "stage1_images", "stage2_videos"):
        recipe = find_recipe(name)
        objective = make_objective(recipe, trainable)
        train_only(objective, recipe.trained)
        objective.zero_grad(set_to_none=True)
        batch = make_batch(trainable.tokenizer, frames=1 if recipe.objective == "tower" else FRAMES)
        if recipe.objective == "captions":
            batch = caption_batches(trainable, recipe.config)(0)
        objective(batch, generator(0))["loss"].backward()
        missing = [n for n, p in objective.named_parameters() if p.requires_grad and p.grad is None]
        assert missing == [], name


def test_conditions_are_dropped_as_the_paper_map_says():
    for make in RECIPES.values():
        config = make().config
        assert (config.drop_all, config.drop_identity) == (0.10, 0.05 if config.with_identity else 0.0)
        assert config.face_loss_share == (0.5 if config.with_identity else 0.0)
    assert [name for name, make in RECIPES.items() if not make().config.with_identity] == ["base"]


def test_only_likeness_has_the_identity_term():
    assert [name for name, make in RECIPES.items() if make().config.identity_loss > 0] == ["likeness"]


@pytest.mark.parametrize("backbone", ["cogvideox_5b", "cogvideox_1_5_5b"])
def test_the_stages_of_the_paper_have_its_numbers(backbone):
    first, second = find_recipe(f"{backbone}_stage1"), find_recipe(f"{backbone}_stage2")
    assert {first.config.preset, second.config.preset} == {backbone.replace("_1_5_", "-1.5-").replace("_5b", "-5b")}
    assert (first.config.max_steps, first.config.image_batch, first.config.clip_share) == (30_000, 64, 0.0)
    assert (second.config.max_steps, second.config.clip_batch, second.config.clip_share) == (5_000, 8, 1.0)
    for recipe in (first, second):
        config = recipe.config
        assert recipe.trained == ("adapter", "face_perceiver", "identity_fusion")
        assert (config.learning_rate, config.mixed_precision, config.gradient_checkpointing) == (1e-5, "bf16", True)
        assert learning_rate_at(config.max_steps - 1, config) < 0.02 * config.learning_rate
    # Eight GPUs accumulate to exactly the batch of the paper.
    shares = [Part(0, 8).rows(64).stop, Part(0, 8).rows(8).stop]
    assert [share % r.config.micro_batch for share, r in zip(shares, (first, second), strict=True)] == [0, 0]


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ConfigError, match=r'"big".*tower, captions, joint, likeness'):
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
        ({"unrolled_share": -0.5}, "unrolled_share must lie in"),
        ({"strata_balance": 1.5}, "strata_balance must lie in"),
        ({"critic_weight": -1.0}, "critic_weight must not be negative"),
        ({"latent_critic_weight": -1.0}, "latent_critic_weight must not be negative"),
        ({"mixed_precision": "fp16"}, "mixed_precision"),
        ({"checkpoint_steps": 0}, "checkpoint_steps must be at least 1, got 0"),
        ({"keep_checkpoints": 0}, "keep_checkpoints must be at least 1, got 0"),
        ({"log_steps": 0}, "log_steps"),
        ({"image_batch": 0}, "image_batch"),
        ({"clip_batch": -1}, "clip_batch"),
        ({"micro_batch": -1}, "micro_batch must not be negative"),
        ({"validation_steps": -1}, "validation_steps"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"grad_clip": 0.0}, "grad_clip"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"ema_decay": 1.0}, r"ema_decay must lie in \[0, 1\), got 1.0"),
        ({"high_noise_from": 1000}, "high_noise_from"),
        ({"identity_loss_below": 2000}, "identity_loss_below"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        make_config(**changes)
