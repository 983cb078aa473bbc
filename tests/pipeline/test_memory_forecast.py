"""The formulas of memory against what is counted, and the choice of a policy."""

import re
from dataclasses import replace

import pytest
import torch

from magicmirror.errors import ConfigError
from magicmirror.models.parameters import build_networks
from magicmirror.models.presets import model_preset
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.pipeline.activation_count import count_activation_bytes
from magicmirror.pipeline.memory_forecast import (
    GIB,
    MemoryBudget,
    MemoryPlan,
    choose_plan,
    decode_bytes,
    denoise_bytes,
    forecast_bytes,
)
from magicmirror.pipeline.memory_options import POLICIES, MemoryOptions
from magicmirror.pipeline.model_size import VideoWork, preset_size
from magicmirror.pipeline.placement import usual_work
from magicmirror.pipeline.profiles import find_profile

FULL = VideoWork(49, 480, 720, guided=True, steps=50)


@pytest.fixture(scope="module")
def full_size():
    return preset_size("cogvideox-5b", 2)


def meta(*shape, dtype=torch.bfloat16):
    return torch.empty(*shape, device="meta", dtype=dtype)


def test_the_counter_counts_what_lives_at_once():
    start = meta(1000, dtype=torch.float32)

    def call():
        out = start
        for _ in range(10):
            out = torch.nn.functional.silu(out) * 2 + out  # the last one, its silu, and twice that

    assert count_activation_bytes(call, [start]) == 3 * 4000
    query = meta(1, 2, 5000, 8)
    attended = count_activation_bytes(
        lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query), [query]
    )
    assert attended == query.numel() * 2  # no matrix of 5000 x 5000


