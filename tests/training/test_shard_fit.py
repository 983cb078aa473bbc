"""Shards against the networks that are to learn from them: one line, before anything is trained."""

from __future__ import annotations

import json

import pytest
import torch

from magicmirror.data.precompute import PLAN_FILE
from magicmirror.data.vae_hash import encoder_sha256, refuse_other_vae, vae_sha256
from magicmirror.errors import ConfigError
from magicmirror.training.build import build_trainer
from magicmirror.training.recipes import Recipe
from tests.tiny_pipeline import build_pipeline
from tests.tiny_training import build_trainable, make_config, write_shards

JOINT = ("transformer", "text_encoder", "identity_perceiver", "identity_fusion")


def build(folders, pipeline, out, objective="denoise", **changes):
    """A trainer of the recipe ``tower`` or ``joint``."""
    trained = JOINT if objective == "denoise" else ("image_encoder", "face_perceiver")
    recipe = Recipe(make_config(clip_share=0.5, **changes), trained, "try the data", objective)
    return build_trainer(recipe, folders, pipeline, out)


def refusal(*arguments, **options):
    with pytest.raises(ConfigError) as caught:
        build(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"crop_px": 48}, "48 px, the vision tower takes 32 px. Prepare them again with --crop 32."),
        ({"embedding_dim": 512}, "512 numbers, the model takes 128. Prepare them again with --recogniser dlib."),
        ({"latent": (3, 4, 4)}, "3 channels, the denoiser takes 4. Prepare them again with the VAE of this model."),
        ({"latent": (4, 4, 6)}, "the places of 4 x 4 alone. Prepare them again with --size 32x32."),
    ],
)
def test_shards_of_another_size_than_the_networks(trainable, tmp_path, shape, reason):
    folder = write_shards(tmp_path / "shards", **shape)
    text = refusal([folder], trainable, tmp_path)
    assert text.endswith(reason) and '"shards/shard-00000.safetensors"' in text


def test_latents_that_patches_do_not_fill(tmp_path):
    """Rotary positions know any place, but a patch is two cells wide."""
    pipeline = build_pipeline(image_size=32, embedding_size=128)
    build([write_shards(tmp_path / "even", latent=(4, 4, 6))], pipeline, tmp_path)
    assert "which patches of 1 x 2 x 2 do not fill" in refusal(
        [write_shards(tmp_path / "odd", latent=(4, 5, 4))], pipeline, tmp_path
    )


def test_what_a_run_does_not_use_need_not_fit(trainable, tmp_path):
    folder = write_shards(tmp_path / "shards", crop_px=48, embedding_dim=512)
    build([folder], trainable, tmp_path, with_identity=False).train_step()
    assert "the vision tower takes 32 px" in refusal([folder], trainable, tmp_path, objective="tower")
    other = write_shards(tmp_path / "other", embedding_dim=512, latent=(4, 6, 6))
    build([other], trainable, tmp_path, objective="tower").train_step()


def test_shards_that_do_not_fit_each_other_are_refused_before_their_mean_is_taken(trainable, tmp_path):
    folders = [write_shards(tmp_path / "one"), write_shards(tmp_path / "two", embedding_dim=512)]
    assert "embeddings of 512 numbers" in refusal(folders, trainable, tmp_path, identity_loss=0.5)


def plan_of(vae, *names):
    hashes = {"vae_sha256": vae_sha256(vae), "vae_encoder_sha256": encoder_sha256(vae)}
    return {name: hashes[name] for name in names or hashes}


@pytest.fixture
def of_vae(trainable, tmp_path):
    """Shards of the pipeline's own VAE."""
    return write_shards(tmp_path / "shards", plan=plan_of(trainable.vae))


@pytest.mark.parametrize("objective", ["denoise", "tower"])
def test_shards_of_another_vae_are_refused(trainable, of_vae, tmp_path, objective):
    build([of_vae], trainable, tmp_path, objective)
    other = write_shards(tmp_path / "other", plan=plan_of(build_trainable(seed=5).vae))
    text = refusal([of_vae, other], trainable, tmp_path, objective)
    assert f'"{other}" were made with another VAE' in text and "Prepare them again" in text


def change(part, amount=0.5):
    with torch.no_grad():
        for value in part.parameters():
            value.add_(amount)


def test_a_decoder_that_learned_on_leaves_shards_as_they_are(trainable, of_vae, caplog):
    change(trainable.vae.decoder)
    assert plan_of(trainable.vae)["vae_sha256"] != json.loads((of_vae / PLAN_FILE).read_text())["vae_sha256"]
    refuse_other_vae([of_vae], trainable.vae)
    assert not caplog.records


def test_an_encoder_or_a_factor_that_changed_does_not(trainable, of_vae):
    factor = trainable.vae.config.scaling_factor
    trainable.vae.register_to_config(scaling_factor=factor * 1.1)
    with pytest.raises(ConfigError, match="another VAE"):
        refuse_other_vae([of_vae], trainable.vae)
    trainable.vae.register_to_config(scaling_factor=factor)
    refuse_other_vae([of_vae], trainable.vae)
    change(trainable.vae.encoder.conv_out, 1e-2)
    with pytest.raises(ConfigError, match="another VAE"):
        refuse_other_vae([of_vae], trainable.vae)


@pytest.mark.parametrize("steps", [("float16",), ("bfloat16",), ("bfloat16", "float32"), ("float16", "float32")])
def test_one_vae_in_another_precision_is_the_same(trainable, of_vae, steps):
    """``train vae`` saves float32, a pipeline is saved in float16, the parts of a stock one are loaded in bfloat16."""
    for dtype in steps:
        trainable.vae.to(getattr(torch, dtype))
    refuse_other_vae([of_vae], trainable.vae)


def test_folders_of_earlier_versions_are_trained_on(trainable, tmp_path, caplog):
    """Their plans name the whole VAE, which may differ in its decoder alone, or name none."""
    old = write_shards(tmp_path / "old", plan=plan_of(trainable.vae, "vae_sha256"))
    none = write_shards(tmp_path / "none")
    refuse_other_vae([old, none], trainable.vae)
    assert not caplog.records
    change(trainable.vae.decoder)
    refuse_other_vae([none, old], trainable.vae)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and str(old) in record.getMessage()
