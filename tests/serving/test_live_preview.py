"""The picture while sampling: exact algebra, and a linear map that comes close to the decoder for next to nothing."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler

from magicmirror.media import load_image
from magicmirror.serving.live_preview import SHIPPED_FOLDER, CleanEstimate, LatentPreview, load_or_fit, vae_key


@pytest.fixture(scope="module")
def vae(repository):
    from diffusers import AutoencoderKLCogVideoX

    torch.set_num_threads(1)
    folder = repository / "assets" / "models" / "preview" / "vae"
    return AutoencoderKLCogVideoX.from_pretrained(folder, dtype=torch.float32)


class Pipeline:
    vae_scale_factor_spatial = 8

    def __init__(self, vae):
        self.vae = vae


def test_the_shipped_map_belongs_to_the_shipped_vae_and_comes_close_to_its_decoder(vae, examples):
    assert (SHIPPED_FOLDER / f"live-preview-{vae_key(vae)}.npz").is_file()
    preview = load_or_fit(Pipeline(vae), ())
    picture = np.ascontiguousarray(load_image(examples / "woman_1.jpg")[:128, :128])
    pixels = torch.from_numpy(picture).float().permute(2, 0, 1)[None, :, None] / 127.5 - 1.0
    with torch.no_grad():
        latents = vae.encode(pixels.expand(-1, -1, 5, -1, -1)).latent_dist.mode()[0, :, -1].numpy()
    started = time.process_time()
    drawn = preview.render(latents * vae.config.scaling_factor)
    assert time.process_time() - started < 0.2
    error = np.square(drawn.astype(float) - picture).mean()
    assert 10 * np.log10(255**2 / error) > 20  # dB; a plain average of the picture has less than 12


def test_a_state_before_and_after_a_step_give_the_clean_latents_exactly():
    scheduler = CogVideoXDDIMScheduler.from_config({}, timestep_spacing="trailing")
    scheduler.set_timesteps(5)
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 4, generator=rng)
    estimate = CleanEstimate(scheduler)
    for step, timestep in enumerate(scheduler.timesteps):
        output = scheduler.step(torch.randn(2, 4, 4, generator=rng), timestep, latents, eta=0.0)
        latents = output.prev_sample
        found = estimate.update(latents.numpy(), step, 5)
        if step > 0:
            assert found == pytest.approx(output.pred_original_sample.numpy(), abs=1e-3)


def test_nothing_is_shown_while_there_is_nothing_to_see():
    scheduler = CogVideoXDDIMScheduler.from_config({}, timestep_spacing="trailing")
    scheduler.set_timesteps(50)
    assert CleanEstimate(scheduler).update(np.zeros((2, 4, 4), np.float32), 0, 50) is None


def test_a_map_is_fitted_where_none_is_shipped_and_then_kept(tmp_path, examples):
    class Average(torch.nn.Module):
        """A VAE whose latents are the mean colours of the cells."""

        config = type("Config", (), {"scaling_factor": 2.0})
        device, dtype = torch.device("cpu"), torch.float32

        def encode(self, clip):
            mean = torch.nn.functional.avg_pool3d(clip, (1, 8, 8))
            return type("Out", (), {"latent_dist": type("Dist", (), {"mode": staticmethod(lambda: mean)})})

    paths = [examples / "man_1.jpg", examples / "woman_1.jpg"]
    preview = load_or_fit(Pipeline(Average()), paths, tmp_path)
    picture = preview.render(np.full((3, 16, 16), 0.5, np.float32) * 2.0)
    assert np.abs(picture[32:-32, 32:-32].astype(int) - round(1.5 * 127.5)).max() < 12
    assert len(list(tmp_path.glob("live-preview-*.npz"))) == 1
    kept = load_or_fit(Pipeline(Average()), (), tmp_path)
    assert kept.weights == pytest.approx(preview.weights, abs=2e-3)
    assert load_or_fit(Pipeline(Average()), (), None) is None  # no pictures, no map: no preview, and no error


def test_large_pictures_are_reduced():
    preview = LatentPreview(np.zeros((9 * 2 + 1, 8 * 8 * 3), np.float32), 1.0)
    assert preview.render(np.zeros((2, 60, 90), np.float32)).shape == (171, 256, 3)
