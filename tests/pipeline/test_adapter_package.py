"""Adapter packages: what is read off them, what is in them, and that what is published loads again."""

import json

import pytest
import torch
from safetensors.torch import load_file

from magicmirror.cli.adapter import _table
from magicmirror.errors import ConfigError, WeightsError
from magicmirror.models.adapter import CONFIG_FILE, WEIGHTS_FILE, read_description, write_adapter
from magicmirror.pipeline.adapter_package import (
    CARD_FILE,
    PACKAGE_FILES,
    RECIPE_FILE,
    export_adapter,
    inspect_adapter,
    push_adapter,
)
from magicmirror.pipeline.hub import HubOptions
from tests.tiny_hub import TinyHub, use_hub
from tests.tiny_pipeline import build_pipeline

RECIPE = {"name": "stage2_videos", "learning_rate": 1e-5}


@pytest.fixture
def adapter(fresh_pipeline, tmp_path):
    fresh_pipeline.save_adapter(tmp_path / "adapter", {"recipe": RECIPE})
    return tmp_path / "adapter"


def parameters_of(pipeline):
    own = {name: value for name, value in pipeline.transformer.adapter_state_dict().items()}
    parts = {"transformer": own, "face_perceiver": pipeline.face_perceiver.state_dict()}
    parts["identity_fusion"] = pipeline.identity_fusion.state_dict()
    return {part: sum(value.numel() for value in state.values()) for part, state in parts.items()}


def test_what_is_read_off_an_adapter(adapter, fresh_pipeline):
    report = inspect_adapter(str(adapter))
    assert report.parts == parameters_of(fresh_pipeline)
    assert (report.version, report.dtypes, report.preset) == (1, ("F32",), None)
    assert report.num_bytes == (adapter / WEIGHTS_FILE).stat().st_size > 4 * sum(report.parts.values())
    assert report.sha256 == json.loads((adapter / CONFIG_FILE).read_text())["sha256"]
    assert report.settings["transformer"]["num_layers"] == 3 and report.record == {"recipe": RECIPE}
    assert inspect_adapter(str(adapter / WEIGHTS_FILE)) == report


@pytest.mark.parametrize("name", ["cogvideox-5b", "cogvideox-1.5-5b", "preview"])
def test_the_preset_is_found_by_the_settings(adapter, name):
    from magicmirror.models.presets import model_preset

    description = json.loads((adapter / CONFIG_FILE).read_text())
    sizes = {"patch_size_t": None, **model_preset(name).transformer}
    settings = description["transformer"]
    description["transformer"] = {key: sizes.get(key, value) for key, value in settings.items()}
    (adapter / CONFIG_FILE).write_text(json.dumps(description))
    assert inspect_adapter(str(adapter)).preset == name


def test_damage_is_seen(adapter):
    content = bytearray((adapter / WEIGHTS_FILE).read_bytes())
    content[-1] ^= 1
    (adapter / WEIGHTS_FILE).write_bytes(content)
    for act in (inspect_adapter, lambda source: export_adapter(source, adapter.parent / "package")):
        with pytest.raises(WeightsError, match="is damaged, or belongs to another adapter"):
            act(str(adapter))
    assert sorted(path.name for path in adapter.parent.iterdir()) == ["adapter"]


def test_a_description_of_other_types(adapter):
    """What the writer recorded is shown as it is; what is read from it must be what it should."""
    path = adapter / CONFIG_FILE
    whole = json.loads(path.read_text())
    for name, value in (("transformer", [1]), ("config", "stage2"), ("config", 3)):
        path.write_text(json.dumps({**whole, name: value}))
        with pytest.raises(WeightsError, match=rf'damaged: "{name}" is .*, expected an object\. Copy'):
            inspect_adapter(str(adapter))
    for record in (None, {}, {"recipe": None}, {"recipe": "stage2"}, {"recipe": {"name": "stage2"}}):
        path.write_text(json.dumps({**whole, "config": record}))
        report = inspect_adapter(str(adapter))
        assert report.record == (record or {})
        recipe = report.record.get("recipe")
        assert _table(report).splitlines()[-1].split(None, 1)[1] == ("stage2" if recipe else "not recorded")


@pytest.mark.parametrize("ending", ["", ".safetensors"])
def test_targets_that_cannot_be(adapter, fresh_pipeline, tmp_path, ending):
    (tmp_path / "file").write_text("")
    (tmp_path / f"link{ending}").symlink_to(tmp_path / "nowhere")
    cannot = [(f"file/out{ending}", "folder .* cannot be made"), (f"{'b' * 300}{ending}", "too long. Choose a shorter")]
    for name, reason in cannot:
        with pytest.raises(WeightsError, match=reason):
            export_adapter(str(adapter), tmp_path / name)
    with pytest.raises(ConfigError, match="exists already"):
        export_adapter(str(adapter), tmp_path / f"link{ending}")
    with pytest.raises(WeightsError, match=r"folder .*file.* cannot be made: .*Choose another"):
        fresh_pipeline.save_adapter(tmp_path / "file" / f"x{ending}")
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "file", f"link{ending}"}


