"""A damaged copy is refused in one sentence that names the part, whether it is a saved pipeline or a published base."""

import inspect
import json
import shutil
import struct
import time

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.models.adapter import CONFIG_FILE, check_base
from magicmirror.models.presets import model_preset
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.pipeline.assembly import STOCK_NETWORKS
from magicmirror.pipeline.completeness import check_networks
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from tests.tiny_published import TINY, publish, same_weights


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


NETWORKS = [
    *("text_encoder", "vae", "transformer", "image_encoder"),
    *("identity_perceiver", "face_perceiver", "identity_fusion"),
]


def change(file, edit):
    """Write a file of weights again, with what ``edit`` makes of its tensors."""
    tensors = load_file(file)
    save_file(dict(pair for name, value in tensors.items() for pair in edit(name, value)), file, {"format": "pt"})


@pytest.mark.parametrize("part", NETWORKS)
def test_tensors_of_other_names_shapes_and_types_are_refused(saved, copy, part):
    """They hold as many values as they should, and the libraries would put random ones in their place."""
    file = weights(copy / part)
    last = sorted(load_file(file))[-1]

    def damage(**parts):
        shutil.copy(weights(saved / part), file)
        change(file, lambda name, value: [parts["to"](name, value) if name == last else (name, value)])

    damage(to=lambda name, value: (f"other.{name}", value))
    with pytest.raises(
        WeightsError,
        match=rf"/{part} is not complete: it lacks {last} \(1 in all\) in {file.name}, which holds other\.{last} \(1 ",
    ):
        MagicMirrorPipeline.from_pretrained(copy)
    damage(to=lambda name, value: (name, value[None, None].contiguous()))
    with pytest.raises(
        WeightsError, match=rf"/{part} does not fit its config\.json: {last} in {file.name} is \(1, 1, "
    ):
        MagicMirrorPipeline.from_pretrained(copy)
    damage(to=lambda name, value: (name, value.int()))
    with pytest.raises(WeightsError, match=rf"/{part}/{file.name} is damaged: {last} holds whole numbers \(I32\)"):
        MagicMirrorPipeline.from_pretrained(copy)


@pytest.mark.parametrize("part", NETWORKS)
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_values_that_are_no_numbers_are_refused(copy, part, wrong):
    file = weights(copy / part)
    last = sorted(load_file(file))[-1]
    change(file, lambda name, value: [(name, spoilt(value, wrong) if name == last else value)])
    with pytest.raises(WeightsError, match=rf"/{part} is damaged: {last} holds NaN or infinity as float32. Copy or"):
        MagicMirrorPipeline.from_pretrained(copy)


def spoilt(value, wrong):
    """A tensor with one such value in it."""
    value.view(-1)[-1] = wrong
    return value


def test_published_values_that_are_no_numbers_are_refused(published, tmp_path):
    root = shutil.copytree(published, tmp_path / "published")
    options = {"adapter": root / "adapter", "identity_encoder": root / "photomaker", "preset": TINY}
    pickled = torch.load(root / "photomaker/photomaker-v2.bin", weights_only=True)
    whole = pickled["id_encoder"]["qformer_perceiver.token_proj.2.bias"]
    for value, reason in (
        (spoilt(whole.clone(), torch.nan), r"token_proj\.2\.bias holds NaN"),
        (whole.int(), r"1 of whole numbers \(as token_proj\.2\.bias\)"),
    ):
        pickled["id_encoder"]["qformer_perceiver.token_proj.2.bias"] = value
        torch.save(pickled, root / "photomaker/photomaker-v2.bin")
        with pytest.raises(WeightsError, match=reason):
            MagicMirrorPipeline.from_pretrained(root / "base", **options, cache_dir=tmp_path / "cache")
    change(weights(root / "base/vae"), lambda name, value: [(name, value * 1e6)])
    with pytest.raises(WeightsError, match=r"/vae is damaged: .* holds NaN or infinity as float16\. .*or take another"):
        MagicMirrorPipeline.from_pretrained(root / "base", **options, dtype=torch.float16)