@pytest.mark.parametrize(("frames", "height", "width", "rows"), [(49, 480, 720, 2), (17, 256, 384, 1)])
def test_denoising_is_forecast_and_never_too_low(full_size, frames, height, width, rows):
    """Two blocks stand for 42: the worst moment is inside of one."""
    with torch.device("meta"):
        config = {**model_preset("cogvideox-5b").transformer, "num_layers": 2}
        model = torch.nn.Module.to(MagicMirrorTransformer3DModel(**config), torch.bfloat16).eval()
    latent_frames, cells = (frames - 1) // 4 + 1, (height // 16) * (width // 16)
    inputs = {
        "hidden_states": meta(rows, latent_frames, 16, height // 8, width // 8),
        "encoder_hidden_states": meta(rows, 226, 4096),
        "timestep": meta(rows, dtype=torch.long),
    }
    rotary = (
        meta(latent_frames * cells, 64, dtype=torch.float32),
        meta(latent_frames * cells, 64, dtype=torch.float32),
    )
    with torch.no_grad():
        constants = model.precompute_identity(meta(rows, 2, 2048), meta(rows, 32, 3072), meta(50, dtype=torch.long))
    kept = [tensor for block in constants.blocks for tensor in block if isinstance(tensor, torch.Tensor)]
    known = [*model.parameters(), *model.buffers(), *rotary, *inputs.values(), *kept]
    counted = count_activation_bytes(
        lambda: model(**inputs, image_rotary_emb=rotary, identity_constants=constants.at(0)), known
    )
    of_one_block = rows * (50 * 18 * 3072 + 2 * 32 * 3072)
    assert sum(tensor.numel() for tensor in kept) == of_one_block  # one of the two has an adapter
    forecast = denoise_bytes(full_size, VideoWork(frames, height, width, guided=rows == 2, steps=50))
    assert 1.0 <= (forecast - full_size.adapted_layers * of_one_block * 2) / counted < 1.2


@pytest.mark.parametrize("preset", ["preview", "cogvideox-5b"])
def test_decoding_is_forecast_within_a_tenth(preset):
    vae = torch.nn.Module.to(build_networks(preset, names=("vae",))["vae"], torch.bfloat16).eval()
    latents = meta(1, 16, 5, 16, 16)
    counted = count_activation_bytes(lambda: vae.decode(latents).sample, [*vae.parameters(), *vae.buffers(), latents])
    forecast = decode_bytes(preset_size(preset, 2), VideoWork(17, 128, 128), tiling=False)
    assert 0.97 <= forecast / counted < 1.1


def test_a_tile_is_what_a_tiled_decode_costs(full_size):
    tile = replace(FULL, height_px=240, width_px=360)
    frames = 2 * 3 * 49 * (480 * 720 - 240 * 360) * 2  # the finished ones
    assert decode_bytes(full_size, FULL, tiling=True) == decode_bytes(full_size, tile, tiling=False) + frames
    assert decode_bytes(full_size, tile, tiling=True) == decode_bytes(full_size, tile, tiling=False)


def test_weights_are_those_of_the_table(full_size):
    parameters = sum(p.numel() for network in build_networks("cogvideox-5b").values() for p in network.parameters())
    assert sum(full_size.weights.values()) / 2 == pytest.approx(parameters, rel=1e-3)  # buffers count too
    assert full_size.weights["text_encoder"] / GIB == pytest.approx(8.87, abs=0.01)
    assert 42 * full_size.block_bytes > full_size.weights["transformer"] - full_size.rest_bytes
    eight = preset_size("cogvideox-5b", 2, "int8")
    assert eight.weights["text_encoder"] / full_size.weights["text_encoder"] == pytest.approx(0.51, abs=0.01)
    assert eight.weights["vae"] == full_size.weights["vae"]
    assert full_size.tokens(FULL) == 226 + 32 + 17_550


def test_the_figures_of_the_issue(full_size):
    """Resident with tiles at most 28.6 GiB, as in the paper; 8-bit weights with offload at most 13."""
    resident = forecast_bytes(full_size, FULL, MemoryPlan("resident", vae_tiling=True))
    assert 26 * GIB < resident <= 28.6 * GIB
    eight = preset_size("cogvideox-5b", 2, "int8")
    offloaded = forecast_bytes(eight, FULL, MemoryPlan("model", "int8", vae_tiling=True))
    assert 10 * GIB < offloaded <= 13 * GIB


def test_each_policy_needs_less_than_the_one_before(full_size):
    plans = [MemoryPlan("resident"), MemoryPlan("resident", frees_text_encoder=True)]
    plans += [MemoryPlan(policy) for policy in POLICIES[1:]]
    for tiling in (False, True):
        needs = [forecast_bytes(full_size, FULL, replace(plan, vae_tiling=tiling)) for plan in plans]
        assert needs == sorted(needs, reverse=True) and len(set(needs)) == len(needs)


@pytest.mark.parametrize(
    ("free_gib", "policy", "frees", "words"),
    [
        (139.0, "resident", False, r"^resident: every network stays .*; 28\.\d of 139\.0 GiB free are needed$"),
        (28.0, "resident", True, r"the text encoder only while it reads a prompt.*would need 28\.\d\)$"),
        (22.0, "model", False, r"^model: only the network at work.* of 22\.0 GiB free .*resident without that"),
        (11.0, "group", False, r"^group: only the layers at work"),
        (5.3, "sequential", False, r"^sequential: only the layer at work is on the device, which is slow"),
        (3.0, "sequential", False, r"which is too much: expect it to fail$"),
    ],
)
def test_auto_takes_the_fastest_that_fits_and_says_why(full_size, free_gib, policy, frees, words):
    plan = choose_plan(full_size, FULL, MemoryOptions(), int(free_gib * GIB), "cuda", tiling=True)
    assert (plan.policy, plan.frees_text_encoder, plan.vae_tiling) == (policy, frees, True)
    assert re.search(words, plan.reason), plan.reason


def test_what_is_asked_for_is_taken(full_size):
    plan = choose_plan(full_size, FULL, MemoryOptions("sequential"), 139 * GIB, "cuda", tiling=True)
    assert plan.policy == "sequential" and "would need" not in plan.reason
    plan = choose_plan(full_size, FULL, MemoryOptions("resident", vae_tiling=False), 20 * GIB, "cuda", tiling=True)
    assert (plan.policy, plan.vae_tiling) == ("resident", False) and "expect it to fail" in plan.reason
    tiled = choose_plan(full_size, FULL, MemoryOptions(), 30 * GIB, "cuda", tiling=False)
    assert (tiled.policy, tiled.vae_tiling, tiled.frees_text_encoder) == ("resident", True, False)


@pytest.fixture(scope="module")
def budget():
    work = usual_work(find_profile("cogvideox-1.5-5b"))
    size = preset_size("cogvideox-1.5-5b", 2)
    return lambda free_gib, policy="auto": MemoryBudget(
        size, work, MemoryOptions(policy), int(free_gib * GIB), "cuda", tiling=True
    )


def test_a_longer_video_takes_a_lower_plan_where_the_usual_one_is_too_large(budget):
    card = budget(24)
    usual, longest = card.choose(card.usual), replace(card.usual, num_frames=161)
    assert usual.policy == "model" and forecast_bytes(card.size, longest, usual) > 24 * GIB
    assert card.lowered(usual, card.usual) is usual and card.lowered(usual, replace(longest, num_frames=1)) is usual
    lower = card.lowered(usual, longest)
    assert lower.policy == "group" and lower.reason.startswith("group: ") and "would need" in lower.reason
    large = budget(139)
    assert large.lowered(large.choose(large.usual), longest).policy == "resident"
    lowered = MemoryPlan("sequential", vae_tiling=True)  # memory ran out before
    assert card.lowered(lowered, longest) is lowered


def test_a_video_that_no_plan_can_make_is_refused_unless_it_is_the_usual_one_or_the_policy_was_named(budget):
    card = budget(11)
    usual, longest = card.choose(card.usual), replace(card.usual, num_frames=161)
    with pytest.raises(
        ConfigError, match=r"^161 frames .* need 1\d\.\d GiB .* 11\.0 GiB are free\. .*fewer .* is 81\.$"
    ):
        card.lowered(usual, longest)
    small = budget(3)
    assert small.lowered(small.choose(small.usual), small.usual).policy == "sequential"
    named = budget(11, "model")
    assert named.lowered(named.choose(named.usual), longest).policy == "model"


def test_a_cpu_has_one_memory():
    plan = choose_plan(preset_size("preview", 4), VideoWork(17, 128, 128), MemoryOptions(), 8 * GIB, "cpu", False)
    assert plan == MemoryPlan(reason=plan.reason)
    assert plan.reason.startswith("resident: the CPU has one memory;") and plan.reason.endswith(
        "of 8.0 GiB free are needed"
    )


def test_plans_below():
    plan, seen = MemoryPlan("resident", "int8", frees_text_encoder=True, reason="first"), []
    while (plan := plan.below()) is not None:
        seen.append((plan.policy, plan.quantisation, plan.vae_tiling, plan.frees_text_encoder))
        assert "did not suffice" in plan.reason
    assert seen == [(policy, "int8", True, False) for policy in POLICIES[1:]]


@pytest.mark.parametrize("profile", ["cogvideox-5b", "cogvideox-1.5-5b"])
def test_the_tables_of_the_docs_are_current(repository, profile):
    work = usual_work(find_profile(profile))
    expected = []
    for policy in ("resident", "resident, text encoder freed", *POLICIES[1:]):
        plan = MemoryPlan(policy.partition(",")[0], vae_tiling=True, frees_text_encoder="freed" in policy)
        columns = (("none", True), ("none", False), ("int8", True))
        needs = [
            forecast_bytes(preset_size(profile, 2, kind), work, replace(plan, vae_tiling=t)) for kind, t in columns
        ]
        expected.append((policy, *(f"{need / GIB:.1f}" for need in needs)))
    text = (repository / "docs" / "memory.md").read_text()
    table = text[text.index(f"| CogVideoX-{profile.removeprefix('cogvideox-').upper()}") :]
    assert re.findall(r"^\| ([a-z, ]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", table, re.M)[:5] == expected


@pytest.mark.parametrize("given", [{"policy": "none"}, {"quantisation": "int4"}])
def test_unknown_names_are_refused(given):
    with pytest.raises(ConfigError, match=r"is no (memory policy|quantisation).*Choose one of"):
        MemoryOptions.named(**given)
    assert MemoryOptions.named("group", "fp8") == MemoryOptions("group", "fp8")
