"""The parameter table: complete, near the paper's totals, the same in the documentation, and free of memory."""

import pytest
from diffusers import AutoencoderKLCogVideoX
from transformers import CLIPVisionConfig, CLIPVisionModel, T5Config, T5EncoderModel

from magicmirror.errors import ConfigError
from magicmirror.models.fusion import IdentityFusion
from magicmirror.models.parameters import parameter_counts, parameter_table
from magicmirror.models.perceiver import FacePerceiver, IdentityPerceiver
from magicmirror.models.presets import model_preset, preset_names
from magicmirror.models.transformer import MagicMirrorTransformer3DModel


@pytest.fixture(scope="module")
def tables():
    return {name: parameter_table(name) for name in preset_names()}


@pytest.fixture(scope="module")
def full():
    return {part.name.split(",")[0].split(" (")[0]: part for part in parameter_counts("cogvideox-5b")}


def linear(inputs, outputs):
    return (inputs + 1) * outputs


def test_full_size_by_hand(full):
    layers, width, time, tokens, projected, hidden = 21, 3072, 512, 2048, 512, 1024
    assert full["CAN"].count == layers * (linear(time + projected + width, hidden) + linear(hidden, 12 * width))
    assert full["Face modulation"].count == layers * linear(time, 6 * width)
    assert full["Cross-attention keys and values"].count == layers * 2 * linear(width, width)
    assert full["Global projection of the ID tokens"].count == linear(2 * tokens, projected)
    assert full["Null ID and face tokens"].count == 2 * tokens + 32 * width
    assert full["Diffusion transformer"].count == 5_570_283_072  # THUDM/CogVideoX-5b
    assert full["Text encoder"].count == 4_762_310_656  # google/t5-v1_1-xxl, encoder


def test_full_size_has_the_totals_of_the_paper(full):
    base = sum(part.count for part in full.values() if part.group == "base")
    assert round(base / 1e9, 1) == 10.5
    assert round(sum(part.count for part in full.values()) / 1e9, 1) == 12.8


def test_trained_parts_are_what_an_adapter_file_holds(full):
    assert {part.group for part in full.values() if part.trained} == {"adapter"}
    assert {part.trained for part in full.values() if part.group == "adapter"} == {True}


def test_preview_counts_every_parameter_once():
    sizes = model_preset("preview")
    networks = [
        MagicMirrorTransformer3DModel(**sizes.transformer),
        T5EncoderModel(T5Config(**sizes.text_encoder)),
        AutoencoderKLCogVideoX(**sizes.vae),
        CLIPVisionModel(CLIPVisionConfig(**sizes.image_encoder)),
        IdentityPerceiver(**sizes.identity_perceiver),
        FacePerceiver(**sizes.face_perceiver),
        IdentityFusion(**sizes.identity_fusion),
    ]
    real = sum(parameter.numel() for network in networks for parameter in network.parameters())
    assert sum(part.count for part in parameter_counts("preview")) == real
    assert 2 * real < 32 * 2**20  # half precision, the limit of the embedded model


def test_documentation_holds_the_tables(tables, repository):
    page = (repository / "docs" / "parameters.md").read_text(encoding="utf-8")
    for name, table in tables.items():
        assert table in page
        assert f"python -m magicmirror parameters --preset {name}" in page


def test_table_shows_the_published_totals_only_where_they_belong(tables):
    assert "**10,548,177,635** | no | 10.5 B |" in tables["cogvideox-5b"]
    assert "12.8 B" in tables["cogvideox-5b"] and " B |" not in tables["preview"]


def test_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match=r"'huge'.*cogvideox-5b, cogvideox-1.5-5b, preview"):
        parameter_table("huge")
