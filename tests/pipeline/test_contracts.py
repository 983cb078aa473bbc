"""What diffusers promises of a pipeline holds for ours too, or is refused: nothing of the face gets lost in silence."""

import io

import accelerate
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from diffusers.callbacks import PipelineCallback
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0
from peft import LoraConfig, get_peft_model_state_dict
from tqdm import tqdm

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.pipeline.pipeline import MagicMirrorPipeline

OPTIONS = {"num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "latent", "seed": 0}


def run(pipeline, reference, **changes):
    options = {**OPTIONS, "prompt": "a man smiles", "references": None if reference is None else [reference], **changes}
    if "generator" in changes:
        del options["seed"]
    return pipeline(**options).frames


def with_lora(pipeline, folder, layers):
    """Load a LoRA that changes these layers of the transformer, as from a file."""
    other = MagicMirrorPipeline(**{**pipeline.components, "transformer": pipeline.transformer})
    other.transformer.add_adapter(LoraConfig(r=2, lora_alpha=8, target_modules=layers, init_lora_weights=False))
    layers = get_peft_model_state_dict(other.transformer)
    other.transformer.delete_adapters("default")
    CogVideoXPipeline.save_lora_weights(folder, transformer_lora_layers=layers)
    pipeline.load_lora_weights(folder)


@pytest.mark.parametrize("layers", [["time_embedding.linear_1"], ["norm1.linear"]])
def test_lora_at_scale_zero_is_none_in_the_constants_too(make_pipeline, reference, tmp_path, layers):
    pipeline = make_pipeline()
    plain = run(pipeline, reference)
    with_lora(pipeline, tmp_path, layers)
    assert not torch.allclose(run(pipeline, reference), plain, atol=1e-3)
    torch.testing.assert_close(run(pipeline, reference, attention_kwargs={"scale": 0.0}), plain, rtol=0, atol=1e-5)


def test_a_processor_that_knows_no_face_is_refused(make_pipeline, reference):
    for change in (
        lambda transformer: transformer.fuse_qkv_projections(),
        lambda transformer: transformer.set_attn_processor(CogVideoXAttnProcessor2_0()),
    ):
        pipeline = make_pipeline()
        change(pipeline.transformer)
        with pytest.raises(ConfigError, match="the face would get lost"):
            run(pipeline, reference)
        assert torch.isfinite(run(pipeline, None)).all()  # without a face it is the stock model


def test_a_transformer_that_torch_compile_wraps_gives_the_same(make_pipeline, reference):
    expected = run(make_pipeline(), reference)
    pipeline = make_pipeline()
    pipeline.transformer = torch.compile(pipeline.transformer, backend="eager")
    torch.testing.assert_close(run(pipeline, reference), expected, rtol=0, atol=1e-5)


def test_one_row_needs_no_more_graphs_than_two(make_pipeline, reference):
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    pipeline = make_pipeline()
    pipeline.transformer.compile_repeated_blocks(fullgraph=True, backend=count)
    run(pipeline, reference, guidance_scale=1.0)
    torch._dynamo.reset()
    assert len(graphs) == 2  # with and without an adapter


def test_a_callback_of_the_library_that_asks_for_a_share_of_the_steps_runs(make_pipeline, reference):
    seen = []

    class Watch(PipelineCallback):
        tensor_inputs = ("latents",)

        def callback_fn(self, pipeline, step, timestep, tensors):
            cut = int(pipeline.num_timesteps * self.config.cutoff_step_ratio)
            seen.append((step, cut, pipeline.guidance_scale, pipeline.attention_kwargs))
            return tensors

    run(make_pipeline(), reference, callback_on_step_end=Watch(cutoff_step_ratio=0.5))
    assert seen == [(step, 1, 3.0, None) for step in range(3)]


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_callback_may_change_the_guidance_as_in_the_stock_pipeline(make_pipeline, stock_of, dynamic):
    ours = make_pipeline()
    latents, seen = [], []

    def halve(pipeline, *_):
        seen.append(pipeline.guidance_scale)
        pipeline._guidance_scale /= 2
        return {}

    for pipeline in (stock_of(ours), ours):
        options = {**OPTIONS, "use_dynamic_cfg": dynamic, "callback_on_step_end": halve, "max_sequence_length": 24}
        options |= {"height": 32, "width": 32, "num_frames": 9, "generator": torch.Generator().manual_seed(0)}
        del options["seed"]
        latents.append(pipeline("a man smiles", **options).frames)
    assert seen[:3] == seen[3:] and len(set(seen)) == 3
    assert torch.equal(*latents)


def test_noise_of_another_precision_is_taken(make_pipeline, reference):
    pipeline = make_pipeline().to(torch.bfloat16)
    noise = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    expected = run(pipeline, reference, latents=noise.bfloat16())
    assert torch.equal(run(pipeline, reference, latents=noise), expected)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "scheduler", [UniPCMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, PNDMScheduler]
)
def test_another_scheduler_of_the_library_gives_the_latents_of_the_stock_pipeline(
    make_pipeline, stock_of, monkeypatch, scheduler, dynamic
):
    ours = make_pipeline()
    stock = stock_of(ours)
    updates = {}
    for pipeline in (ours, stock):
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
        bar = tqdm(total=4, file=io.StringIO())
        monkeypatch.setattr(pipeline, "progress_bar", lambda total, bar=bar: bar)
        updates[pipeline] = bar
    size = {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 24}
    options = {**OPTIONS, **size, "num_inference_steps": 4, "use_dynamic_cfg": dynamic}
    del options["seed"]
    expected = stock("a man smiles", generator=torch.Generator().manual_seed(0), **options).frames
    assert torch.equal(ours("a man smiles", generator=torch.Generator().manual_seed(0), **options).frames, expected)
    assert ours.num_timesteps == stock.num_timesteps
    assert updates[ours].n == updates[stock].n == 4


