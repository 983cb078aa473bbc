import numpy as np
import pytest
import torch
from diffusers.callbacks import PipelineCallback

from magicmirror.errors import ConfigError, FaceError, PromptError


def test_identity_changes_the_result_and_identities_differ(sample, make_reference):
    nobody, first, second = sample(), sample([make_reference(1)]), sample([make_reference(2)])
    assert not torch.allclose(nobody, first, atol=1e-3)
    assert not torch.allclose(first, second, atol=1e-3)


def test_identity_scale_acts(sample, reference):
    weak, normal = sample([reference], identity_scale=0.5), sample([reference])
    assert not torch.allclose(weak, normal, atol=1e-4)


def test_same_seed_same_bits_and_seed_zero_is_a_seed(sample, reference):
    zero = sample([reference], seed=0)
    assert torch.equal(zero, sample([reference], seed=0))
    assert torch.equal(zero, sample([reference], generator=torch.Generator().manual_seed(0)))
    assert not torch.allclose(zero, sample([reference], seed=1), atol=1e-2)


def test_trigger_is_only_a_mark(sample, reference):
    assert torch.equal(sample([reference], prompt="a man img smiles"), sample([reference], prompt="a man smiles"))


def test_given_latents_and_embeddings(pipeline, sample, reference):
    noise = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sample([reference], latents=noise), sample([reference]))
    with torch.no_grad():
        identity = pipeline.encode_identity([reference])
        text, negative = pipeline.encode_prompt("a man smiles", identity=identity)
    given = sample([reference], prompt=None, prompt_embeds=text, negative_prompt_embeds=negative)
    assert torch.equal(given, sample([reference]))


def test_output_types(sample, reference):
    array = sample([reference], output_type="np")
    tensor = sample([reference], output_type="pt")
    pictures = sample([reference], output_type="pil")
    assert array.shape == (1, 9, 32, 32, 3)
    assert 0.0 <= array.min() < array.max() <= 1.0
    assert np.array_equal(tensor.permute(0, 1, 3, 4, 2).numpy(), array)
    assert len(pictures[0]) == 9 and pictures[0][0].size == (32, 32)


@pytest.mark.parametrize("num_frames", [1, 8, 9, 16, 17])
def test_frames_are_as_many_as_asked_for(sample, num_frames):
    assert sample(output_type="np", num_frames=num_frames, num_inference_steps=1).shape[1] == num_frames


def test_callback_sees_every_step_and_may_replace_latents(sample, reference):
    seen = []

    def replace(_, step, timestep, tensors):
        seen.append((step, int(timestep), sorted(tensors)))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else {}

    latents = sample(
        [reference],
        callback_on_step_end=replace,
        callback_on_step_end_tensor_inputs=["latents", "prompt_embeds", "negative_prompt_embeds"],
    )
    assert [(step, names) for step, _, names in seen] == [
        (index, ["latents", "negative_prompt_embeds", "prompt_embeds"]) for index in range(3)
    ]
    assert [timestep for _, timestep, _ in seen] == [999, 666, 332]
    assert not latents.any()


def test_callback_that_returns_nothing_changes_nothing(sample, reference):
    assert torch.equal(sample([reference], callback_on_step_end_tensor_inputs=None), sample([reference]))
    assert torch.equal(sample([reference], callback_on_step_end=lambda *_: None), sample([reference]))


class Halve(PipelineCallback):
    tensor_inputs = ("latents",)

    def callback_fn(self, pipeline, step_index, timesteps, callback_kwargs):
        return {"latents": callback_kwargs["latents"] / 2}


def test_diffusers_callback_classes_work(sample, reference):
    halved = sample(
        [reference], num_inference_steps=1, callback_on_step_end=Halve(cutoff_step_ratio=None, cutoff_step_index=0)
    )
    assert torch.equal(halved, sample([reference], num_inference_steps=1) / 2)


