"""Arithmetic of a video against published and counted figures."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from magicmirror.models.parameters import build_networks
from magicmirror.models.presets import model_preset
from magicmirror.pipeline.model_size import VideoWork
from magicmirror.pipeline.time_forecast import decode_flop, guess_seconds, prompt_flop, step_flop

FULL, PREVIEW = VideoWork(49, 480, 720, steps=50), VideoWork(17, 128, 128, steps=4)


def test_full_size_work_is_the_counted_one():
    preset = model_preset("cogvideox-5b")
    plain = VideoWork(49, 480, 720, guided=False)
    # 332.2 TFLOP were counted without the face tokens, which add 0.13 per cent.
    assert step_flop(preset, plain) == pytest.approx(332.2e12, rel=5e-3)
    assert step_flop(preset, FULL) == 2 * step_flop(preset, plain)
    assert decode_flop(preset, FULL, tiling=False) == pytest.approx(315e12, rel=0.05)
    assert prompt_flop(preset, plain) == pytest.approx(2.1e12, rel=0.05)


def test_preview_work_is_the_counted_one():
    preset, networks = model_preset("preview"), build_networks("preview", names=("vae",))
    latents = torch.empty(1, 16, 5, 16, 16, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        networks["vae"].decode(latents)
    assert decode_flop(preset, PREVIEW, tiling=False) == pytest.approx(counter.get_total_flops(), rel=0.15)


def test_guesses_follow_work_and_device():
    preset = model_preset("cogvideox-5b")
    step_s, rest_s = guess_seconds(preset, FULL, "cuda:1", tiling=True)
    assert 50 * step_s == pytest.approx(243, rel=0.02)  # published for an A100
    assert 0 < rest_s < 20
    assert guess_seconds(preset, VideoWork(49, 480, 720, guided=False), "cuda")[0] == pytest.approx(step_s / 2)
    assert guess_seconds(preset, FULL, "auto") == guess_seconds(preset, FULL, "cpu")
    preview_step_s, preview_rest_s = guess_seconds(model_preset("preview"), PREVIEW, "cpu")
    assert preview_step_s < 1 and preview_rest_s < 10
