"""The decoder's training on what the denoiser predicts: the prediction by hand, its batches, and a run."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from magicmirror.data.embedding import BatchEmbedder
from magicmirror.errors import ConfigError
from magicmirror.media.optical_flow import dense_flow, grey_frames
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.training import portrait_clips
from magicmirror.training.build import build_trainer
from magicmirror.training.critic import critic_losses
from magicmirror.training.draws import Dropout
from magicmirror.training.networks import identity_objective
from magicmirror.training.parts import WHOLE, Part, take
from magicmirror.training.portrait_clips import portrait_batches
from magicmirror.training.predicted_latents import PredictedLatents
from magicmirror.training.recipes import Recipe, find_recipe
from magicmirror.training.reconstruction import brought_back
from magicmirror.training.run import train
from magicmirror.training.vae_objective import VaeObjective, as_clips
from tests.tiny_pipeline import TEXT_LENGTH, build_pipeline
from tests.tiny_training import CELLS, CHANNELS, FRAMES, SIDE_PX, flowing_clips, generator, make_batch, make_config

CAPTION = "a man img smiles"


def decoder_config(**changes):
    options = {"name": "predicted_decoder", "kl_weight": 0.0, "texture_weight": 1.0, "train_encoder": False}
    return make_config(**{**options, "guidance_scale": 1.5, "clip_share": 0.5, **changes})


def make_prediction(pipeline, config, factor=0.7):
    return PredictedLatents(identity_objective(pipeline, config), factor, config)


@pytest.fixture
def captions(monkeypatch):
    """Captions that the tiny tokenizer can take in place of the sampled ones; others may be put in front."""
    queue = []

    def shortened(choose):
        def chosen(*arguments):
            return replace(choose(*arguments), caption=queue.pop(0) if queue else CAPTION)

        return chosen

    for name in ("sample_clip_spec", "sample_image_spec"):
        monkeypatch.setattr(portrait_clips, name, shortened(getattr(portrait_clips, name)))
    return queue


@torch.no_grad()
def test_a_prediction_is_guided_away_from_the_row_without_conditions(trainable):
    """x0 = sqrt(a) z - sqrt(1 - a) v, and v = v_plain + 1.5 (v_given - v_plain)."""
    config = decoder_config(predicted_from=400, predicted_below=401)
    batch = make_batch(trainable.tokenizer, rows=2)
    latents = torch.randn(2, CHANNELS, FRAMES, CELLS, CELLS, generator=generator(5))
    predicted = make_prediction(trainable, config)(latents, batch, generator(1), WHOLE)[0]

    noise = torch.randn(2, FRAMES, CHANNELS, CELLS, CELLS, generator=generator(1))
    alpha = trainable.scheduler.alphas_cumprod[400].float()
    noisy = alpha.sqrt() * 0.7 * latents.transpose(1, 2) + (1 - alpha).sqrt() * noise
    objective, timesteps = identity_objective(trainable, config), torch.tensor([400, 400])
    dropped = [torch.full((2,), value) for value in (False, True)]
    given, plain = (objective.predict(batch, noisy, timesteps, Dropout(each, each)) for each in dropped)
    assert not torch.allclose(given, plain)
    clean = alpha.sqrt() * noisy - (1 - alpha).sqrt() * (plain + 1.5 * (given - plain))
    torch.testing.assert_close(predicted, clean.transpose(1, 2) / 0.7, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_hardly_any_noise_leaves_hardly_anything_to_predict(trainable):
    batch = make_batch(trainable.tokenizer, rows=2)
    latents = torch.randn(2, CHANNELS, FRAMES, CELLS, CELLS, generator=generator(5))
    errors = []
    for first in (0, 300, 998):
        config = decoder_config(predicted_from=first, predicted_below=first + 1, guidance_scale=1.0)
        predicted = make_prediction(trainable, config)(latents, batch, generator(1), WHOLE)[0]
        errors.append((predicted - latents).abs().mean().item())
    assert errors[0] < 0.1 < errors[1] < errors[2]


@torch.no_grad()
def test_parts_of_a_step_are_the_step(trainable):
    predict = make_prediction(trainable, decoder_config())
    batch = make_batch(trainable.tokenizer)
    latents = torch.randn(4, CHANNELS, FRAMES, CELLS, CELLS, generator=generator(5))
    halves = []
    for part in (Part(0, 2), Part(1, 2)):
        rows = part.rows(4)
        halves.append(predict(latents[rows], take(batch, rows), generator(2), part)[0])
    whole = predict(latents, batch, generator(2), WHOLE)[0]
    torch.testing.assert_close(torch.cat(halves), whole, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_share_of_the_latents_stays_as_it_is(trainable):
    batch = make_batch(trainable.tokenizer)
    latents = torch.randn(4, CHANNELS, FRAMES, CELLS, CELLS, generator=generator(5))
    whole = make_prediction(trainable, decoder_config())(latents, batch, generator(2), WHOLE)[0]
    mixed = make_prediction(trainable, decoder_config(predicted_share=0.5))
    some = mixed(latents, batch, generator(2), WHOLE)[0]
    kept = [torch.allclose(some[row], latents[row], atol=1e-6) for row in range(4)]
    assert 0 < sum(kept) < 4
    for row in range(4):
        torch.testing.assert_close(some[row], latents[row] if kept[row] else whole[row], rtol=1e-5, atol=1e-6)
    parts = [(part, part.rows(4)) for part in (Part(0, 2), Part(1, 2))]
    halves = [mixed(latents[rows], take(batch, rows), generator(2), part)[0] for part, rows in parts]
    torch.testing.assert_close(torch.cat(halves), some, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_request_is_the_pipelines_two_steps_from_noise_alone(trainable):
    """The latents given do not matter; what comes out is what the scheduler makes of the guided velocities."""
    config = decoder_config(requested_share=1.0, critic_weight=0.1, predicted_share=0.0)
    batch = make_batch(trainable.tokenizer, rows=2)
    latents = torch.randn(2, CHANNELS, FRAMES, CELLS, CELLS, generator=generator(5))
    predict = make_prediction(trainable, config)
    made, requested = predict(latents, batch, generator(1), WHOLE)
    assert requested.tolist() == [True, True]
    assert torch.equal(predict(0 * latents, batch, generator(1), WHOLE)[0], made)

    objective, scheduler = identity_objective(trainable, config), trainable.scheduler
    scheduler.set_timesteps(2)
    sample = torch.randn(2, FRAMES, CHANNELS, CELLS, CELLS, generator=generator(1))
    dropped = [torch.full((2,), value) for value in (False, True)]
    for timestep in scheduler.timesteps:
        given, plain = (objective.predict(batch, sample, timestep.expand(2), Dropout(each, each)) for each in dropped)
        velocity = plain + 1.5 * (given - plain)
        sample, clean = scheduler.step(velocity, timestep, sample, return_dict=False)
    torch.testing.assert_close(made, clean.transpose(1, 2) / 0.7, rtol=1e-4, atol=1e-5)


def test_the_critic_alone_judges_a_request(trainable, monkeypatch):
    seen = []

    def recorded(critic, made, photos, noise):
        seen.append((made, photos))
        return critic_losses(critic, made, photos, noise)

    monkeypatch.setattr("magicmirror.training.vae_objective.critic_losses", recorded)
    config = decoder_config(requested_share=0.5, critic_weight=0.1, warping_weight=1.0, moving_weight=1.0)
    batch = {**make_batch(trainable.tokenizer), **flowing_clips(rows=4, side=SIDE_PX)}
    objective = VaeObjective(trainable.vae, config, make_prediction(trainable, config))
    losses = objective(batch, generator(3))
    ((made, photos),) = seen

    predict = make_prediction(trainable, config)
    drawn = generator(3)
    clips = as_clips(batch["pixels"])
    posterior = trainable.vae.encode(clips).latent_dist
    latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=drawn)
    latents, requested = predict(latents.detach(), batch, drawn, WHOLE)
    assert 0 < requested.sum() < 4
    decoded = trainable.vae.decode(latents).sample
    # Half of the pixels have an original; the mean is over all, so that parts of a step add up.
    error = (decoded - clips).abs().mean((1, 2, 3, 4))
    torch.testing.assert_close(losses["pixel"], (error * ~requested).mean())
    for name in ("edge", "texture", "change", "warping"):
        assert losses[name] > 0
    # The critic has every photo, and what follows in a requested clip is found by its own flow.
    photos, made = (each.view(4, -1, 6, SIDE_PX, SIDE_PX) for each in (photos, made))
    for row in range(4):
        frame = [torch.equal(photos[row, 0, :3], clips[row, :, frame]) for frame in range(9)].index(True)
        torch.testing.assert_close(made[row, 0, :3], decoded[row, :, frame], rtol=1e-4, atol=1e-5)
        flow = batch["flow"][row, frame]
        if requested[row]:
            pixels = ((decoded[row].detach().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()
            flow = torch.from_numpy(dense_flow(grey_frames(pixels))[frame])
        following, inside = brought_back(decoded[row, :, frame + 1][None], flow[None])
        torch.testing.assert_close(made[row, 0, 3:][:, inside[0]], following[0][:, inside[0]], rtol=1e-3, atol=1e-4)


def test_without_a_critic_nothing_could_judge_a_request(trainable):
    with pytest.raises(ConfigError, match=r"A requested_share of 0\.2 needs a critic"):
        make_prediction(trainable, decoder_config(requested_share=0.2))


def test_batches_hold_the_same_pictures_and_what_a_denoiser_takes(manifest, examples, trainable, captions):
    def source(**conditions):
        return portrait_batches([manifest], examples, decoder_config(), 9, SIDE_PX, **conditions)

    with_conditions = source(tokenizer=trainable.tokenizer, text_length=TEXT_LENGTH)
    for step in range(4):
        batch = with_conditions(step)
        assert torch.equal(batch["pixels"], source()(step)["pixels"])
        rows = len(batch["pixels"])
        assert batch["captions"] == [CAPTION] * rows and batch["input_ids"].shape == (rows, TEXT_LENGTH)
        assert batch["crops"].shape == (rows, SIDE_PX, SIDE_PX, 3) and batch["crops"].dtype == torch.uint8
        assert not torch.equal(batch["crops"], batch["pixels"][:, 0])  # another view
        expected = BatchEmbedder().embed_aligned(batch["crops"].numpy())
        np.testing.assert_allclose(batch["embeddings"].numpy(), expected, rtol=1e-5, atol=1e-6)
        halves = [with_conditions(step, Part(index, 2)) for index in range(2)]
        for name in ("pixels", "crops", "input_ids"):
            assert torch.equal(torch.cat([half[name] for half in halves]), batch[name])


def test_a_caption_that_does_not_fit_is_drawn_anew(manifest, examples, trainable, captions):
    batches = portrait_batches([manifest], examples, decoder_config(), 9, SIDE_PX, trainable.tokenizer, TEXT_LENGTH)
    captions += ["a man img who says very much more than these tokens can hold", "nobody is here"]
    assert batches(0)["captions"] == [CAPTION] * len(batches(0)["pixels"])
    assert captions == []
    captions += ["nobody is here"] * portrait_clips.CAPTION_DRAWS
    with pytest.raises(ConfigError, match="None of 100 captions fits"):
        batches(0)


def test_only_the_decoder_learns_and_the_whole_pipeline_is_saved(
    manifest, examples, small_clips, trainable, captions, tmp_path
):
    config = decoder_config(max_steps=3, learning_rate=1e-2, clip_share=0.7, validation_steps=3, perceptual_loss=0.1)
    recipe = Recipe(config, ("vae",), "try", objective="decoder", start="pipeline")
    before = {name: value.clone() for part in PARTS for name, value in named(trainable, part)}
    folder = train(recipe, [manifest], trainable, tmp_path, portraits=examples)
    assert folder == tmp_path / "pipeline"
    saved = MagicMirrorPipeline.from_pretrained(folder, dtype=torch.float32)
    changed = {
        name for part in PARTS for name, value in named(saved, part) if not torch.equal(value, half(before[name]))
    }
    assert changed and all(name.startswith(("vae.decoder.", "vae.post_quant_conv.")) for name in changed)
    assert (tmp_path / "validation" / "step-00000003" / "grid.png").is_file()


PARTS = ("vae", "transformer", "text_encoder", "image_encoder", "face_perceiver", "identity_perceiver")


def named(pipeline, part):
    return [(f"{part}.{name}", value) for name, value in getattr(pipeline, part).named_parameters()]


def half(value):
    """As the pipeline is saved."""
    return value.half().float()


def test_it_learns_to_undo_what_the_denoiser_does(trainable):
    """On one batch with fixed noise the error falls, and no gradient reaches the denoiser."""
    batch = {**make_batch(trainable.tokenizer, rows=2), "pixels": smooth_clips()}
    config = decoder_config(texture_weight=0.0, predicted_from=400, predicted_below=401)
    objective = VaeObjective(trainable.vae, config, make_prediction(trainable, config, 1.0))
    decoder = [*trainable.vae.decoder.parameters()]
    optimizer = torch.optim.AdamW(decoder, lr=1e-2)
    errors = []
    for _ in range(25):
        losses = objective(batch, generator(3))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        errors.append(losses["pixel"].item())
    assert errors[-1] < 0.7 * errors[0]
    assert all(parameter.grad is None for parameter in trainable.transformer.parameters())


def smooth_clips(rows=2, frames=9):
    ramp = np.linspace(40, 200, SIDE_PX, dtype=np.uint8)
    return torch.from_numpy(np.tile(ramp[:, None, None], (rows, frames, 1, SIDE_PX, 3)))


def test_activations_are_saved_where_gradients_flow(manifest, examples, small_clips, trainable, tmp_path):
    recipe = Recipe(decoder_config(gradient_checkpointing=True), ("vae",), "try", objective="decoder", start="pipeline")
    build_trainer(recipe, [manifest], trainable, tmp_path, portraits=examples)
    assert trainable.vae.is_gradient_checkpointing
    assert not trainable.transformer.is_gradient_checkpointing


def test_what_cannot_be_trained_is_refused(manifest, examples, trainable, tmp_path):
    recipe = find_recipe("predicted_decoder")
    with pytest.raises(ConfigError, match="--portraits"):
        build_trainer(recipe, [manifest], trainable, tmp_path)
    with pytest.raises(ConfigError, match="dlib's embeddings"):
        build_trainer(recipe, [manifest], build_pipeline(), tmp_path, portraits=examples)
    for wrong in ({"predicted_from": 1000}, {"predicted_from": 500, "predicted_below": 500}, {"guidance_scale": 0.5}):
        with pytest.raises(ConfigError, match=next(reversed(wrong))):
            decoder_config(**wrong)
