"""Whole runs on tiny networks: what they write, what a dry run does not, and what is exported."""

import json
import re
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file

from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.training import build
from magicmirror.training.build import build_trainer
from magicmirror.training.checkpoint import checkpoints, load_trainable, trainable_state
from magicmirror.training.recipes import Recipe
from magicmirror.training.run import dry_run, train
from tests.tiny_pipeline import build_reference
from tests.tiny_training import build_trainable, make_config

JOINT = ("transformer", "text_encoder", "identity_perceiver", "identity_fusion")


def recipe(trained=JOINT, **changes):
    options = {"max_steps": 3, "clip_share": 0.5, "learning_rate": 1e-2, "ema_decay": 0.5, **changes}
    return Recipe(make_config(**options), trained, "try the trainer")


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def load(folder):
    return MagicMirrorPipeline.from_pretrained(folder, dtype=torch.float32)


def flat_state(pipeline):
    return {
        f"{name}.{key}": value
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module)
        for key, value in part.named_parameters()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shards):
    """The folder of a run of three steps."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    output = tmp_path_factory.mktemp("run")
    assert train(recipe(), [shards], build_trainable(), output) == output / "pipeline"
    return output


def test_exported_pipeline_has_the_averaged_weights_in_half_precision(finished):
    for file in (finished / "pipeline").rglob("*.safetensors"):
        assert {value.dtype for value in load_file(file).values()} == {torch.float16}, file.parent.name
    exported = flat_state(load(finished / "pipeline"))
    before = flat_state(build_trainable())
    newest = checkpoints(finished / "checkpoints")[-1]
    average, last = (load_file(newest / f"{name}.safetensors") for name in ("average", "model"))
    assert {name.split(".")[0] for name in average} == set(JOINT)
    assert exported.keys() == before.keys()
    for name, value in exported.items():
        assert torch.equal(value, average.get(name, before[name]).half().to(value.dtype)), name
    assert any(not torch.equal(average[name].half(), last[name].half()) for name in average)
    assert any(not torch.equal(average[name], before[name]) for name in average)
    written = json.loads((finished / "pipeline" / "recipe.json").read_text())
    assert written == asdict(recipe().config)


def test_exported_pipeline_generates(finished):
    pipeline = load(finished / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline(
        "a man smiles", [build_reference(1, embedding_size=128)], num_inference_steps=2, seed=0, output_type="pt"
    ).frames
    assert frames.shape == (1, 9, 3, 32, 32) and torch.isfinite(frames).all()
    assert not any(module.training for module in pipeline.components.values() if isinstance(module, torch.nn.Module))


def test_the_same_call_after_the_end_changes_nothing(finished, shards):
    before = {name: (finished / name).read_bytes() for name in files(finished)}
    train(recipe(), [shards], build_trainable(), finished)
    after = {name: (finished / name).read_bytes() for name in files(finished)}
    assert before.keys() == after.keys()
    assert [name for name in before if name.endswith(".safetensors") and before[name] != after[name]] == []


def test_an_interrupted_run_goes_on_by_the_same_call(finished, shards, tmp_path):
    trainer = build_trainer(recipe(), [shards], build_trainable(), tmp_path)
    trainer.train_step()
    trainer.save()
    train(recipe(), [shards], build_trainable(), tmp_path)
    for name in ("transformer", "text_encoder"):
        ours, theirs = (next((folder / "pipeline" / name).glob("*.safetensors")) for folder in (tmp_path, finished))
        assert ours.read_bytes() == theirs.read_bytes()


def test_dry_run_writes_nothing_and_says_what_a_step_takes(shards, tmp_path):
    output = tmp_path / "output"
    text = dry_run(recipe(max_steps=7200), [shards], build_trainable(), output)
    found = re.fullmatch(
        r"joint: noise (\d+\.\d{4}), loss (\d+\.\d{4}); (\d+\.\d\d) s a step, about (\d+\.\d) h for 7200 steps", text
    )
    assert found and float(found[1]) > 0
    assert float(found[4]) == pytest.approx(float(found[3]) * 2, abs=0.1)
    assert list(tmp_path.iterdir()) == []


def test_dry_run_does_the_steps_of_the_run(shards, tmp_path):
    trainer = build_trainer(recipe(), [shards], build_trainable(), tmp_path)
    losses = [trainer.train_step()["loss"] for _ in range(2)]
    text = dry_run(recipe(), [shards], build_trainable(), tmp_path)
    assert f"loss {losses[1]:.4f}" in text


def test_tower_then_joint(shards, tmp_path):
    tower = Recipe(make_config(name="tower", max_steps=2), ("image_encoder", "face_perceiver"), "see", "tower")
    folder = train(tower, [shards], build_trainable(), tmp_path / "tower")
    before, pipeline = flat_state(build_trainable()), load(folder)
    changed = {
        name for name, value in flat_state(pipeline).items() if not torch.equal(value, before[name].half().float())
    }
    assert {name.split(".")[0] for name in changed} == {"image_encoder", "face_perceiver"}
    trainer = build_trainer(recipe(), [shards], pipeline, tmp_path / "joint")
    trainer.run()
    load_trainable(trainer.trained, checkpoints(tmp_path / "joint" / "checkpoints")[-1] / "model.safetensors")


def test_frozen_parts_work_as_in_inference(shards, tmp_path):
    """A published T5 comes with dropout, whose draws follow from no step."""
    pipeline = build_trainable()
    for module in pipeline.text_encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    stage = recipe(("adapter", "face_perceiver", "identity_fusion"))
    trainer = build_trainer(stage, [shards], pipeline, tmp_path)
    assert trainer.trained.transformer.training and not trainer.trained.text_encoder.training
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses.append(trainer.objective(trainer.loader.at(0), torch.Generator().manual_seed(0))["loss"])
    assert torch.equal(*losses)


@pytest.mark.parametrize(
    ("has_bfloat16", "frozen", "expected"),
    [(True, torch.float32, "bf16"), (False, torch.float32, "no"), (False, torch.bfloat16, "bf16")],
)
@pytest.mark.usefixtures("clean_accelerate")
def test_bfloat16_is_left_where_it_would_be_emulated(shards, tmp_path, monkeypatch, has_bfloat16, frozen, expected):
    """A hundred times slower there; frozen weights in bfloat16 have no other way to meet trained ones in float32."""
    monkeypatch.setattr(build, "has_bfloat16", lambda device: has_bfloat16)
    pipeline = build_trainable()
    pipeline.text_encoder.to(frozen)
    stage = recipe(("adapter", "face_perceiver", "identity_fusion"), mixed_precision="bf16")
    trainer = build_trainer(stage, [shards], pipeline, tmp_path)
    assert trainer.accelerator.mixed_precision == expected
    assert trainer.config.mixed_precision == "bf16"  # so that the run can go on elsewhere
    assert trainer.train_step()["loss"] > 0


def test_the_identity_term_is_built_where_it_is_wanted(shards, tmp_path):
    plain = build_trainer(recipe(), [shards], build_trainable(), tmp_path)
    wanted = build_trainer(recipe(identity_loss=0.5), [shards], build_trainable(), tmp_path)
    assert plain.trained._terms == (None, None)
    term, perceptual = wanted.trained._terms
    assert perceptual is None
    torch.testing.assert_close(term.centre, load_file(shards / "shard-00000.safetensors")["embeddings"][:, 0].mean(0))
    assert not any(p.requires_grad for p in term.vae.parameters()) and not term.vae.training
    assert not [name for name, _ in wanted.trained.named_parameters() if name.startswith(("vae", "_terms"))]


def untrained(seed=0):
    """A pipeline whose adapter is at the paper's start, as far as the cross values go."""
    pipeline = build_trainable(seed)
    with torch.no_grad():
        for block in pipeline.transformer.transformer_blocks[::2]:
            for parameter in block.adapter.to_v.parameters():
                parameter.zero_()
    return pipeline


