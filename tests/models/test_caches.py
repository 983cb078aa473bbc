"""diffusers' five caches with the adapter on: what they skip, that what they skip nothing of stays, and their state."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)

STEPS = 4
ALWAYS, NEVER = (-1, 1001), (-1, -1)  # ranges of timesteps
TIMESTEP = 500


def broadcast(skips):
    return PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=ALWAYS if skips else NEVER,
        current_timestep_callback=lambda: TIMESTEP,
    )


def first_block(skips):
    return FirstBlockCacheConfig(threshold=0.5 if skips else 0.0)


def magnitude(skips):
    # What is kept at the start are the steps before num_inference_steps * retention_ratio.
    return MagCacheConfig(
        mag_ratios=[1.0] * STEPS, num_inference_steps=STEPS, retention_ratio=1 / STEPS if skips else 1.0
    )


def faster(skips):
    return FasterCacheConfig(
        spatial_attention_timestep_skip_range=ALWAYS if skips else NEVER,
        unconditional_batch_timestep_skip_range=ALWAYS if skips else NEVER,
        unconditional_batch_skip_range=2,
        alpha_low_frequency=1.0,
        alpha_high_frequency=1.0,
        attention_weight_callback=lambda _: 0.5,
        tensor_format="BFCHW",
        current_timestep_callback=lambda: TIMESTEP,
        # The identity has an unconditional half too; without its name here the first skipped step crashes.
        _unconditional_conditional_input_kwargs_identifiers=(
            "hidden_states",
            "encoder_hidden_states",
            "timestep",
            "identity_constants",
        ),
    )


def taylor(skips):
    return TaylorSeerCacheConfig(
        cache_interval=2,
        disable_cache_before_step=1 if skips else STEPS,
        # The default patterns match nothing in CogVideoX.
        cache_identifiers=[r"transformer_blocks\.\d+\.attn1"],
        taylor_factors_dtype=torch.float32,
    )


def taylor_lite(skips):
    return TaylorSeerCacheConfig(
        cache_interval=2,
        disable_cache_before_step=1 if skips else STEPS,
        use_lite_mode=True,
        taylor_factors_dtype=torch.float32,
    )


# Calls of attention and of feed-forward in each of the three blocks, over four steps with equal latents.
EVERY, HALF = [4, 4, 4], [2, 2, 2]
SKIPPED = {
    broadcast: (HALF, EVERY),
    first_block: ([4, 1, 1], [4, 1, 1]),  # the first block decides
    magnitude: ([1, 1, 1], [1, 1, 1]),
    faster: (HALF, EVERY),
    taylor: (HALF, EVERY),
    taylor_lite: (HALF, HALF),
}
ALL = pytest.mark.parametrize("cache", list(SKIPPED), ids=lambda cache: cache.__name__)


class Loop:
    """A model, the inputs of a guided step with an identity, and a count of what each block computes."""

    def __init__(self, tiny):
        self.model = tiny.model("rotary and learned")
        self.inputs = tiny.inputs(self.model, timesteps=(TIMESTEP, TIMESTEP))
        constants = self.model.precompute_identity(**tiny.identity(self.model), timesteps=torch.tensor([TIMESTEP]))
        self.inputs["identity_constants"] = constants.at(0)
        self.predict = tiny.predict
        self.attentions, self.feed_forwards = [0, 0, 0], [0, 0, 0]
        for index, block in enumerate(self.model.transformer_blocks):
            block.attn1.to_out[0].register_forward_hook(self.counting(self.attentions, index))
            block.ff.register_forward_hook(self.counting(self.feed_forwards, index))

    @staticmethod
    def counting(counts, index):
        def hook(*_):
            counts[index] += 1

        return hook

    def run(self, drift=0.0, steps=STEPS):
        """Predictions of steps whose latents move by ``drift`` a step."""
        start = self.inputs["hidden_states"]
        with self.model.cache_context("cond_uncond"):
            return [
                self.predict(self.model, **{**self.inputs, "hidden_states": start + drift * step})
                for step in range(steps)
            ]


@pytest.fixture
def loop(tiny):
    return Loop(tiny)


@ALL
def test_a_cache_that_skips_nothing_changes_nothing(loop, cache):
    expected = loop.run(drift=0.3)
    loop.model.enable_cache(cache(skips=False))
    found = loop.run(drift=0.3)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert loop.attentions == loop.feed_forwards == [2 * STEPS] * 3


@ALL
def test_a_skipped_step_gives_what_the_computed_one_gave(loop, cache):
    """With equal latents a step from the cache is exact: face tokens and cross term are in it, and only once."""
    expected = loop.run(steps=1)[0]
    loop.attentions[:], loop.feed_forwards[:] = [0] * 3, [0] * 3
    loop.model.enable_cache(cache(skips=True))
    for prediction in loop.run():
        torch.testing.assert_close(prediction, expected, rtol=0, atol=1e-5)
    assert (loop.attentions, loop.feed_forwards) == SKIPPED[cache]
    loop.model.disable_cache()
    assert torch.equal(loop.run(steps=1)[0], expected)


@ALL
def test_a_cached_step_differs_where_the_latents_do_and_the_identity_still_counts(loop, cache):
    exact = loop.run(drift=0.02)
    loop.model.enable_cache(cache(skips=True))
    cached = loop.run(drift=0.02)
    assert torch.equal(cached[0], exact[0])
    assert not torch.equal(cached[-1], exact[-1])
    del loop.inputs["identity_constants"]
    loop.model._reset_stateful_cache()
    nobody = loop.run(drift=0.02)
    distances = [torch.linalg.norm(other[-1] - exact[-1]) for other in (cached, nobody)]
    assert distances[0] < 0.2 * distances[1]


@ALL
def test_the_state_is_gone_after_a_reset(loop, cache):
    expected = loop.run(drift=0.3)[0]
    loop.model.enable_cache(cache(skips=True))
    loop.run(drift=0.3, steps=3)  # ends inside of what each cache skips
    assert not torch.equal(loop.run(drift=0.3, steps=1)[0], expected)
    loop.model._reset_stateful_cache()
    assert torch.equal(loop.run(drift=0.3)[0], expected)


def test_a_cache_is_refused_while_another_is_on(loop):
    loop.model.enable_cache(first_block(skips=True))
    with pytest.raises(ValueError, match="disable the existing one first"):
        loop.model.enable_cache(magnitude(skips=True))
    assert loop.model.is_cache_enabled


def test_the_identity_splits_like_a_tensor(tiny):
    model = tiny.model("rotary")
    constants = model.precompute_identity(**tiny.identity(model), timesteps=torch.tensor([TIMESTEP])).at(0)
    halves = constants.chunk(2, dim=0)
    assert torch.equal(torch.cat([half.face_tokens for half in halves]), constants.face_tokens)
    for index, block in enumerate(constants.blocks):
        first, second = (half.blocks[index] for half in halves)
        assert first.num_face_tokens == second.num_face_tokens == block.num_face_tokens
        for whole, *parts in zip(block[1:], first[1:], second[1:], strict=True):
            assert (whole is None and parts == [None, None]) or torch.equal(torch.cat(parts), whole)
