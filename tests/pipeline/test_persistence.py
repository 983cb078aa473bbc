import json

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.models.adapter import CONFIG_FILE, WEIGHTS_FILE
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.pipeline.pipeline import MagicMirrorPipeline


def latents_of(pipeline, reference):
    return pipeline(
        "a man smiles", [reference], num_inference_steps=2, guidance_scale=3.0, seed=0, output_type="latent"
    ).frames


@pytest.fixture(scope="module")
def saved(make_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    pipeline = make_pipeline()
    pipeline.save_pretrained(folder)
    return folder, pipeline


def test_saved_pipeline_comes_back_to_the_bit(saved, reference):
    folder, pipeline = saved
    loaded = MagicMirrorPipeline.from_pretrained(folder)
    for name, component in pipeline.components.items():
        assert type(loaded.components[name]) is type(component)
        if isinstance(component, torch.nn.Module):
            state, found = component.state_dict(), loaded.components[name].state_dict()
            assert state.keys() == found.keys()
            assert all(torch.equal(state[key], found[key]) for key in state)
            assert not loaded.components[name].training
    assert torch.equal(latents_of(loaded, reference), latents_of(pipeline, reference))


def test_index_names_one_module_for_our_classes(saved):
    index = json.loads((saved[0] / "model_index.json").read_text())
    assert index["_class_name"] == "MagicMirrorPipeline"
    ours = {name: index[name] for name in ("transformer", "identity_perceiver", "face_perceiver", "identity_fusion")}
    assert {module for module, _ in ours.values()} == {"magicmirror.pipeline.components"}
    assert ours["transformer"][1] == "MagicMirrorTransformer3DModel"
    assert index["vae"] == ["diffusers", "AutoencoderKLCogVideoX"]


def test_components_can_be_given(saved, reference):
    folder, pipeline = saved
    transformer = MagicMirrorTransformer3DModel.from_pretrained(folder, subfolder="transformer")
    loaded = MagicMirrorPipeline.from_pretrained(folder, transformer=transformer)
    assert loaded.transformer is transformer
    loaded.transformer = pipeline.transformer
    assert loaded.config["transformer"] == ("magicmirror.pipeline.components", "MagicMirrorTransformer3DModel")


def test_half_precision_files_load_in_full_precision(saved, tmp_path, make_pipeline):
    half = make_pipeline().to(dtype=torch.float16, silence_dtype_warnings=True)
    half.save_pretrained(tmp_path)
    loaded = MagicMirrorPipeline.from_pretrained(tmp_path, dtype=torch.float32)
    for name, component in loaded.components.items():
        if isinstance(component, torch.nn.Module):
            assert component.dtype == torch.float32, name
    state = load_file(tmp_path / "transformer" / "diffusion_pytorch_model.safetensors")
    assert state["proj_out.weight"].dtype == torch.float16
    assert torch.equal(loaded.transformer.proj_out.weight, state["proj_out.weight"].float())


def test_a_folder_without_pipeline_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"no model_index\.json.*saved MagicMirrorPipeline"):
        MagicMirrorPipeline.from_pretrained(tmp_path)


def test_it_is_a_diffusers_pipeline(saved):
    pipeline = saved[1]
    assert isinstance(pipeline, DiffusionPipeline)
    order = MagicMirrorPipeline.model_cpu_offload_seq.split("->")
    networks = {name for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    assert set(order) == networks
    assert order[:3] == ["image_encoder", "identity_perceiver", "face_perceiver"]


def test_adapter_round_trip_is_exact(make_pipeline, reference, tmp_path):
    trained, other = make_pipeline(seed=0), make_pipeline(seed=0)
    with torch.no_grad():
        for module in (other.face_perceiver, other.identity_fusion):
            for parameter in module.parameters():
                parameter.zero_()
        for name, parameter in other.transformer.named_parameters():
            if other.transformer.is_adapter_key(name):
                parameter.zero_()
    expected = latents_of(trained, reference)
    assert not torch.equal(latents_of(other, reference), expected)
    trained.save_adapter(tmp_path / "adapter")
    other.load_adapter(tmp_path / "adapter")
    assert torch.equal(latents_of(other, reference), expected)
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]


def test_adapter_holds_what_is_trained_and_nothing_of_the_base(fresh_pipeline, tmp_path):
    fresh_pipeline.save_adapter(tmp_path)
    names = load_file(tmp_path / WEIGHTS_FILE).keys()
    transformer = {name.removeprefix("transformer.") for name in names if name.startswith("transformer.")}
    assert transformer == set(fresh_pipeline.transformer.adapter_state_dict())
    assert {name.split(".")[0] for name in names} == {"transformer", "face_perceiver", "identity_fusion"}


