"""Training of the VAE: its terms by hand, that it learns moving clips, and where its clips come from."""

import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX

from magicmirror.errors import ConfigError
from magicmirror.media.optical_flow import dense_flow, grey_frames
from magicmirror.training import portrait_clips
from magicmirror.training.build import build_trainer
from magicmirror.training.parts import Part
from magicmirror.training.portrait_clips import portrait_batches
from magicmirror.training.recipes import Recipe
from magicmirror.training.reconstruction import change_error, edge_error, texture_error, warping_error
from magicmirror.training.run import train
from magicmirror.training.vae_objective import VaeObjective, as_clips, as_pixels
from tests.tiny_training import build_trainable, generator, make_config, moving_clips


def vae_config(**changes):
    return make_config(name="vae", image_batch=4, clip_batch=2, clip_share=0.5, **changes)


def test_terms_are_those_of_the_docstring(trainable):
    config = vae_config(edge_weight=0.3, kl_weight=0.02, texture_weight=0.1, moving_weight=0.4, warping_weight=0.5)
    batch = moving_clips()
    batch["flow"] = torch.tensor([2.0, 0.0]).expand(2, 8, 32, 32, 2)
    losses = VaeObjective(trainable.vae, config)(batch, generator(4))
    clips = as_clips(batch["pixels"])
    assert clips.shape == (2, 3, 9, 32, 32) and clips.min() >= -1 and clips.max() <= 1
    with torch.no_grad():
        posterior = trainable.vae.encode(clips).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator(4))
        decoded = trainable.vae.decode(posterior.mean + posterior.std * noise).sample
    torch.testing.assert_close(losses["pixel"], (decoded - clips).abs().mean())
    divergence = posterior.kl().sum() / posterior.mean.numel()
    torch.testing.assert_close(losses["divergence"], divergence)
    torch.testing.assert_close(losses["edge"], edge_error(decoded, clips))
    torch.testing.assert_close(losses["texture"], texture_error(decoded, clips))
    torch.testing.assert_close(losses["change"], change_error(decoded, clips))
    torch.testing.assert_close(losses["warping"], warping_error(decoded, clips, batch["flow"]))
    total = losses["pixel"] + 0.3 * losses["edge"] + 0.02 * losses["divergence"] + 0.1 * losses["texture"]
    total += 0.4 * losses["change"] + 0.5 * losses["warping"]
    torch.testing.assert_close(losses["loss"], total)


def test_pixels_come_back_from_clips_and_what_is_too_bright_is_cut_off():
    pixels = torch.arange(256).to(torch.uint8).view(2, 2, 8, 8, 1).repeat(1, 1, 1, 1, 3)
    assert torch.equal(as_pixels(as_clips(pixels)), pixels)
    assert torch.equal(as_pixels(3 * as_clips(pixels))[pixels > 200], pixels[pixels > 200] * 0 + 255)


def test_the_perceptual_term_compares_one_frame_of_each_sample_with_its_own_original(trainable):
    seen = []

    def distance(predicted, wanted):
        seen.append((predicted, wanted))
        return (predicted - wanted).square().mean()

    config = vae_config(perceptual_loss=0.25)
    batch = moving_clips(rows=4)
    losses = VaeObjective(trainable.vae, config, distance=distance)(batch, generator(4))
    plain = VaeObjective(trainable.vae, config)(batch, generator(4))
    assert "perceptual" not in plain
    torch.testing.assert_close(losses["loss"], plain["loss"] + 0.25 * losses["perceptual"])
    ((predicted, wanted),) = seen
    assert predicted.shape == wanted.shape == (4, 3, 32, 32) and predicted.requires_grad
    clips = as_clips(batch["pixels"])
    frames = [[torch.equal(wanted[row], clips[row, :, frame]) for frame in range(9)] for row in range(4)]
    assert [sum(row) for row in frames] == [1] * 4
    assert len({row.index(True) for row in frames}) > 1
    # Parts of a step look at the frames of the whole.
    halves = [
        VaeObjective(trainable.vae, config, distance=distance)(
            {"pixels": batch["pixels"][part.rows(4)]}, generator(4), part
        )["perceptual"]
        for part in (Part(0, 2), Part(1, 2))
    ]
    torch.testing.assert_close(sum(halves) / 2, losses["perceptual"])


