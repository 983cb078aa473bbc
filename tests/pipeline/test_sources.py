"""Where weights come from: paths and ids told apart, which files are needed, what is found before anything is read."""

import json
import os

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from safetensors.torch import load_file

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.pipeline.sources import (
    component_weights,
    folder_hash,
    origin,
    pipeline_class,
    split_source,
)
from tests.tiny_published import TINY, publish, same_weights


@pytest.fixture
def published(fresh_pipeline, tmp_path):
    return publish(tmp_path, fresh_pipeline)


def load(base, encoder, adapter, **changes):
    return MagicMirrorPipeline.from_pretrained(base, adapter=adapter, identity_encoder=encoder, preset=TINY, **changes)


def in_shards(base, variant=None):
    """Write the base's transformer again, in three shards or more."""
    model = CogVideoXTransformer3DModel.from_pretrained(base, subfolder="transformer")
    for path in (base / "transformer").iterdir():
        path.unlink()
    model.save_pretrained(base / "transformer", max_shard_size="20KB", variant=variant)
    return sorted((base / "transformer").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("owner/name", ("owner/name", None)),
        ("owner/name@v1.0", ("owner/name", "v1.0")),
        ("owner/name@refs/pr/3", ("owner/name", "refs/pr/3")),
        ("zai-org/CogVideoX1.5-5B", ("zai-org/CogVideoX1.5-5B", None)),
    ],
)
def test_ids(source, expected):
    assert split_source(source) == expected
    assert split_source(source, "main") == (expected[0], expected[1] or "main")