def test_what_the_libraries_tolerate_is_no_damage(saved, copy):
    change(
        weights(copy / "text_encoder"), lambda name, value: [(name.replace("shared", "encoder.embed_tokens"), value)]
    )
    change(weights(copy / "image_encoder"), lambda name, value: [(f"vision_model.{name}", value)])
    change(weights(copy / "vae"), lambda name, value: [(name, value), (f"more.{name}", value.clone())])
    assert same_weights(MagicMirrorPipeline.from_pretrained(copy), MagicMirrorPipeline.from_pretrained(saved))


def test_every_set_of_weights_in_a_folder_is_whole(copy):
    """With an index and a file alone the libraries differ in which they take."""
    folder = copy / "transformer"
    alone = weights(folder)
    MagicMirrorTransformer3DModel.from_pretrained(folder).save_pretrained(folder / "more", max_shard_size="20KB")
    for file in (folder / "more").iterdir():
        file.replace(folder / file.name)
    MagicMirrorPipeline.from_pretrained(copy)
    without(alone)
    with pytest.raises(WeightsError, match=rf"transformer is not complete: .* in {alone.name}"):
        MagicMirrorPipeline.from_pretrained(copy)
    alone.unlink()
    MagicMirrorPipeline.from_pretrained(copy)
    without(next(folder.glob("*-00002-of-*")))
    with pytest.raises(WeightsError, match=r"transformer is not complete: .* in .*index\.json"):
        MagicMirrorPipeline.from_pretrained(copy)
    (folder / f"{alone.name}.index.json").unlink()
    with pytest.raises(
        WeightsError, match=r"transformer cannot be loaded: it has no weights in safetensors, only .*-0000"
    ):
        MagicMirrorPipeline.from_pretrained(copy)


def test_full_size_networks_are_compared_by_their_headers(tmp_path):
    """Sparse files of the sizes of CogVideoX-5B: 20 GB that nobody reads."""
    sizes = model_preset("cogvideox-5b")
    known = inspect.signature(CogVideoXTransformer3DModel.__init__).parameters
    with torch.device("meta"):
        text_encoder = T5EncoderModel(T5Config(**sizes.text_encoder, tie_word_embeddings=False))
        transformer = CogVideoXTransformer3DModel(**{k: v for k, v in sizes.transformer.items() if k in known})
    text_encoder.config.save_pretrained(tmp_path / "text_encoder")
    transformer.save_config(tmp_path / "transformer")
    tensors = {name: value for name, value in text_encoder.state_dict().items() if "embed_tokens" not in name}
    sparse(tmp_path / "text_encoder/model.safetensors", tensors)
    sparse(tmp_path / "transformer/diffusion_pytorch_model.safetensors", transformer.state_dict())
    networks = {name: STOCK_NETWORKS[name] for name in ("text_encoder", "transformer")}
    start = time.perf_counter()
    check_networks(tmp_path, networks)
    assert time.perf_counter() - start < 20  # it takes one second
    name = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight"
    sparse(tmp_path / "text_encoder/model.safetensors", {k: v for k, v in tensors.items() if k != name})
    with pytest.raises(WeightsError, match=rf"text_encoder is not complete: it lacks {name} \(1 in all\)"):
        check_networks(tmp_path, networks)