def test_the_anchor_is_the_distance_of_latents_from_those_of_the_first_encoder(trainable):
    config = vae_config(anchor_weight=0.7)
    objective, batch = VaeObjective(trainable.vae, config), moving_clips()
    clips = as_clips(batch["pixels"])
    with torch.no_grad():
        before = trainable.vae.encode(clips).latent_dist.mean
    assert objective(batch, generator(4))["anchor"] == 0
    with torch.no_grad():
        for parameter in trainable.vae.encoder.parameters():
            parameter.mul_(1.1)
        after = trainable.vae.encode(clips).latent_dist.mean
    losses = objective(batch, generator(4))
    plain = VaeObjective(trainable.vae, vae_config())(batch, generator(4))
    assert "anchor" not in plain
    factor = trainable.vae.config.scaling_factor
    torch.testing.assert_close(losses["anchor"], ((after - before) * factor).square().mean())
    assert losses["anchor"] > 1e-6
    torch.testing.assert_close(losses["loss"], plain["loss"] + 0.7 * losses["anchor"])
    # The first encoder is not a part of what is trained, averaged or saved.
    assert set(objective.state_dict()) == {f"vae.{name}" for name in trainable.vae.state_dict()}


def test_the_anchor_holds_the_latents_near_the_first_ones():
    batch, drifts = moving_clips(), {}
    clips = as_clips(batch["pixels"])
    for weight in (0.0, 100.0):
        vae = build_trainable().vae
        objective = VaeObjective(vae, vae_config(anchor_weight=weight))
        optimizer = torch.optim.SGD(vae.parameters(), lr=3e-3)
        with torch.no_grad():
            first = vae.encode(clips).latent_dist.mean
        for _ in range(10):
            optimizer.zero_grad()
            objective(batch, generator(4))["loss"].backward()
            optimizer.step()
        with torch.no_grad():
            drifts[weight] = float((vae.encode(clips).latent_dist.mean - first).square().mean())
    assert 0 < drifts[100.0] < 0.5 * drifts[0.0], drifts


def test_an_anchored_vae_keeps_its_scale(manifest, examples, small_clips, tmp_path):
    for weight in (0.0, 1.0):
        vae = build_trainable().vae
        first = vae.config.scaling_factor
        recipe = Recipe(vae_config(anchor_weight=weight, max_steps=1), ("vae",), "", objective="vae", start="vae")
        folder = train(recipe, [manifest], vae, tmp_path / str(weight), portraits=examples)
        kept = AutoencoderKLCogVideoX.from_pretrained(folder).config.scaling_factor == first
        assert kept == (weight > 0)


def test_parts_of_a_step_are_the_step(trainable):
    objective = VaeObjective(trainable.vae, vae_config())
    batch = moving_clips(rows=4)
    whole = objective(batch, generator(1))
    halves = [objective({"pixels": batch["pixels"][Part(i, 2).rows(4)]}, generator(1), Part(i, 2)) for i in range(2)]
    for name, value in whole.items():
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, value, rtol=1e-5, atol=1e-6)


def test_it_learns_moving_clips(trainable):
    """Every part of the network, those that mix frames included, gets a gradient, and the error falls."""
    objective = VaeObjective(trainable.vae, vae_config()).train()
    batch = moving_clips(rows=1, side=24)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-2)
    errors = []
    for step in range(30):
        losses = objective(batch, generator(step))
        optimizer.zero_grad()
        losses["loss"].backward()
        if step == 0:
            assert [name for name, p in objective.named_parameters() if p.grad is None] == []
            kernels = [p.grad for n, p in objective.named_parameters() if p.ndim == 5 and p.size(2) == 3]
            assert len(kernels) > 8 and all(grad[:, :, 0].abs().sum() > 0 for grad in kernels)  # the past
        optimizer.step()
        errors.append(losses["pixel"].item())
    assert np.mean(errors[-3:]) < 0.6 * errors[0]


def test_batches_follow_from_seed_step_and_row(manifest, examples):
    def source(seed=0):
        return portrait_batches([manifest], examples, vae_config(seed=seed), num_frames=9, size_px=48)

    batch_at = source()
    kinds = {}
    moving = 0
    for step in range(6):
        pixels = batch_at(step)["pixels"]
        moving += not torch.equal(pixels[:, 0], pixels[:, -1])
        assert pixels.shape in ((4, 1, 48, 48, 3), (2, 9, 48, 48, 3)) and pixels.dtype == torch.uint8
        kinds.setdefault(pixels.size(1), step)
        halves = [source()(step, Part(index, 2))["pixels"] for index in range(2)]
        assert torch.equal(torch.cat(halves), pixels)
    assert set(kinds) == {1, 9}
    assert moving
    assert not torch.equal(source(1)(kinds[1])["pixels"], batch_at(kinds[1])["pixels"])


