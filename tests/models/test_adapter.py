"""Adapter files: exact round trips, only what belongs in them, and refusals that change nothing."""

import errno
import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from magicmirror.errors import WeightsError
from magicmirror.models import adapter
from magicmirror.models.adapter import CONFIG_FILE, WEIGHTS_FILE, load_adapter, read_description, save_adapter


def copies(modules):
    """All tensors by part and name, as they are now."""
    return {
        f"{part}.{name}": value.clone()
        for part, module in modules.items()
        for name, value in module.state_dict().items()
    }


def same(modules, before):
    now = copies(modules)
    return now.keys() == before.keys() and all(torch.equal(now[name], value) for name, value in before.items())


@pytest.fixture
def saved(tiny, tmp_path):
    """Folder of an adapter of seed 10."""
    save_adapter(tmp_path / "adapter", tiny.adapter_modules(10), {"recipe": "stage1", "step": 7})
    return tmp_path / "adapter"


def test_round_trip_is_exact_and_leaves_the_base_alone(tiny, saved):
    written, modules = copies(tiny.adapter_modules(10)), tiny.adapter_modules(20)
    before = copies(modules)
    load_adapter(saved, modules)
    model = modules["transformer"]
    for name, value in copies(modules).items():
        part, _, rest = name.partition(".")
        of_base = part == "transformer" and not model.is_adapter_key(rest)
        assert torch.equal(value, before[name] if of_base else written[name]), name
        assert not torch.equal(before[name], written[name]), name


def test_file_holds_only_the_adapter(tiny, saved):
    names = load_file(saved / WEIGHTS_FILE).keys()
    modules = tiny.adapter_modules()
    assert {name.split(".")[0] for name in names} == set(modules)
    own = {name.removeprefix("transformer.") for name in names if name.startswith("transformer.")}
    assert own == modules["transformer"].adapter_state_dict().keys()
    assert sorted(path.name for path in saved.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]


def test_description_says_what_it_is(saved):
    description = json.loads((saved / CONFIG_FILE).read_text())
    assert description == read_description(saved)
    assert (description["format"], description["version"]) == ("magicmirror-adapter", 1)
    assert description["base_class"] == "CogVideoXTransformer3DModel"
    assert description["transformer"]["num_face_tokens"] == 3
    assert description["face_perceiver"]["num_queries"] == 3
    assert description["identity_fusion"] == {"identity_dim": 8, "text_dim": 12, "hidden_dim": 16}
    assert description["config"] == {"recipe": "stage1", "step": 7}


def test_transformer_saves_and_loads_its_part_alone(tiny, saved, tmp_path):
    model, other = tiny.model(seed=1), tiny.model(seed=2)
    model.save_adapter(tmp_path / "alone")
    assert {name.split(".")[0] for name in load_file(tmp_path / "alone" / WEIGHTS_FILE)} == {"transformer"}
    other.load_adapter(tmp_path / "alone")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.adapter_state_dict().items())
    other.load_adapter(saved)  # takes its own part of a whole adapter
    trained = tiny.adapter_modules(10)["transformer"].adapter_state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in other.adapter_state_dict().items())


def test_same_prediction_after_the_round_trip(tiny, tmp_path):
    model = tiny.model()
    arguments = {**tiny.inputs(model), **tiny.identity(model)}
    expected = tiny.predict(model, **arguments)
    model.save_adapter(tmp_path)
    model.reset_adapter()
    assert not torch.equal(tiny.predict(model, **arguments), expected)
    model.load_adapter(tmp_path)
    assert torch.equal(tiny.predict(model, **arguments), expected)


def test_values_take_the_dtype_of_the_modules(tiny, saved):
    modules = tiny.adapter_modules()
    for module in modules.values():
        torch.nn.Module.to(module, torch.bfloat16)
    load_adapter(saved, modules)
    written = load_file(saved / WEIGHTS_FILE)["transformer.identity_proj.weight"]
    weight = modules["transformer"].identity_proj.weight
    assert weight.dtype == torch.bfloat16 and torch.equal(weight, written.bfloat16())


def test_sizes_that_the_adapter_does_not_depend_on_may_differ(tiny, saved):
    tiny.model("rotary and learned", sample_width=16, sample_height=16, sample_frames=25).load_adapter(saved)


def drop(folder, name):
    state = load_file(folder / WEIGHTS_FILE)
    save_file({key: value for key, value in state.items() if key != name}, folder / WEIGHTS_FILE)


def put(folder, name, value):
    save_file({**load_file(folder / WEIGHTS_FILE), name: value}, folder / WEIGHTS_FILE)


