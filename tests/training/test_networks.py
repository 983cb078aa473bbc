"""Networks: the noise schedule, which parameters learn, and untrained networks from a seed."""

import math

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from torch import nn

from magicmirror.errors import ConfigError
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.training.networks import (
    SNR_SHIFT,
    fresh_pipeline,
    identity_objective,
    load_vae,
    noise_schedule,
    rotary_of,
    train_only,
)
from tests.tiny_pipeline import build_stock
from tests.tiny_training import generator, make_batch, make_config


def test_noise_schedule_is_the_shifted_one_with_zero_terminal_signal():
    start, end = math.sqrt(0.00085), math.sqrt(0.012)
    alpha, alphas = 1.0, []
    for step in range(1000):
        alpha *= 1 - (start + (end - start) * step / 999) ** 2
        alphas.append(alpha)
    alphas = [a / (SNR_SHIFT + (1 - SNR_SHIFT) * a) for a in alphas]
    signal = [math.sqrt(a) for a in alphas]
    signal = [(s - signal[-1]) * signal[0] / (signal[0] - signal[-1]) for s in signal]
    schedule = noise_schedule()
    expected = torch.tensor(signal, dtype=torch.float64).square()
    torch.testing.assert_close(schedule.alphas_cumprod.double(), expected, rtol=1e-4, atol=1e-6)
    assert schedule.alphas_cumprod[-1] == 0 and schedule.config.prediction_type == "v_prediction"


def test_rotary_tables_are_those_of_the_denoising_loop(trainable):
    """One row of cosines for each patch: frames, then rows, then columns."""
    cosines, sines = rotary_of(trainable.transformer)(3, 4, 4)
    assert cosines.shape == sines.shape == (3 * 2 * 2, 16)
    assert (cosines[0] == 1).all() and (sines[0] == 0).all()
    seen = []
    trainable.transformer.register_forward_pre_hook(
        lambda module, arguments, options: seen.append(options["image_rotary_emb"]), with_kwargs=True
    )
    trainable("a man", num_inference_steps=1, guidance_scale=1.0, seed=0, num_frames=9, output_type="latent")
    assert torch.equal(seen[0][0], cosines) and torch.equal(seen[0][1], sines)


def test_the_stages_of_the_paper_train_the_adapter_and_freeze_the_base(trainable):
    objective = identity_objective(trainable, make_config())
    parts = ("adapter", "face_perceiver", "identity_fusion")
    names = train_only(objective, parts)
    base = {f"transformer.{name}" for name, _ in build_stock(trainable).transformer.named_parameters()}
    everything = {name for name, _ in objective.named_parameters()}
    trained = {name for name, p in objective.named_parameters() if p.requires_grad}
    assert set(names) == trained and len(names) == len(trained)
    assert not trained & base and len(base) > 50
    assert {name for name in everything if name.startswith("transformer.")} - base <= trained
    assert {name.split(".")[0] for name in trained} == {"transformer", "face_perceiver", "identity_fusion"}
    for part in ("face_perceiver", "identity_fusion"):
        assert all(p.requires_grad for p in getattr(objective, part).parameters())

    before = {name: p.detach().clone() for name, p in objective.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=1e-2)
    objective(make_batch(trainable.tokenizer), generator(0))["loss"].backward()
    optimizer.step()
    changed = {name for name, p in objective.named_parameters() if not torch.equal(p, before[name])}
    assert changed == trained


def test_everything_and_nothing_else(trainable):
    objective = identity_objective(trainable, make_config())
    everything = {name for name, _ in objective.named_parameters()}
    unread = {f"image_encoder.post_layernorm.{kind}" for kind in ("weight", "bias")}
    assert set(train_only(objective, ("all",))) == everything - unread  # no output of the tower goes through it
    # A second choice takes back the first.
    names = train_only(objective, ("text_encoder",))
    assert {name.split(".")[0] for name in names} == {"text_encoder"}
    assert sum(p.requires_grad for p in objective.parameters()) == len(names)
    assert {name.split(".")[0] for name in everything} == {
        "transformer",
        "text_encoder",
        "image_encoder",
        "identity_perceiver",
        "face_perceiver",
        "identity_fusion",
    }


@pytest.mark.parametrize(
    ("changes", "out"),
    [
        ({"with_can": False}, ".adapter.can."),
        ({"branches": "identity"}, "face_perceiver."),
        ({"branches": "face"}, "identity_fusion."),
    ],
)
def test_what_an_ablation_leaves_out_is_not_trained(trainable, changes, out):
    parts = ("adapter", "face_perceiver", "identity_fusion")
    whole = train_only(identity_objective(trainable, make_config()), parts)
    objective = identity_objective(trainable, make_config(**changes))
    names = train_only(objective, parts)
    assert set(whole) - set(names) == {name for name in whole if out in name} != set()
    objective(make_batch(trainable.tokenizer), generator(0))["loss"].backward()
    assert all(p.grad is not None for n, p in objective.named_parameters() if p.requires_grad)


def test_base_and_adapter_are_the_two_halves_of_the_transformer(trainable):
    objective = identity_objective(trainable, make_config())
    whole, base, adapter = (set(train_only(objective, (part,))) for part in ("transformer", "base", "adapter"))
    stock = {f"transformer.{name}" for name, _ in build_stock(trainable).transformer.named_parameters()}
    assert base == stock and not base & adapter and base | adapter == whole


def test_unknown_parts_are_refused(trainable):
    with pytest.raises(ConfigError, match="adaptor, vae"):
        train_only(identity_objective(trainable, make_config()), ("vae", "adaptor", "face_perceiver"))


def test_fresh_networks_follow_from_their_seed(repository):
    preview = repository / "assets" / "models" / "preview"
    state = torch.random.get_rng_state()
    pipelines = [fresh_pipeline("preview", preview / "vae", preview / "tokenizer", seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    first, same, other = ({f"{p}.{n}": v for p, n, v in parameters(pipeline)} for pipeline in pipelines)
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    assert not torch.equal(first["transformer.proj_out.weight"], other["transformer.proj_out.weight"])
    assert torch.equal(first["vae.decoder.conv_in.conv.weight"], other["vae.decoder.conv_in.conv.weight"])
    # The adapter starts as the paper says, also in training from nothing.
    fresh: MagicMirrorTransformer3DModel = pipelines[0].transformer
    for block in fresh.transformer_blocks[::2]:
        assert not any(p.any() for p in (*block.adapter.can[-1].parameters(), *block.adapter.to_v.parameters()))
    assert isinstance(fresh, CogVideoXTransformer3DModel)
    # A step's randomness comes from its generator alone: no network of the preview brings dropout.
    for pipeline in pipelines[:1]:
        modules = [m for part in pipeline.components.values() if isinstance(part, nn.Module) for m in part.modules()]
        assert [m.p for m in modules if isinstance(m, nn.Dropout) and m.p > 0] == []
        assert pipeline.image_encoder.config.attention_dropout == 0


def parameters(pipeline):
    for part, module in pipeline.components.items():
        if isinstance(module, nn.Module):
            for name, value in module.named_parameters():
                yield part, name, value


def test_missing_folders_are_refused(tmp_path, repository):
    with pytest.raises(ConfigError, match="holds no VAE"):
        load_vae(tmp_path)
    vae = repository / "assets" / "models" / "preview" / "vae"
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        fresh_pipeline("preview", vae, tmp_path, 0)
    with pytest.raises(ConfigError, match="Unknown preset"):
        fresh_pipeline("large", vae, tmp_path, 0)
