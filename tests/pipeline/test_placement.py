"""Which device a pipeline lives on and how its networks share the memory."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from magicmirror.errors import ConfigError
from magicmirror.models.parameters import build_networks
from magicmirror.pipeline import placement
from magicmirror.pipeline.memory_forecast import GIB, MemoryBudget, MemoryPlan, forecast_bytes
from magicmirror.pipeline.memory_options import MemoryOptions
from magicmirror.pipeline.model_size import preset_size, whole_tile_px
from magicmirror.pipeline.placement import (
    apply_plan,
    choose_device,
    free_bytes,
    place,
    place_for,
    step_down,
    usual_work,
)
from magicmirror.pipeline.profiles import find_profile
from magicmirror.types import VideoShape

CPU = torch.device("cpu")
OPTIONS = {"num_inference_steps": 2, "guidance_scale": 3.0, "seed": 0, "output_type": "latent"}
MOVES = {  # what runs with the CPU in the place of the GPU
    "resident": MemoryPlan("resident"),
    "resident, tiles": MemoryPlan("resident", vae_tiling=True),
    "text encoder freed": MemoryPlan("resident", frees_text_encoder=True),
    "model": MemoryPlan("model"),
    "group": MemoryPlan("group"),
}


def latents(pipeline, reference):
    return pipeline("a man smiles", [reference], **OPTIONS).frames


def networks(pipeline):
    return [part for part in pipeline.components.values() if isinstance(part, nn.Module)]


def test_devices():
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("warp", "cuda:99", "meta"):
        with pytest.raises(ConfigError, match=name):
            choose_device(name)
    assert 2**20 < free_bytes(CPU) < 2**50


@pytest.mark.parametrize("plan", MOVES.values(), ids=MOVES)
def test_a_plan_changes_no_latents_and_can_be_taken_back(make_pipeline, pipeline, reference, plan):
    expected = latents(pipeline, reference)
    moved = make_pipeline()
    apply_plan(moved, plan, CPU)
    assert moved.memory_plan == plan and moved._execution_device.type == "cpu"
    for _ in range(2):
        assert torch.equal(latents(moved, reference), expected)
    apply_plan(moved, MemoryPlan(), CPU)
    assert not any(hasattr(module, "_hf_hook") for network in networks(moved) for module in network.modules())
    registries = [
        getattr(module, "_diffusers_hook", None) for network in networks(moved) for module in network.modules()
    ]
    assert not any("group_offloading" in registry.hooks for registry in registries if registry is not None)
    assert torch.equal(latents(moved, reference), expected)


def test_every_plan_follows_every_other(make_pipeline, pipeline, reference):
    expected, moved = latents(pipeline, reference), make_pipeline()
    for plan in (*MOVES.values(), *reversed(MOVES.values())):
        apply_plan(moved, plan, CPU)
        assert (moved.vae.use_tiling, moved.text_encoder_hook is not None) == (plan.vae_tiling, plan.frees_text_encoder)
        assert torch.equal(latents(moved, reference), expected)


def test_the_text_encoder_leaves_as_soon_as_the_prompt_is_read(fresh_pipeline, monkeypatch):
    apply_plan(fresh_pipeline, MOVES["text encoder freed"], CPU)
    left = []
    monkeypatch.setattr(fresh_pipeline.text_encoder_hook, "offload", lambda: left.append(True))
    embeds, negative = fresh_pipeline.encode_prompt("a man smiles", "", True)
    assert left == [True] and embeds.shape == negative.shape
    with pytest.raises(TypeError):
        fresh_pipeline.encode_prompt(3)  # type: ignore[arg-type]
    assert left == [True, True]


def test_the_text_encoder_stays_once_its_hook_is_removed(fresh_pipeline, reference):
    expected = latents(fresh_pipeline, reference)
    apply_plan(fresh_pipeline, MOVES["text encoder freed"], CPU)
    fresh_pipeline.remove_all_hooks()
    assert fresh_pipeline.text_encoder_hook is None
    assert torch.equal(latents(fresh_pipeline, reference), expected)


@pytest.mark.parametrize("with_identity", [True, False])
def test_one_network_at_a_time_is_on_the_device(fresh_pipeline, reference, with_identity):
    """The device is named ``cpu:0`` where networks work, ``cpu`` where they wait.

    accelerate moves the network before out of the way only where the two differ in kind; that is done by hand here.
    """
    apply_plan(fresh_pipeline, MOVES["model"], CPU)
    on_device, seen = set(), []

    def watched(part, move):
        before = part._hf_hook.prev_module_hook

        def to(device, *rest, **options):
            if str(device) == "cpu:0":
                on_device.discard(before and before.model)
                on_device.add(part)
            else:
                on_device.discard(part)
            return move(device, *rest, **options)

        return to

    for part in networks(fresh_pipeline):
        part.to = watched(part, part.to)
    transformer, vae = fresh_pipeline.transformer, fresh_pipeline.vae
    for layer in (transformer.proj_out, vae.decoder.conv_in):
        layer.register_forward_hook(lambda *_: seen.append(frozenset(on_device)))
    references = [reference] if with_identity else None
    fresh_pipeline("a man smiles", references, **{**OPTIONS, "output_type": "np"})
    assert set(seen) == {frozenset({transformer}), frozenset({vae})}


def test_placing_on_a_cpu(fresh_pipeline):
    profile = replace(find_profile("preview"), shape=VideoShape(9, 32, 32, 8))
    assert place(fresh_pipeline, profile, CPU) is fresh_pipeline
    plan = fresh_pipeline.memory_plan
    assert (plan.policy, plan.vae_tiling) == ("resident", False)
    assert plan.reason.startswith("resident: the CPU has one memory")
    assert step_down(fresh_pipeline) is None
    place(fresh_pipeline, replace(profile, vae_tiling=True), CPU, MemoryOptions("resident"))
    assert fresh_pipeline.vae.use_tiling
    with pytest.raises(ConfigError, match=r'"model" moves weights.*this device is a CPU.*"auto"'):
        place(fresh_pipeline, profile, CPU, MemoryOptions("model"))


def test_the_usual_video_of_a_profile():
    work = usual_work(find_profile("cogvideox-5b"))
    assert (work.num_frames, work.height_px, work.width_px, work.rows, work.steps) == (49, 480, 720, 2, 50)


@pytest.mark.parametrize("preset", ["preview", "cogvideox-5b"])
def test_tiles_overlap_by_whole_cells(preset):
    """Otherwise diffusers puts together a video of another size; the next test decodes one."""
    vae = build_networks(preset, names=("vae",))["vae"]
    tile = whole_tile_px(vae)
    assert tile == {"preview": (48, 40), "cogvideox-5b": (240, 360)}[preset]
    for side, overlap in zip(tile, (vae.tile_overlap_factor_height, vae.tile_overlap_factor_width), strict=True):
        assert int(side // 8 * (1 - overlap)) * 8 == side - int(side * overlap)


def test_tiles_and_slices_change_little(fresh_pipeline):
    """A row at a time is the same; at the seams of tiles the random networks here have other means and scales."""
    latents = torch.randn(2, 1, 4, 12, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = fresh_pipeline.decode_latents(latents)
        fresh_pipeline.vae.enable_slicing()
        torch.testing.assert_close(fresh_pipeline.decode_latents(latents), whole, rtol=0, atol=1e-4)
        apply_plan(fresh_pipeline, MOVES["resident, tiles"], CPU)
        tiled = fresh_pipeline.decode_latents(latents)
    assert tiled.shape == whole.shape == (2, 3, 1, 96, 80)
    assert 0 < (tiled - whole).abs().mean() < 0.5 * whole.std()


def refuse_moves(pipeline, monkeypatch, failures):
    """A device that is there only by name: nothing comes onto it, and the first moves of weights run out of memory."""
    refused, cuda = [], torch.device("cuda")
    monkeypatch.setattr(placement, "free_bytes", lambda device: 139 * GIB)

    def move(device, *rest, **options):
        if torch.device(device) == cuda and len(refused) < failures:
            nn.Module.to(pipeline.image_encoder, "meta")  # the first network has left already
            nn.Module.to_empty(pipeline.image_encoder, device="cpu")
            refused.append(device)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return type(pipeline).to(pipeline, device, *rest, **options)

    monkeypatch.setattr(pipeline, "to", move)
    return refused


def test_memory_that_does_not_suffice_for_the_weights_takes_the_next_policy(fresh_pipeline, monkeypatch, caplog):
    refused = refuse_moves(fresh_pipeline, monkeypatch, failures=1)
    place(fresh_pipeline, find_profile("preview"), torch.device("cuda"))
    assert refused == [torch.device("cuda")]
    plan = fresh_pipeline.memory_plan
    assert (plan.policy, plan.vae_tiling) == ("model", True)
    assert "because the memory did not suffice for resident" in plan.reason and plan.reason in caplog.text
    assert all(hasattr(network, "_hf_hook") for network in networks(fresh_pipeline))  # each waits on the CPU
    assert {parameter.device for network in networks(fresh_pipeline) for parameter in network.parameters()} == {CPU}


def test_other_errors_of_placing_are_not_hidden(fresh_pipeline, monkeypatch):
    monkeypatch.setattr(placement, "free_bytes", lambda device: 139 * GIB)

    def fail(*_, **__):
        raise RuntimeError("no such device")

    monkeypatch.setattr(fresh_pipeline, "to", fail)
    with pytest.raises(RuntimeError, match="no such device"):
        place(fresh_pipeline, find_profile("preview"), torch.device("cuda"))


def test_a_longer_video_than_planned_for_is_planned_for_before_it_starts(fresh_pipeline, reference):
    """The tiny networks lie here; sizes and memory are those of CogVideoX 1.5 on a card of 24 GiB."""
    profile = find_profile("cogvideox-1.5-5b")
    usual = usual_work(profile)
    budget = MemoryBudget(preset_size(profile.preset, 2), usual, MemoryOptions(), 24 * GIB, "cuda", True)
    apply_plan(fresh_pipeline, budget.choose(usual), CPU)
    fresh_pipeline.memory_budget = budget
    assert fresh_pipeline.memory_plan.policy == "model"
    place_for(fresh_pipeline, replace(usual, num_frames=17))
    place_for(fresh_pipeline, usual)
    assert fresh_pipeline.memory_plan == budget.choose(usual)
    longest = replace(usual, num_frames=profile.max_frames)
    place_for(fresh_pipeline, longest)
    plan = fresh_pipeline.memory_plan
    assert plan.policy == "group" and forecast_bytes(budget.size, longest, plan) <= 24 * GIB
    place_for(fresh_pipeline, usual)
    assert fresh_pipeline.memory_plan == plan
    assert latents(fresh_pipeline, reference).isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize("policy", ["resident", "model", "group", "sequential"])
def test_policies_on_a_gpu(make_pipeline, reference, policy):
    expected = latents(make_pipeline(), reference)
    moved = make_pipeline()
    place(moved, find_profile("preview"), torch.device("cuda"), MemoryOptions(policy))
    for _ in range(2):
        torch.testing.assert_close(latents(moved, reference).cpu(), expected, rtol=0, atol=1e-2)
    assert moved._execution_device.type == "cuda"


@pytest.mark.gpu
def test_stepping_down_on_a_gpu_reaches_the_last_policy(make_pipeline, reference):
    expected, moved = latents(make_pipeline(), reference), make_pipeline()
    place(moved, find_profile("preview"), torch.device("cuda"), MemoryOptions("resident"))
    policies = []
    while (plan := step_down(moved)) is not None:
        policies.append(plan.policy)
        torch.testing.assert_close(latents(moved, reference).cpu(), expected, rtol=0, atol=1e-2)
    assert policies == ["model", "group", "sequential"]