def test_interrupt_ends_the_loop_within_a_step(pipeline, sample, reference):
    steps = []

    def stop(pipe, step, _, tensors):
        steps.append(step)
        pipe._interrupt = step == 1
        return tensors

    stopped = sample([reference], num_inference_steps=10, callback_on_step_end=stop)
    assert steps == [0, 1]
    assert not torch.equal(stopped, sample([reference], num_inference_steps=10))
    assert pipeline.current_timestep is None


def test_timings_cover_the_stages(pipeline, sample, reference):
    sample([reference], output_type="np")
    assert list(pipeline.timings_s) == ["identity", "prompt", "denoise", "decode"]
    assert all(seconds > 0 for seconds in pipeline.timings_s.values())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"seed": None}, ConfigError, "neither"),
        ({"generator": torch.Generator(), "seed": 1}, ConfigError, "both"),
        ({"height": 24}, ConfigError, "height must be a multiple of 16 px, got 24"),
        ({"width": 0}, ConfigError, "nearest is 16"),
        ({"num_frames": 5, "output_type": "np"}, ConfigError, "got 5.*nearest is 8"),
        ({"num_frames": 14, "output_type": "np"}, ConfigError, "nearest is 16"),
        ({"num_frames": 0}, ConfigError, "nearest is 1"),
        ({"prompt": None}, PromptError, "prompt or prompt_embeds"),
        ({"prompt": ""}, PromptError, "empty"),
        ({"prompt": "a cat smiles"}, PromptError, "names no person"),
        ({"prompt": "a man " + "in a hat " * 20}, PromptError, "too long"),
        ({"identity_scale": 2.5}, ConfigError, "2.5"),
        ({"output_type": "gif"}, ConfigError, "gif"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, ConfigError, "noise"),
        ({"seed": 2**64}, ConfigError, r"seed must lie in \[0, 2\^63\), got 18446744073709551616"),
        ({"seed": 1.5}, ConfigError, "seed must be a whole number, got 1.5"),
        ({"height": 32.5}, ConfigError, "height must be a whole number, got 32.5"),
        ({"num_frames": 9.5}, ConfigError, "num_frames must be a whole number, got 9.5"),
        ({"num_inference_steps": 0}, ConfigError, r"num_inference_steps must lie in \[1, 1000\], got 0"),
        ({"num_inference_steps": 1001}, ConfigError, r"num_inference_steps must lie in \[1, 1000\], got 1001"),
        ({"guidance_scale": float("nan")}, ConfigError, "guidance_scale must be a number, got nan"),
        ({"max_sequence_length": -1}, ConfigError, "max_sequence_length must be a whole number from 1 on, got -1"),
        ({"latents": torch.zeros(1, 2, 4, 4, 4)}, ConfigError, r"\(1, 2, 4, 4, 4\), expected \(1, 3, 4, 4, 4\)"),
        ({"prompt": None, "prompt_embeds": torch.zeros(1, 24, 12)}, ConfigError, r"expected \(prompts, tokens, 16\)"),
        ({"prompt": None, "prompt_embeds": torch.zeros(1, 9, 16)}, ConfigError, r"\(1, 9, 16\).* \(1, 24, 16\)"),
        ({"negative_prompt_embeds": torch.zeros(2, 24, 16)}, ConfigError, r"\(1, 24, 16\).* \(2, 24, 16\)"),
    ],
)
def test_bad_input_is_refused_before_any_network_runs(pipeline, sample, reference, changes, error, message):
    calls = []
    networks = (pipeline.image_encoder, pipeline.text_encoder, pipeline.transformer)
    handles = [network.register_forward_pre_hook(lambda *_: calls.append(1)) for network in networks]
    try:
        with pytest.raises(error, match=message):
            sample([reference], **changes)
    finally:
        for handle in handles:
            handle.remove()
    assert not calls


def test_empty_list_of_references_is_no_plain_video(sample):
    with pytest.raises(FaceError):
        sample([])


def test_no_person_word_is_needed_without_identity(sample, reference):
    assert torch.equal(sample(prompt="a cat"), sample([reference], prompt="a cat", identity_scale=0.0))