def change_version(folder):
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))


def change_size(folder):
    path = folder / CONFIG_FILE
    description = json.loads(path.read_text())
    description["transformer"]["num_face_tokens"] = 5
    path.write_text(json.dumps(description))


def drop_tensor(folder):
    state = load_file(folder / WEIGHTS_FILE)
    del state["transformer.identity_proj.weight"]
    save_file(state, folder / WEIGHTS_FILE)


def reshape_tensor(folder):
    state = load_file(folder / WEIGHTS_FILE)
    state["transformer.identity_proj.bias"] = torch.zeros(3)
    save_file(state, folder / WEIGHTS_FILE)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / WEIGHTS_FILE).unlink(),
            r"holds no adapter.*adapter\.safetensors and magicmirror_adapter\.json",
        ),
        (lambda folder: (folder / CONFIG_FILE).unlink(), "holds no adapter"),
        (lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"nonsense"), "cannot be read"),
        (lambda folder: (folder / CONFIG_FILE).write_text("{"), "not valid JSON"),
        (lambda folder: (folder / CONFIG_FILE).write_text("{}"), 'Expected "format": "magicmirror-adapter"'),
        (change_version, "format version 99, this program reads version 1"),
        (change_size, "num_face_tokens is 5, expected 4"),
        (drop_tensor, r"missing \['transformer.identity_proj.weight'\]"),
        (reshape_tensor, r"identity_proj.bias .*is \(3,\), expected \(8,\)"),
    ],
)
def test_wrong_adapter_is_refused_and_nothing_is_loaded(fresh_pipeline, make_pipeline, tmp_path, damage, message):
    make_pipeline(seed=50).save_adapter(tmp_path)
    damage(tmp_path)
    before = {name: value.clone() for name, value in fresh_pipeline.transformer.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        fresh_pipeline.load_adapter(tmp_path)
    after = fresh_pipeline.transformer.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_pipeline_in_half_precision_loads_in_single_and_runs(make_pipeline, reference, tmp_path):
    make_pipeline(seed=3).to(torch.float16).save_pretrained(tmp_path)
    loaded = MagicMirrorPipeline.from_pretrained(tmp_path)
    networks = [part for part in loaded.components.values() if isinstance(part, torch.nn.Module)]
    assert {network.dtype for network in networks} == {torch.float32}
    latents = loaded(
        "a man", [reference], height=32, width=32, num_frames=9, num_inference_steps=1, seed=0, output_type="latent"
    ).frames
    assert torch.isfinite(latents).all()


def test_a_pipeline_without_the_parts_that_a_call_does_not_need(saved, reference):
    folder, pipeline = saved
    reader = MagicMirrorPipeline.from_pretrained(folder, transformer=None, vae=None)
    with torch.no_grad():
        identity = reader.encode_identity([reference])
        text, negative = reader.encode_prompt("a man smiles", identity=identity, max_sequence_length=24)
        with pytest.raises(ConfigError, match=r"length of the text is unknown.*max_sequence_length"):
            reader.encode_prompt("a man smiles")
    painter = MagicMirrorPipeline.from_pretrained(folder, tokenizer=None, text_encoder=None)
    options = {"num_inference_steps": 2, "guidance_scale": 3.0, "seed": 0, "output_type": "latent"}
    given = {"prompt_embeds": text, "negative_prompt_embeds": negative}
    assert torch.equal(painter(references=[reference], **given, **options).frames, latents_of(pipeline, reference))
    faceless = MagicMirrorPipeline.from_pretrained(folder, image_encoder=None, vae=None)
    assert torch.equal(faceless("a man", **options).frames, pipeline("a man", **options).frames)
    for owner, changes, names in (
        (reader, {"prompt": "a man"}, "transformer"),
        (painter, {"prompt": "a man"}, "tokenizer, text_encoder"),
        (painter, {"prompt_embeds": text}, "tokenizer, text_encoder"),
        (faceless, {"prompt": "a man", "references": [reference]}, "image_encoder"),
        (faceless, {"prompt": "a man", "output_type": "np"}, "vae"),
    ):
        with pytest.raises(ConfigError, match=f"needs {names}, which the pipeline was loaded without"):
            owner(**{**options, **changes})


def test_weights_that_would_not_be_read_are_not_written(make_pipeline, tmp_path):
    with pytest.raises(ConfigError, match="from safetensors alone"):
        make_pipeline().save_pretrained(tmp_path / "saved", safe_serialization=False)
    assert not (tmp_path / "saved").exists()