def first_step(name, recipe, shards, pipeline, folder):
    """Model and average of a parameter after a run of one step."""
    one = replace(recipe, config=replace(recipe.config, max_steps=1))
    train(one, [shards], pipeline, folder)
    newest = checkpoints(folder / "checkpoints")[-1]
    return [load_file(newest / f"{kind}.safetensors")[name] for kind in ("model", "average")]


def test_cross_keys_are_aligned_before_the_first_step_of_an_untrained_adapter_alone(shards, tmp_path):
    """A run that goes on must keep what it has learned, and so must one that starts from a trained pipeline."""
    plain = recipe()
    aligned = replace(plain, align_cross_keys=True)
    name = "transformer.transformer_blocks.0.adapter.to_k.weight"
    never = build_trainer(plain, [shards], untrained(), tmp_path / "plain")
    never.train_step()

    interrupted = build_trainer(aligned, [shards], untrained(), tmp_path / "run")
    interrupted.train_step()
    interrupted.save()
    learned = trainable_state(interrupted.trained)[name]
    assert torch.equal(learned, trainable_state(never.trained)[name])
    model, _ = first_step(name, aligned, shards, untrained(), tmp_path / "run")
    assert torch.equal(model, learned)

    for value in first_step(name, aligned, shards, untrained(), tmp_path / "new"):
        assert (value - learned).norm() > 0.1 * learned.norm()
    # A trained adapter: the step is that of a recipe that never aligns.
    ours, expected = (
        first_step(name, stage, shards, build_trainable(), tmp_path / f"trained-{stage.align_cross_keys}")
        for stage in (aligned, plain)
    )
    assert torch.equal(ours[0], expected[0])


def test_exported_configs_do_not_say_where_they_were_loaded_from(finished, shards, tmp_path):
    folder = train(recipe(max_steps=1), [shards], load(finished / "pipeline"), tmp_path)
    texts = {path.name: path.read_text() for path in folder.rglob("*.json")}
    assert len(texts) > 4
    assert [name for name, text in texts.items() if str(finished) in text or "_name_or_path" in text] == []