def test_the_flow_of_clips_is_measured_where_a_term_asks_for_it(manifest, examples):
    def source(**weights):
        return portrait_batches([manifest], examples, vae_config(**weights), num_frames=9, size_px=48)

    for step in range(4):
        batch = source(warping_weight=1.0)(step)
        assert "flow" not in source()(step)
        assert torch.equal(batch["pixels"], source()(step)["pixels"])
        expected = [dense_flow(grey_frames(clip.numpy())) for clip in batch["pixels"]]
        np.testing.assert_array_equal(batch["flow"], np.stack(expected))
        assert torch.equal(source(critic_weight=1.0)(step)["flow"], batch["flow"])


def test_a_share_of_the_pictures_has_falling_particles(manifest, examples, monkeypatch):
    seen = []

    def recorded(picture, landmarks, spec, num_frames, size_px):
        seen.append((spec.style, num_frames))
        return np.zeros((num_frames, size_px, size_px, 3), np.uint8)

    monkeypatch.setattr(portrait_clips, "render_clip", recorded)

    def drawn(share, steps=60):
        seen.clear()
        for step in range(steps):
            portrait_batches([manifest], examples, vae_config(falling_share=share), 9)(step)
        return list(seen)

    assert {style for style, _ in drawn(1.0, 10)} == {"snow", "rain"}
    assert {frames for _, frames in seen} == {1, 9}
    plain, half = drawn(0.0), drawn(0.5)
    falling = [style in portrait_clips.FALLING for style, _ in half]
    usual = np.mean([style in portrait_clips.FALLING for style, _ in plain])
    assert np.mean(falling) == pytest.approx(0.5 + 0.5 * usual, abs=0.12) and usual < 0.3


def test_nobody_to_train_with_is_refused(manifest, examples, tmp_path):
    held_out = tmp_path / "manifest.jsonl"
    held_out.write_text(manifest.read_text().splitlines()[2] + "\n")
    with pytest.raises(ConfigError, match="no portrait to train with"):
        portrait_batches([held_out], examples, vae_config())
    with pytest.raises(ConfigError, match=r"8 n \+ 1 for the VAE, got 5"):
        portrait_batches([manifest], examples, vae_config(), num_frames=5)
    recipe = Recipe(vae_config(), ("vae",), "try", objective="vae", start="vae")
    with pytest.raises(ConfigError, match="--portraits"):
        build_trainer(recipe, [manifest], build_trainable().vae, tmp_path)


def test_a_run_leaves_a_vae_whose_latents_have_unit_deviation(manifest, examples, small_clips, tmp_path):
    from magicmirror.training.networks import load_vae

    recipe = Recipe(vae_config(max_steps=2, validation_steps=2), ("vae",), "try", objective="vae", start="vae")
    folder = train(recipe, [manifest], build_trainable().vae, tmp_path, portraits=examples)
    assert folder == tmp_path / "vae"
    trained = load_vae(folder)
    batches = portrait_batches([manifest], examples, recipe.config)
    with torch.no_grad():
        latents = [trained.encode(as_clips(batches(step)["pixels"])).latent_dist.mean.flatten() for step in range(16)]
    deviation = torch.cat(latents).std().item()
    assert deviation * trained.config.scaling_factor == pytest.approx(1.0, rel=1e-4)
    assert trained.config.scaling_factor != build_trainable().vae.config.scaling_factor
    assert (tmp_path / "validation" / "step-00000002" / "grid.png").is_file()
    assert json.loads((folder / "recipe.json").read_text())["name"] == "vae"


def test_a_decoder_that_learns_alone_leaves_latents_as_they_are(manifest, examples, small_clips, tmp_path):
    from magicmirror.training.networks import load_vae

    config = vae_config(max_steps=2, learning_rate=1e-2, texture_weight=0.3, kl_weight=0.0, train_encoder=False)
    recipe = Recipe(config, ("vae",), "try", objective="vae", start="vae")
    before, clips = build_trainable().vae, as_clips(moving_clips()["pixels"])
    trained = load_vae(train(recipe, [manifest], build_trainable().vae, tmp_path, portraits=examples))
    assert trained.config.scaling_factor == before.config.scaling_factor
    with torch.no_grad():
        latents = before.encode(clips).latent_dist.mean
        assert torch.equal(trained.encode(clips).latent_dist.mean, latents)
        assert not torch.equal(trained.decode(latents).sample, before.decode(latents).sample)