def describe(folder, **changes):
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def truncate(folder):
    content = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(content[: len(content) // 2])


def of_other_size(folder):
    sizes = json.loads((folder / CONFIG_FILE).read_text())["transformer"]
    describe(folder, transformer={**sizes, "num_face_tokens": 32, "identity_dim": 2048})


BIAS = "transformer.identity_proj.bias"
DAMAGES = [
    (
        lambda folder: (folder / WEIGHTS_FILE).unlink(),
        rf"holds no adapter: {WEIGHTS_FILE} not found. Expected {WEIGHTS_FILE} and",
    ),
    (lambda folder: (folder / CONFIG_FILE).unlink(), rf"holds no adapter: {CONFIG_FILE} not found"),
    (lambda folder: (folder / CONFIG_FILE).write_text("{"), "is not valid JSON"),
    (
        lambda folder: (folder / CONFIG_FILE).write_text("[]"),
        'format" is None. Expected "format": "magicmirror-adapter"',
    ),
    (lambda folder: describe(folder, format="lora"), 'format" is \'lora\'. Expected "format": "magicmirror-adapter"'),
    (lambda folder: describe(folder, version=2), "has format version 2, this program reads version 1"),
    (lambda folder: describe(folder, base_class="WanTransformer3DModel"), "WanTransformer3DModel, expected CogVideoX"),
    (of_other_size, "another transformer: identity_dim is 2048, expected 8, num_face_tokens is 32, expected 3"),
    (lambda folder: describe(folder, identity_fusion=None), "has no part identity_fusion. Expected one"),
    (lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"nonsense"), "cannot be read.*Expected a safetensors file"),
    (truncate, "cannot be read.*Expected a safetensors file"),
    (lambda folder: drop(folder, BIAS), rf"missing \['{BIAS}'\] \(1\), unknown \[\] \(0\). Expected exactly the"),
    (lambda folder: put(folder, "identity_fusion.more", torch.zeros(1)), r"unknown \['identity_fusion.more'\] \(1\)"),
    (
        lambda folder: put(folder, BIAS, torch.zeros(10, dtype=torch.int8)),
        rf"{BIAS} in .* holds whole numbers \(int8\)",
    ),
    (lambda folder: put(folder, BIAS, torch.full((10,), torch.nan)), rf"{BIAS} in .* holds NaN or infinity as float32"),
    (lambda folder: put(folder, BIAS, torch.full((10,), -torch.inf).half()), rf"{BIAS} .* NaN or infinity as float16"),
    (lambda folder: put(folder, BIAS, torch.zeros(4)), rf"{BIAS} in .* is \(4,\), expected \(10,\)"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_wrong_files_are_refused_and_nothing_changes(tiny, saved, damage, message):
    damage(saved)
    modules = tiny.adapter_modules(20)
    before = copies(modules)
    with pytest.raises(WeightsError, match=message):
        load_adapter(saved, modules)
    assert same(modules, before)


def test_a_value_too_large_for_the_type_of_the_modules_is_refused(tiny, saved):
    put(saved, BIAS, torch.full((10,), 1e5))
    modules = tiny.adapter_modules(20)
    for module in modules.values():
        torch.nn.Module.to(module, torch.float16)
    before = copies(modules)
    with pytest.raises(WeightsError, match=rf"{BIAS} in .* holds NaN or infinity as float16. Take an earlier"):
        load_adapter(saved, modules)
    assert same(modules, before)


def test_a_changed_value_is_noticed(tiny, saved):
    content = bytearray((saved / WEIGHTS_FILE).read_bytes())
    content[-1] ^= 1
    (saved / WEIGHTS_FILE).write_bytes(content)
    modules = tiny.adapter_modules(20)
    before = copies(modules)
    with pytest.raises(WeightsError, match=r"is damaged, or belongs to another adapter.*download the adapter again"):
        load_adapter(saved, modules)
    assert same(modules, before)


def test_the_weights_are_an_adapter_on_their_own(tiny, saved, tmp_path):
    expected = tiny.adapter_modules(20)
    load_adapter(saved, expected)
    alone = (saved / WEIGHTS_FILE).rename(tmp_path / "somebody.safetensors")
    description = json.loads((saved / CONFIG_FILE).read_text())
    del description["sha256"]
    assert read_description(alone) == description
    modules = tiny.adapter_modules(20)
    load_adapter(alone, modules)
    assert same(modules, copies(expected))
    save_file({"a": torch.zeros(1)}, alone)
    with pytest.raises(WeightsError, match="nothing in it says what it was made for"):
        load_adapter(alone, modules)


def test_last_part_that_does_not_fit_keeps_the_first_from_changing(tiny, saved):
    put(saved, "identity_fusion.mlp.2.bias", torch.zeros(99))
    modules = tiny.adapter_modules(20)
    before = copies(modules)
    with pytest.raises(WeightsError, match=r"identity_fusion.mlp.2.bias .* is \(99,\), expected \(12,\)"):
        load_adapter(saved, modules)
    assert same(modules, before)


def test_folder_that_does_not_exist_is_refused(tiny, tmp_path):
    with pytest.raises(WeightsError, match=f"nowhere holds no adapter: {WEIGHTS_FILE} and {CONFIG_FILE} not found"):
        tiny.model().load_adapter(tmp_path / "nowhere")


def test_part_that_was_not_saved_is_refused(tiny, tmp_path):
    modules = tiny.adapter_modules()
    modules["transformer"].save_adapter(tmp_path)
    with pytest.raises(WeightsError, match="has no part face_perceiver"):
        load_adapter(tmp_path, modules)


def test_failed_write_keeps_the_old_adapter_and_leaves_no_rubbish(tiny, saved, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full_disk(tensors, filename, metadata=None):
        with open(filename, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(adapter, "save_file", full_disk)
    with pytest.raises(WeightsError, match="disk is full"):
        save_adapter(saved, tiny.adapter_modules(30))
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_record_that_is_no_json_writes_nothing(tiny, tmp_path):
    with pytest.raises(TypeError):
        save_adapter(tmp_path, tiny.adapter_modules(), {"device": torch.device("cpu")})
    assert os.listdir(tmp_path) == []
