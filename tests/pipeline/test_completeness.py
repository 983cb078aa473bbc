"""A damaged copy is refused in one sentence that names the part, whether it is a saved pipeline or a published base."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.models.adapter import CONFIG_FILE, check_base
from magicmirror.models.presets import model_preset
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from tests.tiny_published import TINY, publish


@pytest.fixture(scope="module")
def saved(make_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    make_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def published(make_pipeline, tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    publish(root, make_pipeline())
    return root


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "pipeline")


def without(file, count=1):
    """Take some tensors out of a file, as a copy has it that somebody has cut down."""
    tensors = load_file(file)
    for name in sorted(tensors)[-count:]:
        del tensors[name]
    save_file(tensors, file, {"format": "pt"})


def weights(folder):
    return next(folder.glob("*.safetensors"))


@pytest.mark.parametrize(
    "part", ["text_encoder", "vae", "transformer", "image_encoder", "identity_perceiver", "face_perceiver"]
)
def test_a_network_that_lacks_a_tensor_is_refused(copy, part):
    without(weights(copy / part))
    with pytest.raises(WeightsError, match=rf"{part} is not complete.*Copy or download"):
        MagicMirrorPipeline.from_pretrained(copy)


@pytest.mark.parametrize("part", ["text_encoder", "vae", "transformer"])
def test_a_published_base_that_lacks_a_tensor_is_refused(published, tmp_path, part):
    base = shutil.copytree(published / "base", tmp_path / "base")
    without(weights(base / part))
    with pytest.raises(WeightsError, match=rf"{part} is not complete: it lacks .+ \([12] in all\)"):
        MagicMirrorPipeline.from_pretrained(
            base, adapter=published / "adapter", identity_encoder=published / "photomaker", preset=TINY
        )


@pytest.mark.parametrize("text", ["oops", "[]", "null", '"x"', None])
@pytest.mark.parametrize("name", ["vae/config.json", "transformer/config.json", "scheduler/scheduler_config.json"])
def test_a_configuration_that_is_none_is_refused(copy, name, text):
    file = copy / name
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(WeightsError, match="Copy or download it again"):
        MagicMirrorPipeline.from_pretrained(copy)


@pytest.mark.parametrize("entry", [None, [None, None], "text", ["nowhere", "Vae"], ["diffusers", "NoSuchVae"]])
def test_an_index_that_names_no_class_is_refused(copy, entry):
    index = json.loads((copy / "model_index.json").read_text())
    if entry is None:
        del index["vae"]
    else:
        index["vae"] = entry
    (copy / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=r"cannot be loaded: .+ Copy or download"):
        MagicMirrorPipeline.from_pretrained(copy)


@pytest.mark.parametrize("changed", [{"num_layers": 42}, {"patch_size_t": 2}, {"num_attention_heads": 5}])
def test_an_adapter_for_another_base_is_refused_before_the_base_is_read(published, tmp_path, changed):
    adapter = shutil.copytree(published / "adapter", tmp_path / "adapter")
    described = json.loads((adapter / CONFIG_FILE).read_text())
    described["transformer"] |= changed
    (adapter / CONFIG_FILE).write_text(json.dumps(described))
    base = shutil.copytree(published / "base", tmp_path / "base")
    for part in ("text_encoder", "vae"):
        shutil.rmtree(base / part)  # it would be missed next
    with pytest.raises(WeightsError, match=f"made for another transformer: {next(iter(changed))} is"):
        MagicMirrorPipeline.from_pretrained(base, adapter=adapter, identity_encoder=published / "photomaker")


@pytest.mark.parametrize("name", ["cogvideox-5b", "cogvideox-1.5-5b"])
def test_an_adapter_fits_the_preset_it_was_made_for_and_no_other(name, tmp_path):
    config = model_preset(name).transformer
    made_for = {"transformer": {"patch_size_t": None, **config}}
    check_base(tmp_path, made_for, config)
    other = {**config, "patch_size_t": 2 if config.get("patch_size_t") is None else None}
    with pytest.raises(WeightsError, match="patch_size_t is"):
        check_base(tmp_path, made_for, other)


def test_a_tokenizer_without_words_is_refused(copy, published, tmp_path):
    shutil.rmtree(copy / "tokenizer")
    with pytest.raises(WeightsError, match="tokenizer has no vocabulary"):
        MagicMirrorPipeline.from_pretrained(copy)
    base = shutil.copytree(published / "base", tmp_path / "base")
    for file in (base / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(WeightsError, match="tokenizer has no vocabulary"):
        MagicMirrorPipeline.from_pretrained(
            base, adapter=published / "adapter", identity_encoder=published / "photomaker", preset=TINY
        )


def test_slips_show_before_anything_is_read(saved):
    for slip in ({"dtype": "int8"}, {"dtype": "bfloat"}, {"device": "gpu"}, {"device": "cuda:7"}, {"preset": "5B"}):
        with pytest.raises(ConfigError):
            MagicMirrorPipeline.from_pretrained(saved, **slip)
    assert MagicMirrorPipeline.from_pretrained(saved, dtype="bfloat16").transformer.dtype is torch.bfloat16


@pytest.mark.parametrize("name", ["a" * 300, "~nobody-of-this-name/adapter", "a/" + "b" * 300])
def test_names_that_cannot_be_looked_up_are_refused(saved, name):
    with pytest.raises(WeightsError):
        MagicMirrorPipeline.from_pretrained(saved, adapter=name, local_files_only=True)
    with pytest.raises(WeightsError):
        MagicMirrorPipeline.from_pretrained(name, local_files_only=True)