def test_paths_are_not_taken_for_ids(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    for source in ("runs/adapter", "./runs/adapter", "runs", "name", "/a/b", "a/b/c", str(tmp_path / "none")):
        assert split_source(source).as_posix() == source.removeprefix("./")


def test_what_is_recorded_names_no_local_folder(tmp_path):
    assert origin(str(tmp_path / "secret" / "base"), tmp_path / "secret" / "base") == "local:base"
    assert origin("owner/name@main", tmp_path / ("1f" * 20)) == "owner/name@" + "1f" * 20


def test_hash_of_a_file_alone_is_of_its_name_and_content(published):
    weights = published[2] / "magicmirror_adapter.safetensors"
    before = folder_hash(weights)
    assert before.startswith("sha256:") and before == folder_hash(weights) != folder_hash(published[2])
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert folder_hash(weights) != before


def test_weights_of_one_variant():
    names = [
        "config.json",
        "model.bin",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.fp16.safetensors",
        "model.safetensors.index.bf16.json",
        "model.bf16-00001-of-00001.safetensors",
        "other.non_ema.safetensors",
    ]
    assert component_weights(names, None) == names[2:5]
    assert component_weights(names, "fp16") == names[5:6]
    assert component_weights(names, "bf16") == names[6:8]
    assert component_weights(names, "fp8") == names[2:5]


def test_shards_and_variants_load(published, fresh_pipeline):
    base, encoder, adapter = published
    assert len(in_shards(base)) >= 3
    assert same_weights(load(base, encoder, adapter), fresh_pipeline)
    # A plain part beside one that has the variant, as repositories mix them.
    assert len(in_shards(base, "fp16")) >= 3
    assert same_weights(load(base, encoder, adapter, variant="fp16"), fresh_pipeline)
    with pytest.raises(WeightsError, match=r"transformer cannot be loaded: .*Copy or download it again"):
        load(base, encoder, adapter)


def test_a_missing_and_a_cut_off_shard_are_named(published):
    base, encoder, adapter = published
    shard = in_shards(base)[0]
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(WeightsError, match=rf"not complete: {shard.name} is missing \(1 in all\)"):
        load(base, encoder, adapter)
    shard.write_bytes(content[:-8])
    with pytest.raises(WeightsError, match=rf"{shard.name} is damaged: .*Copy or download it again"):
        load(base, encoder, adapter)
    shard.write_bytes(content)
    (base / "transformer/diffusion_pytorch_model.safetensors.index.json").write_text("{")
    with pytest.raises(WeightsError, match=r"index\.json is damaged"):
        load(base, encoder, adapter)


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("transformer", {"num_layers": 30}, "num_layers is 30, expected 3"),
        ("transformer", {"patch_size_t": 2}, "patch_size_t is 2, expected None"),
        ("text_encoder", {"d_model": 48}, "d_model of its text_encoder is 48, expected 16"),
        ("vae", {"latent_channels": 8}, "latent_channels of its vae is 8, expected 4"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_they_are_read(published, part, change, reason):
    base, encoder, adapter = published
    path = base / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(WeightsError, match=f"does not fit what was asked for: {reason}"):
        load(base, encoder, adapter)


def test_another_class_and_another_size_are_refused(published):
    base, encoder, adapter = published
    arguments = {"adapter": adapter, "identity_encoder": encoder}
    with pytest.raises(WeightsError, match=r"no adapter is designed for.*cogvideox-5b"):
        MagicMirrorPipeline.from_pretrained(base, **arguments)
    assert pipeline_class(str(base)) == "CogVideoXPipeline"
    index = base / "model_index.json"
    index.write_text(index.read_text().replace("CogVideoXPipeline", "CogVideoXImageToVideoPipeline"))
    with pytest.raises(WeightsError, match="is a CogVideoXImageToVideoPipeline, expected a CogVideoXPipeline"):
        MagicMirrorPipeline.from_pretrained(base, **arguments)
    index.write_text("[]")
    with pytest.raises(WeightsError, match=r"model_index\.json is damaged"):
        MagicMirrorPipeline.from_pretrained(base, **arguments)


def test_without_an_adapter_nothing_is_loaded(published):
    with pytest.raises(WeightsError, match=r"needs adapter weights.*docs/training\.md"):
        load(*published[:2], None)


def test_components_precision_and_an_adapter_in_one_file(published, fresh_pipeline):
    base, encoder, adapter = published
    text_encoder = fresh_pipeline.text_encoder
    weights = adapter / "magicmirror_adapter.safetensors"
    loaded = load(str(base), encoder, weights, text_encoder=text_encoder, dtype=torch.bfloat16, device="cpu")
    assert loaded.text_encoder is text_encoder
    assert loaded.transformer.dtype == loaded.vae.dtype == loaded.image_encoder.dtype == torch.bfloat16
    assert loaded.provenance == {"base": "local:base", "adapter": folder_hash(weights)}
    with pytest.raises(ConfigError, match=r"no component low_memory, upscaler\. They are tokenizer, "):
        load(base, encoder, weights, upscaler=text_encoder, low_memory=True)


def test_the_encoder_is_converted_once_and_anew_when_the_file_changes(published, fresh_pipeline, tmp_path, caplog):
    base, encoder, adapter = published
    cache = tmp_path / "cache"

    def converted():
        return sorted((cache / "magicmirror").glob("*.safetensors"))

    load(base, encoder, adapter, cache_dir=cache)
    (kept,) = converted()
    names = load_file(kept).keys()
    assert names and all(name.startswith(("vision_model.", "qformer_perceiver.")) for name in names)
    pickled = encoder / "photomaker-v2.bin"
    before, kept_time = pickled.stat(), kept.stat().st_mtime_ns
    pickled.write_bytes(b"?" * before.st_size)  # which nobody reads any more

    os.utime(pickled, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert same_weights(load(base, encoder, adapter, cache_dir=cache), fresh_pipeline)
    assert kept.stat().st_mtime_ns == kept_time
    assert same_weights(load(base, kept, adapter), fresh_pipeline)  # and it is an encoder on its own
    os.utime(pickled)
    with pytest.raises(WeightsError, match=r"photomaker-v2\.bin cannot be read as PhotoMaker-V2's encoder"):
        load(base, encoder, adapter, cache_dir=cache)
    os.utime(pickled, ns=(before.st_atime_ns, before.st_mtime_ns))
    kept.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="cannot be read"):
        load(base, encoder, adapter, cache_dir=cache)
    assert "is damaged" in caplog.text and "is made anew" in caplog.text
