import math

import accelerate
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, FirstBlockCacheConfig

from magicmirror.pipeline.conditioning import IdentityCondition
from magicmirror.pipeline.denoising import Guidance, denoise, rotary_embedding

SCHEDULERS = [CogVideoXDDIMScheduler, CogVideoXDPMScheduler]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("options", [{}, {"use_dynamic_cfg": True}, {"guidance_scale": 1.0}])
@pytest.mark.parametrize("ours", [{}, {"identity_scale": 0.0}])
def test_without_identity_latents_are_stock_cogvideox(pipeline, stock_of, reference, sample, scheduler, options, ours):
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    expected = stock_of(pipeline)(
        "the cat img smiles",
        negative_prompt="a dog",
        height=32,
        width=32,
        num_frames=9,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(7),
        max_sequence_length=24,
        output_type="latent",
        **{"guidance_scale": 3.0, **options},
    ).frames
    latents = sample(
        references=[reference] if ours else None,
        prompt="the cat img smiles",
        negative_prompt="a dog",
        num_inference_steps=4,
        seed=7,
        **options,
        **ours,
    )
    assert latents.shape == (1, 3, 4, 4, 4)
    assert torch.equal(latents, expected)


def test_stock_pixels_too(pipeline, stock_of, sample):
    options = {"num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "np"}
    expected = stock_of(pipeline)(
        "a man smiles",
        height=32,
        width=32,
        num_frames=9,
        generator=torch.Generator().manual_seed(0),
        max_sequence_length=24,
        **options,
    ).frames
    frames = sample(**options)
    assert frames.shape == (1, 9, 32, 32, 3)
    assert (frames == expected).all()


@torch.no_grad()
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("guidance", [Guidance(3.0), Guidance(1.0)])
def test_constants_made_once_equal_constants_made_in_every_step(pipeline, reference, scheduler, guidance):
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    identity = pipeline.encode_identity([reference])
    text, negative = pipeline.encode_prompt("a man smiles", guided=guidance.active, identity=identity)
    results = []
    for precompute in (True, False):
        pipeline.scheduler.set_timesteps(4)
        generator = torch.Generator().manual_seed(0)
        latents = pipeline.prepare_latents(1, 9, 32, 32, text.dtype, generator)
        results.append(
            denoise(
                pipeline.transformer,
                pipeline.scheduler,
                latents,
                torch.cat([negative, text]) if guidance.active else text,
                guidance,
                rotary=rotary_embedding(pipeline.transformer.config, latents.shape, latents.device),
                identity=identity,
                precompute=precompute,
                generator=generator,
            )
        )
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_unconditional_row_has_null_identity_and_plain_text(pipeline, reference, sample):
    seen = []
    handle = pipeline.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    try:
        sample([reference], num_inference_steps=1, negative_prompt="a dog")
    finally:
        handle.remove()
    (call,) = seen
    null_face = pipeline.transformer.null_identity(1)[1]
    condition = pipeline.encode_identity([reference])
    assert torch.equal(call["identity_constants"].face_tokens[:1], null_face)
    assert torch.equal(call["identity_constants"].face_tokens[1:], condition.face_tokens)
    plain, _ = pipeline.encode_prompt("a dog", guided=False)
    fused, _ = pipeline.encode_prompt("a man smiles", guided=False, identity=condition)
    assert torch.equal(call["encoder_hidden_states"], torch.cat([plain, fused]))


def test_rows_of_a_batch_are_independent(pipeline, reference, sample):
    noise = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    prompts = ["a man smiles", "the boy in a hat"]
    both = sample([reference], prompt=prompts, latents=noise)
    for row, prompt in enumerate(prompts):
        alone = sample([reference], prompt=prompt, latents=noise[row : row + 1])
        torch.testing.assert_close(both[row : row + 1], alone, rtol=1e-4, atol=1e-4)


def test_dynamic_guidance_is_the_stock_formula():
    guidance = Guidance(6.0, dynamic=True)
    assert guidance.at(0, 50) == pytest.approx(1 + 6.0 * (1 - math.cos(math.pi)) / 2)
    assert guidance.at(50, 50) == 1.0
    assert Guidance(6.0).at(999, 50) == 6.0
    assert not Guidance(1.0).active


def test_an_aborted_run_leaves_no_cached_blocks_behind(make_pipeline, reference):
    def run(pipeline, seed, abort_at=None):
        def callback(_, step, __, tensors):
            if step == abort_at:
                raise KeyboardInterrupt
            return tensors

        return pipeline(
            "a man smiles",
            [reference],
            num_inference_steps=5,
            seed=seed,
            output_type="latent",
            callback_on_step_end=callback,
        ).frames

    cached, clean = make_pipeline(), make_pipeline()
    for pipeline in (cached, clean):
        pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    with pytest.raises(KeyboardInterrupt):
        run(cached, seed=1, abort_at=2)
    assert torch.equal(run(cached, seed=0), run(clean, seed=0))


@torch.no_grad()
def test_identity_scale_zero_needs_no_constants(pipeline):
    nobody = IdentityCondition(*(part.clone() for part in pipeline.transformer.null_identity(1)))
    text, negative = pipeline.encode_prompt("a cat", guided=True)
    latents = pipeline.prepare_latents(1, 9, 32, 32, text.dtype, torch.Generator().manual_seed(0))
    with_zero = pipeline.denoise(latents, text, negative, 2, Guidance(3.0), identity=nobody, identity_scale=0.0)
    assert torch.equal(with_zero, pipeline.denoise(latents, text, negative, 2, Guidance(3.0)))


def test_half_precision_without_identity_is_stock_and_with_identity_finite(make_pipeline, stock_of, reference):
    pipeline = make_pipeline().to(dtype=torch.bfloat16)
    options = {"num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "latent"}
    expected = stock_of(pipeline)
    expected.transformer.to(torch.bfloat16)
    expected = expected(
        "a man smiles",
        height=32,
        width=32,
        num_frames=9,
        generator=torch.Generator().manual_seed(0),
        max_sequence_length=24,
        **options,
    ).frames
    assert expected.dtype == torch.bfloat16
    assert torch.equal(pipeline("a man smiles", seed=0, **options).frames, expected)
    with_identity = pipeline("a man smiles", [reference], seed=0, **options).frames
    assert with_identity.isfinite().all()
    assert not torch.equal(with_identity, expected)


@pytest.mark.parametrize("kind", ["model", "sequential"])
def test_offloaded_networks_give_the_same_latents(make_pipeline, pipeline, reference, kind):
    """The hooks of offloading, with the CPU in the place of the GPU; sequential ones leave the weights on meta."""
    offloaded, previous = make_pipeline(), None
    for name in offloaded.model_cpu_offload_seq.split("->"):
        network = getattr(offloaded, name)
        if kind == "model":
            _, previous = accelerate.cpu_offload_with_hook(network, torch.device("cpu"), prev_module_hook=previous)
        else:
            accelerate.cpu_offload(network, torch.device("cpu"), offload_buffers=bool(network._parameters))
            assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    options = {"num_inference_steps": 2, "guidance_scale": 3.0, "seed": 0, "output_type": "np"}
    frames = [each("a man smiles", [reference], **options).frames for each in (offloaded, pipeline)]
    assert (frames[0] == frames[1]).all()