def test_a_package_holds_adapter_card_and_recipe_and_nothing_else(adapter, tmp_path):
    (adapter / "portrait.jpg").write_bytes(b"somebody")
    report = export_adapter(str(adapter), tmp_path / "new/package", "bfloat16", "apache-2.0", "me/mirror")
    assert {path.name for path in (tmp_path / "new/package").iterdir()} == set(PACKAGE_FILES)
    assert report.dtypes == ("BF16",) and report.record == {"recipe": RECIPE}
    assert json.loads((tmp_path / "new/package" / RECIPE_FILE).read_text()) == RECIPE
    front, card = (tmp_path / "new/package" / CARD_FILE).read_text().removeprefix("---\n").split("\n---\n")
    assert "license: apache-2.0" in front and "pipeline_tag: text-to-video" in front and "base_model" not in front
    assert report.sha256 in card and 'adapter="me/mirror"' in card and '"stage2_videos"' in card
    assert all(f"| {part} | {count:,} |" in card for part, count in report.parts.items())
    with pytest.raises(ConfigError, match="exists already"):
        export_adapter(str(adapter), tmp_path / "new/package")
    with pytest.raises(ConfigError, match='Unknown dtype "int8"'):
        export_adapter(str(adapter), tmp_path / "other", "int8")


def test_half_precision_rounds_and_loads(adapter, fresh_pipeline, tmp_path):
    report = export_adapter(str(adapter), tmp_path / "half.safetensors", "float16")
    assert report.dtypes == ("F16",)
    other = build_pipeline(seed=4)
    other.load_adapter(tmp_path / "half.safetensors")
    for name, value in fresh_pipeline.transformer.adapter_state_dict().items():
        found = other.transformer.get_parameter(name)
        assert torch.equal(found, value.half().float()), name


@pytest.mark.parametrize(
    ("value", "dtype", "reason"),
    [
        (torch.full((8,), torch.nan), None, "NaN or infinity as float32"),
        (torch.full((8,), 1e5), "float16", "NaN or infinity as float16"),
        (torch.ones(8, dtype=torch.int64), "float16", r"whole numbers \(int64\)"),
    ],
)
def test_values_that_are_no_weights_are_not_exported(adapter, tmp_path, value, dtype, reason):
    weights = adapter / WEIGHTS_FILE
    description = read_description(adapter)
    write_adapter(adapter, {**load_file(weights), "transformer.identity_proj.bias": value}, description)
    with pytest.raises(WeightsError, match=rf"identity_proj.bias in .* holds {reason}"):
        export_adapter(str(adapter), tmp_path / "package", dtype)
    assert not (tmp_path / "package").exists()


def test_from_a_saved_pipeline_and_from_a_run(fresh_pipeline, adapter, tmp_path):
    fresh_pipeline.save_pretrained(tmp_path / "run/pipeline")
    (tmp_path / "run/pipeline" / RECIPE_FILE).write_text(json.dumps(RECIPE))
    report = export_adapter(str(tmp_path / "run"), tmp_path / "package")
    assert report.record == {"recipe": RECIPE} and report.dtypes == ("F32",)
    expected, found = load_file(adapter / WEIGHTS_FILE), load_file(tmp_path / "package" / WEIGHTS_FILE)
    assert expected.keys() == found.keys() and all(torch.equal(value, found[name]) for name, value in expected.items())
    (tmp_path / "run/pipeline" / RECIPE_FILE).write_text("oops")
    with pytest.raises(WeightsError, match=r"recipe\.json cannot be read: .*Mend or remove it"):
        export_adapter(str(tmp_path / "run"), tmp_path / "other")
    with pytest.raises(WeightsError, match="holds no adapter"):
        export_adapter(str(tmp_path / "run/pipeline/vae"), tmp_path / "other")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = TinyHub(tmp_path / "hub")
    use_hub(hub, monkeypatch, tmp_path / "cache")
    hub.writers = {"hf_mine"}
    yield hub
    hub.stop()


def test_what_is_published_loads_again(hub, adapter, tmp_path):
    address = push_adapter(str(adapter), "me/mirror", private=True, license_id="mit", token="hf_mine")
    assert address == f"{hub.url}/me/mirror"
    assert {path.name for path in (hub.root / "me/mirror").iterdir()} == set(PACKAGE_FILES)
    assert 'adapter="me/mirror"' in (hub.root / "me/mirror" / CARD_FILE).read_text()
    assert inspect_adapter("me/mirror", HubOptions()) == inspect_adapter(str(adapter))


def test_what_the_hub_refuses(hub, adapter):
    with pytest.raises(WeightsError, match=r"does not let you write to me/mirror.*hf auth login"):
        push_adapter(str(adapter), "me/mirror", token="hf_other")
    with pytest.raises(WeightsError, match="is no id of a repository"):
        push_adapter(str(adapter), "me/mirror/too", token="hf_mine")
    with pytest.raises(WeightsError, match=r"me/mirror has no branch v2\. Make it"):
        push_adapter(str(adapter), "me/mirror", revision="v2", token="hf_mine")
    for status, reason in (
        (403, "does not let you write to me/mirror"),
        (429, r"too many requests from here and does not take me/mirror now\. Wait"),
        (503, r"has a fault and does not take me/mirror now: status 503\. Run it again later\.$"),
        (418, "refused me/mirror: status 418"),
    ):
        hub.refused = {"/preupload/main": status}
        with pytest.raises(WeightsError, match=reason):
            push_adapter(str(adapter), "me/mirror", token="hf_mine")
    hub.refused = {}
    hub.card_error = '"license" must be one of [apache-2.0, ...]'
    with pytest.raises(
        WeightsError, match=r'refuses the model card for me/mirror: .*"license" must be one of.*\. Give'
    ):
        push_adapter(str(adapter), "me/mirror", license_id="mine", token="hf_mine")
    hub.stop()
    with pytest.raises(WeightsError, match=r"me/mirror could not be sent: .*Check the network"):
        push_adapter(str(adapter), "me/mirror", token="hf_mine")
