"""The presets: published sizes, and parts that fit together."""

import pytest

from magicmirror.errors import ConfigError
from magicmirror.models.presets import model_preset, preset_names


def width_of(transformer):
    return transformer["num_attention_heads"] * transformer["attention_head_dim"]


def test_names():
    assert preset_names() == ("cogvideox-5b", "cogvideox-1.5-5b", "preview")
    with pytest.raises(ConfigError, match=r"Unknown preset 'wan'. Known are cogvideox-5b, cogvideox-1.5-5b, preview"):
        model_preset("wan")


def test_full_size_is_the_published_one():
    preset = model_preset("cogvideox-5b")
    assert (width_of(preset.transformer), preset.transformer["num_layers"]) == (3072, 42)
    assert preset.transformer["use_rotary_positional_embeddings"]
    assert (preset.transformer["num_face_tokens"], preset.transformer["identity_dim"]) == (32, 2048)
    assert (preset.image_encoder["image_size"], preset.image_encoder["patch_size"]) == (224, 14)
    assert (preset.text_encoder["d_model"], preset.text_encoder["num_layers"]) == (4096, 24)


def test_newer_backbone_differs_in_patches_and_grid_alone():
    old, new = (model_preset(name) for name in ("cogvideox-5b", "cogvideox-1.5-5b"))
    changed = {key: value for key, value in new.transformer.items() if old.transformer.get(key) != value}
    assert changed == {
        "patch_size_t": 2,
        "patch_bias": False,
        "sample_width": 300,
        "sample_height": 300,
        "sample_frames": 81,
    }
    assert (new.vae, new.text_encoder, new.face_perceiver) == (old.vae, old.text_encoder, old.face_perceiver)


def test_preview_makes_17_frames_of_128_px():
    preset = model_preset("preview")
    sizes = preset.transformer
    assert (sizes["sample_frames"], 8 * sizes["sample_width"], 8 * sizes["sample_height"]) == (17, 128, 128)
    assert (sizes["num_face_tokens"], sizes["max_text_seq_length"]) == (64, 40)


def test_parts_of_the_preview_fit_together():
    preset = model_preset("preview")
    face, fusion, identity = preset.face_perceiver, preset.identity_fusion, preset.identity_perceiver
    assert face["output_dim"] == width_of(preset.transformer)
    assert face["num_queries"] == preset.transformer["num_face_tokens"]
    assert identity["token_dim"] == fusion["identity_dim"] == preset.transformer["identity_dim"]
    assert fusion["text_dim"] == preset.text_encoder["d_model"] == preset.transformer["text_embed_dim"]
    assert face["patch_dim"] == identity["patch_dim"] == preset.image_encoder["hidden_size"]
    assert preset.vae["latent_channels"] == 16  # the transformer's default number of channels
