"""The state of diffusers' caches over requests: a cancelled or interrupted one leaves nothing to the next."""

import pytest
import torch
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)

from magicmirror.errors import JobCancelled

STEPS = 5
OPTIONS = {"num_inference_steps": STEPS, "guidance_scale": 3.0, "output_type": "latent"}
ALWAYS = (-1, 1001)

# By name: the configuration for a pipeline whose timestep the attention caches ask for.
CACHES = {
    "pyramid attention broadcast": lambda timestep: PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=ALWAYS,
        current_timestep_callback=timestep,
    ),
    "first block": lambda _: FirstBlockCacheConfig(threshold=0.5),
    "magnitude": lambda _: MagCacheConfig(mag_ratios=[1.0] * STEPS, num_inference_steps=STEPS, retention_ratio=0.2),
    "faster": lambda timestep: FasterCacheConfig(
        spatial_attention_timestep_skip_range=ALWAYS,
        unconditional_batch_timestep_skip_range=ALWAYS,
        unconditional_batch_skip_range=2,
        attention_weight_callback=lambda _: 0.5,
        tensor_format="BFCHW",
        current_timestep_callback=timestep,
        _unconditional_conditional_input_kwargs_identifiers=(
            "hidden_states",
            "encoder_hidden_states",
            "timestep",
            "identity_constants",
        ),
    ),
    "taylor": lambda _: TaylorSeerCacheConfig(
        cache_interval=2,
        disable_cache_before_step=1,
        cache_identifiers=[r"transformer_blocks\.\d+\.attn1"],
        taylor_factors_dtype=torch.float32,
    ),
}


@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES)
def test_a_request_that_ends_early_leaves_nothing_to_the_next(make_pipeline, pipeline, reference, cache):
    def latents(owner, seed, **changes):
        return owner("a man smiles", [reference], seed=seed, **OPTIONS, **changes).frames

    def cancel_at_3(_, step, __, tensors):
        if step == 3:
            raise JobCancelled("on request")
        return {}

    def interrupt_at_2(owner, step, *_):
        owner._interrupt = step == 2
        return {}

    cached = make_pipeline()
    cached.transformer.enable_cache(cache(lambda: int(cached.current_timestep)))
    expected = latents(cached, 0)
    exact = latents(pipeline, 0)
    assert expected.isfinite().all() and not torch.equal(expected, exact)  # it does skip
    assert (expected - exact).norm() < 0.5 * exact.norm()
    assert torch.equal(latents(cached, 0), expected)
    with pytest.raises(JobCancelled):
        latents(cached, 1, callback_on_step_end=cancel_at_3)
    assert torch.equal(latents(cached, 0), expected)
    latents(cached, 1, callback_on_step_end=interrupt_at_2)
    assert torch.equal(latents(cached, 0), expected)
    cached.transformer.disable_cache()
    assert torch.equal(latents(cached, 0), exact)


def test_attention_slicing_asks_no_network_of_ours_and_changes_nothing(make_pipeline, pipeline, reference):
    """The library's switch is for networks with ``set_attention_slice``; fused attention needs no slices."""
    sliced = make_pipeline()
    processors = dict(sliced.transformer.attn_processors)
    sliced.enable_attention_slicing()
    assert sliced.transformer.attn_processors == processors
    frames = [each("a man smiles", [reference], seed=0, **OPTIONS).frames for each in (sliced, pipeline)]
    assert torch.equal(*frames)
    sliced.disable_attention_slicing()
