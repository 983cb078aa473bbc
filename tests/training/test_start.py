"""What a recipe starts from: which arguments it takes, and tiny real networks in the published layouts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.models.adapter import CONFIG_FILE
from magicmirror.models.presets import ModelPreset
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.training.build import build_trainer
from magicmirror.training.recipes import RECIPES, find_recipe
from magicmirror.training.run import train
from magicmirror.training.start import StartPaths, check_start, load_start, load_vae_start
from tests.tiny_pipeline import EMBEDDING, FACES, IDENTITY, PATCHES, TEXT, WIDTH, build_pipeline
from tests.tiny_published import publish
from tests.tiny_training import build_trainable, write_shards

SMALL = {"image_batch": 4, "clip_batch": 2, "micro_batch": 0, "max_steps": 2, "warmup_steps": 1, "learning_rate": 1e-3}
TINY = ModelPreset(
    transformer={
        "identity_dim": IDENTITY,
        "num_face_tokens": FACES,
        "identity_proj_dim": 8,
        "can_hidden_dim": 8,
        "num_layers": 3,
    },
    identity_perceiver={
        "embedding_dim": 128,
        "patch_dim": PATCHES,
        "token_dim": IDENTITY,
        "depth": 1,
        "head_dim": 10,
    },
    face_perceiver={
        "patch_dim": PATCHES,
        "dim": 16,
        "output_dim": WIDTH,
        "num_queries": FACES,
        "depth": 1,
        "head_dim": 8,
    },
    identity_fusion={"identity_dim": IDENTITY, "text_dim": TEXT, "hidden_dim": 24},
    image_encoder={
        "hidden_size": PATCHES,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
    text_encoder={},
    vae={},
)


def small(name, **changes):
    recipe = find_recipe(name)
    return replace(recipe, config=replace(recipe.config, decay_steps=0, **{**SMALL, **changes}))


NEWER = {"patch_size_t": 2, "patch_bias": False, "sample_height": 12, "sample_width": 12, "sample_frames": 17}


@pytest.fixture(scope="module", params=[{}, NEWER], ids=["5b", "1_5_5b"])
def published(request, tmp_path_factory):
    """A stock CogVideoX, or CogVideoX 1.5, in diffusers' layout and a file like PhotoMaker-V2's."""
    root = tmp_path_factory.mktemp("published")
    pipeline = build_pipeline(image_size=32, embedding_size=128, **request.param)
    base, encoder, _ = publish(root, pipeline)
    backbone = "cogvideox_1_5_5b" if request.param else "cogvideox_5b"
    return StartPaths(start=str(base), identity_encoder=str(encoder)), pipeline, backbone


def load(recipe, paths):
    patches = {"patch_size_t": 2} if recipe.config.preset == "cogvideox-1.5-5b" else {}
    tiny = replace(TINY, transformer={**TINY.transformer, **patches})
    return load_start(recipe, paths, find_preset=lambda name: tiny)


def state_of(pipeline):
    parts = pipeline.components.items()
    modules = {name: part for name, part in parts if isinstance(part, torch.nn.Module)}
    return {f"{name}.{key}": value for name, part in modules.items() for key, value in part.state_dict().items()}


A, B, C = Path("vae"), Path("tokenizer"), "pipeline"


@pytest.mark.parametrize(
    ("names", "paths", "refusal"),
    [
        (("tower", "joint", "base"), StartPaths(), "Give --start, or --vae and --tokenizer"),
        (("tower", "joint", "base"), StartPaths(vae=A), "Give --start, or --vae and --tokenizer"),
        (("tower", "joint", "base"), StartPaths(start=C), None),
        (("tower", "joint", "base"), StartPaths(start=C, vae=A, tokenizer=B), None),
        (("captions",), StartPaths(start=C, tokenizer=B), None),
        (("tower", "joint", "base"), StartPaths(vae=A, tokenizer=B), None),
        (("vae",), StartPaths(), None),
        (("vae",), StartPaths(vae=A), None),
        (("vae",), StartPaths(start=C), "no use for --start"),
        (("stage1_images", "stage2_videos", "likeness"), StartPaths(start=C), None),
        (("stage1_images", "stage2_videos", "likeness"), StartPaths(), "needs --start"),
        (("stage1_images", "likeness"), StartPaths(vae=A, tokenizer=B), "no use for --tokenizer, --vae"),
        (("cogvideox_5b_stage1",), StartPaths(start=C, identity_encoder=C), None),
        (("cogvideox_5b_stage1",), StartPaths(start=C), "needs --identity-encoder"),
        (("cogvideox_5b_stage1",), StartPaths(start=C, identity_encoder=C, adapter=C), "no use for --adapter"),
        (("cogvideox_5b_stage2",), StartPaths(start=C, identity_encoder=C), "needs --adapter.*adapter of stage 1"),
        (("cogvideox_5b_stage2",), StartPaths(start=C, identity_encoder=C, adapter=C), None),
    ],
)
def test_which_recipe_takes_what(names, paths, refusal):
    for name in names:
        if refusal is None:
            check_start(find_recipe(name), paths)
        else:
            with pytest.raises(ConfigError, match=refusal):
                check_start(find_recipe(name), paths)


def test_every_recipe_has_a_start():
    assert {RECIPES[name]().start for name in RECIPES} == {
        "vae", "networks", "pipeline", "stage1", "cogvideox", "cogvideox_stage1"
    }  # fmt: skip


def test_a_new_vae_follows_from_the_seed(repository):
    first, same, other = (
        load_vae_start(small("vae", seed=seed), StartPaths()).encoder.conv_in.conv.weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, same) and not torch.equal(first, other)
    trained = repository / "assets" / "models" / "preview" / "vae"
    assert load_vae_start(small("vae"), StartPaths(vae=trained)).config.latent_channels == 16
    with pytest.raises(ConfigError, match="goes on from a trained VAE"):
        load_vae_start(small("decoder"), StartPaths())


def test_stage_two_goes_on_from_a_trained_adapter_alone(tmp_path):
    pipeline = build_trainable()
    pipeline.transformer.reset_adapter()
    pipeline.save_pretrained(tmp_path / "fresh")
    with pytest.raises(ConfigError, match="never trained"):
        load_start(find_recipe("stage2_videos"), StartPaths(start=str(tmp_path / "fresh")))
    build_trainable().save_pretrained(tmp_path / "trained")
    loaded = load_start(find_recipe("stage2_videos"), StartPaths(start=str(tmp_path / "trained")))
    assert isinstance(loaded, MagicMirrorPipeline)


def test_another_vae_and_tokenizer_take_the_place_of_those_in_a_pipeline(tmp_path):
    build_trainable().save_pretrained(tmp_path / "before")
    other = build_trainable()
    with torch.no_grad():
        other.vae.decoder.conv_out.conv.bias.fill_(0.5)
    other.save_pretrained(tmp_path / "other")
    paths = StartPaths(str(tmp_path / "before"), tmp_path / "other" / "vae", tmp_path / "other" / "tokenizer")
    loaded = load_start(find_recipe("joint"), paths)
    assert (loaded.vae.decoder.conv_out.conv.bias == 0.5).all()
    before = load_start(find_recipe("joint"), StartPaths(start=str(tmp_path / "before")))
    kept = {name: value for name, value in state_of(before).items() if not name.startswith("vae.")}
    assert all(torch.equal(state_of(loaded)[name], value) for name, value in kept.items())

    fewer = AutoencoderKLCogVideoX.from_config({**before.vae.config, "latent_channels": 2})
    fewer.save_pretrained(tmp_path / "fewer")
    with pytest.raises(ConfigError, match="2 latent channels, the denoiser takes"):
        load_start(find_recipe("joint"), StartPaths(str(tmp_path / "before"), tmp_path / "fewer"))


def test_both_stages_around_a_stock_model(published, shards, tmp_path):
    """The whole of the full-size way with tiny networks: stock folder in, adapter out, adapter in, adapter out.

    The shards' stills and clips have odd numbers of latent frames, which 1.5's patches do not divide.
    """
    paths, original, backbone = published
    first = small(f"{backbone}_stage1")
    pipeline = load(first, paths)
    dtypes = {name: value.dtype for name, value in state_of(pipeline).items()}
    assert set(dtypes.values()) == {torch.bfloat16}
    stock = {name: value.bfloat16() for name, value in state_of(original).items()}
    before = {name: value.clone() for name, value in state_of(pipeline).items()}
    fresh = [n for n in before if n.startswith(("face_perceiver", "identity_fusion"))]
    fresh += [n for n in before if pipeline.transformer.is_adapter_key(n.removeprefix("transformer."))]
    assert all(torch.equal(value, stock[name]) for name, value in before.items() if name not in fresh)

    trainer = build_trainer(first, [shards], pipeline, tmp_path / "unused")
    trained = {name for name, value in trainer.trained.named_parameters() if value.requires_grad}
    assert trained == set(fresh)
    after = state_of(pipeline)
    assert {after[name].dtype for name in fresh} == {torch.float32}
    assert {after[name].dtype for name in after if name not in fresh} == {torch.bfloat16}

    folder = train(first, [shards], load(first, paths), tmp_path / "stage1")
    assert folder == tmp_path / "stage1" / "adapter"
    second = small(f"{backbone}_stage2", validation_steps=2)
    untrained = replace(paths, adapter=str(tmp_path / "fresh"))
    load(first, paths).save_adapter(tmp_path / "fresh")
    with pytest.raises(ConfigError, match="never trained"):
        load(second, untrained)
    going_on = load(second, replace(paths, adapter=str(folder)))
    moved = {name: value.clone() for name, value in state_of(going_on).items()}
    assert any(moved[name].dtype == torch.float32 and moved[name].any() for name in fresh if ".to_v." in name)
    last = train(second, [shards], going_on, tmp_path / "stage2")
    reloaded = load(second, replace(paths, adapter=str(last)))
    changed = [name for name, value in state_of(reloaded).items() if not torch.equal(value, moved[name])]
    assert changed and set(changed) <= set(fresh)
    assert sorted(p.name for p in (tmp_path / "stage2" / "validation" / "step-00000002").iterdir())[-1] == "grid.png"


def test_a_stock_base_and_an_adapter_that_do_not_fit_are_refused_before_they_are_read(published, tmp_path):
    paths, original, backbone = published
    original.save_adapter(tmp_path / "adapter")
    described = json.loads((tmp_path / "adapter" / CONFIG_FILE).read_text())
    described["identity_fusion"]["hidden_dim"] = 99
    (tmp_path / "adapter" / CONFIG_FILE).write_text(json.dumps(described))
    base = shutil.copytree(paths.start, tmp_path / "base")
    for weights in base.rglob("*.safetensors"):
        weights.unlink()  # they would be missed next
    second = replace(paths, start=str(base), adapter=str(tmp_path / "adapter"))
    with pytest.raises(WeightsError, match="made for another identity_fusion: hidden_dim is 99"):
        load(small(f"{backbone}_stage2"), second)


def test_base_then_both_stages_at_the_small_size(shards, tmp_path):
    """The paper's order from nothing: text-to-video first, then the adapter on a base that stays as it is."""
    folder = train(small("base", clip_share=0.5), [shards], build_trainable(), tmp_path / "base")
    pipeline = MagicMirrorPipeline.from_pretrained(folder, dtype=torch.float32)
    for block in pipeline.transformer.transformer_blocks[::2]:  # the adapter starts from the trained base
        assert torch.equal(block.adapter.to_k.weight, block.attn1.to_k.weight)
        assert not block.adapter.to_v.weight.any()
    begun = state_of(pipeline)
    first = train(
        small("stage1_images"), [shards], load_start(small("stage1_images"), StartPaths(str(folder))), tmp_path / "1"
    )
    second = train(
        small("stage2_videos"), [shards], load_start(small("stage2_videos"), StartPaths(str(first))), tmp_path / "2"
    )
    ended = state_of(MagicMirrorPipeline.from_pretrained(second, dtype=torch.float32))
    changed = {name for name, value in ended.items() if not torch.equal(value, begun[name])}
    of_adapter = {n for n in changed if pipeline.transformer.is_adapter_key(n.removeprefix("transformer."))}
    rest = {name.split(".")[0] for name in changed - of_adapter}
    assert of_adapter and rest == {"face_perceiver", "identity_fusion", "identity_perceiver"}


def test_embeddings_of_another_recogniser_switch_the_identity_term_off(tmp_path, caplog):
    pipeline = build_pipeline(image_size=32, embedding_size=EMBEDDING)
    shards = write_shards(tmp_path / "shards", embedding_dim=EMBEDDING)
    with caplog.at_level("INFO", "magicmirror"):
        trainer = build_trainer(small("likeness"), [shards], pipeline, tmp_path)
    assert trainer.trained._terms == (None, None)
    assert "no differentiable recogniser" in caplog.text and "identity term of section 3.4 is off" in caplog.text