def test_a_list_of_negative_prompts_has_one_for_each(make_pipeline):
    pipeline = make_pipeline()
    noise = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    both = run(pipeline, None, prompt=["a man", "the man"], negative_prompt=["bad", "ugly"], latents=noise)
    for row, (text, negative) in enumerate((("a man", "bad"), ("the man", "ugly"))):
        alone = run(pipeline, None, prompt=text, negative_prompt=negative, latents=noise[row : row + 1])
        torch.testing.assert_close(both[row : row + 1], alone, rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match="1 negative prompts were given for 2"):
        run(pipeline, None, prompt=["a man", "the man"], negative_prompt=["bad"])


@pytest.mark.parametrize("scheduler", [CogVideoXDDIMScheduler, CogVideoXDPMScheduler])
def test_videos_of_one_prompt_are_those_of_their_generators(make_pipeline, reference, scheduler):
    pipeline = make_pipeline()
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    texts, negatives = ["a man smiles", "the man in a hat"], ["bad", "ugly"]

    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    options = {"prompt": texts, "negative_prompt": negatives, "output_type": "np"}
    videos = run(pipeline, reference, **options, generator=generators(*range(4)), num_videos_per_prompt=2)
    assert videos.shape == (4, 9, 32, 32, 3)
    for row, video in enumerate(videos):
        single = {"prompt": texts[row // 2], "negative_prompt": negatives[row // 2], "output_type": "np"}
        alone = run(pipeline, reference, **single, generator=generators(row))
        assert abs(video - alone[0]).max() < 1e-4
    with torch.no_grad():
        text, negative = pipeline.encode_prompt(texts, negatives, identity=pipeline.encode_identity([reference]))
    given = {"prompt": None, "prompt_embeds": text, "negative_prompt_embeds": negative, "output_type": "np"}
    again = run(pipeline, reference, **given, generator=generators(*range(4)), num_videos_per_prompt=2)
    assert (again == videos).all()


def test_videos_of_one_prompt_and_seed_differ_and_none_is_no_number_of_them(make_pipeline, reference):
    first, second = run(make_pipeline(), reference, num_videos_per_prompt=2, guidance_scale=1.0)
    assert (first - second).abs().max() > 0.1
    for count in (0, -1, 1.5):
        with pytest.raises(ConfigError, match=f"whole number from 1 on, got {count}"):
            run(make_pipeline(), reference, num_videos_per_prompt=count)


@pytest.mark.parametrize("count", [0, 2])
def test_a_list_of_generators_has_one_for_each_video(make_pipeline, count):
    with pytest.raises(ConfigError, match=f"{count} generators were given for 1 videos"):
        run(make_pipeline(), None, generator=[torch.Generator().manual_seed(0)] * count)


def test_an_adapter_is_not_lost_in_weights_that_are_not_there(make_pipeline, tmp_path):
    make_pipeline(seed=7).save_adapter(tmp_path / "adapter")
    pipeline = make_pipeline()
    accelerate.cpu_offload(pipeline.transformer, torch.device("cpu"), offload_buffers=True)
    with pytest.raises(WeightsError, match="before the networks are offloaded"):
        pipeline.load_adapter(tmp_path / "adapter")
    with pytest.raises(WeightsError, match="before the networks are offloaded"):
        pipeline.save_adapter(tmp_path / "other")
    assert not (tmp_path / "other").exists()