def sparse(file, tensors):
    """A file of weights with these names and shapes in bfloat16, whose values take no space."""
    header, end = {}, 0
    for name, value in tensors.items():
        start, end = end, end + 2 * value.numel()
        header[name] = {"dtype": "BF16", "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with file.open("wb") as target:
        target.write(struct.pack("<Q", len(text)) + text)
        target.truncate(8 + len(text) + end)


@pytest.mark.parametrize(("part", "setting"), [("transformer", "num_layers"), ("text_encoder", "num_layers")])
def test_a_configuration_that_asks_for_less_than_was_saved_is_refused(copy, part, setting):
    """The libraries would load the first layers and say so in their logs alone."""
    config = json.loads((copy / part / "config.json").read_text())
    (copy / part / "config.json").write_text(json.dumps(config | {setting: config[setting] - 1}))
    with pytest.raises(WeightsError, match=rf"{part} does not fit its config\.json, which has no place for \S+block"):
        MagicMirrorPipeline.from_pretrained(copy)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ([], "damaged: list indices"),
        ({"weight_map": []}, "damaged: 'list' object"),
        ({}, "damaged: there is no entry 'weight_map'"),
        ({"weight_map": {"a": 3}}, "damaged: "),
        ({"weight_map": {"a": ["x"]}}, "damaged: unhashable"),
        ({"weight_map": {"a": "../vae/model.safetensors"}}, r"damaged: \.\./vae/\S+ is no name of a file beside it"),
        ({"weight_map": {"a": "none.safetensors"}}, r"not complete: none\.safetensors is missing"),
        ({"weight_map": {}}, "not complete: it lacks"),
        ({"weight_map": {"a": "config.json"}}, r"config\.json is damaged"),
        ({"weight_map": {"a": "shard.safetensors"}}, "cannot be loaded: there is no entry 'metadata'"),
    ],
)
def test_an_index_that_is_none_is_refused(copy, index, reason):
    file = weights(copy / "transformer")
    file.rename(file.with_name("shard.safetensors"))
    file.with_name(f"{file.name}.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=rf"{reason}.*Copy or download it again"):
        MagicMirrorPipeline.from_pretrained(copy)


@pytest.mark.parametrize("header", ["F16", "Q4", "I32"])
def test_a_header_that_lies_about_its_types_is_refused(copy, header):
    file = weights(copy / "transformer")
    content = file.read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    told = json.loads(content[8:end])
    told["proj_out.weight"]["dtype"] = header
    text = json.dumps(told).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[end:])
    with pytest.raises(WeightsError, match=rf"{file.name} is damaged: .*Copy or download it again"):
        MagicMirrorPipeline.from_pretrained(copy)


def test_of_several_variants_in_a_folder_the_one_asked_for_is_taken(copy, fresh_pipeline):
    fresh_pipeline.to(torch.float16).save_pretrained(copy, variant="fp16")
    plain, half = (MagicMirrorPipeline.from_pretrained(copy, variant=name) for name in (None, "fp16"))
    weight, original = half.transformer.proj_out.weight, plain.transformer.proj_out.weight
    assert torch.equal(weight, original.half().float()) and not torch.equal(weight, original)
    weights(copy / "vae").with_name("diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"vae cannot be loaded: .*, only \S+fp16.* or give the variant"):
        MagicMirrorPipeline.from_pretrained(copy)


def test_a_variant_that_no_part_has_is_refused(saved, published):
    stock = {"adapter": published / "adapter", "identity_encoder": published / "photomaker", "preset": TINY}
    for base, options in ((saved, {}), (published / "base", stock)):
        with pytest.raises(WeightsError, match=r"No part of .* has the variant fp8\. Leave it out"):
            MagicMirrorPipeline.from_pretrained(base, variant="fp8", **options)


def test_links_are_followed_and_a_link_to_nowhere_is_a_missing_file(copy, tmp_path):
    (tmp_path / "store").mkdir()
    for number, file in enumerate([path for path in copy.rglob("*") if path.is_file()]):
        shutil.move(file, tmp_path / "store" / str(number))
        file.symlink_to(tmp_path / "store" / str(number))
    (tmp_path / "link").symlink_to(copy)
    MagicMirrorPipeline.from_pretrained(tmp_path / "link")
    weights(copy / "vae").resolve().unlink()
    with pytest.raises(WeightsError, match="vae cannot be loaded: it has no weights"):
        MagicMirrorPipeline.from_pretrained(tmp_path / "link")


@pytest.mark.parametrize(
    ("name", "component", "reason"),
    [
        ("vae", "x", "is a str, expected AutoencoderKLCogVideoX"),
        ("vae", torch.nn.Linear(1, 1), "is a Linear, expected AutoencoderKLCogVideoX"),
        ("scheduler", "ddim", "is a str, expected the component itself"),
    ],
)
def test_what_is_no_component_is_refused(saved, published, name, component, reason):
    stock = {"adapter": published / "adapter", "identity_encoder": published / "photomaker", "preset": TINY}
    for base, options in ((saved, {}), (published / "base", stock)):
        with pytest.raises(ConfigError, match=f"The component {name} {reason}"):
            MagicMirrorPipeline.from_pretrained(base, **options, **{name: component})
    reader = MagicMirrorPipeline.from_pretrained(published / "base", **stock, text_encoder=None, vae=None)
    assert reader.text_encoder is None and reader.vae is None and reader.transformer is not None
    with pytest.raises(ConfigError, match="3 is no preset"):
        MagicMirrorPipeline.from_pretrained(saved, preset=3)


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
