"""Both perceivers: PhotoMaker-V2's tensors by name and shape, and Eq. 3 and 4 derived a second time."""

import math

import pytest
import torch

from magicmirror.models.perceiver import FacePerceiver, IdentityPerceiver


def published_tensors() -> dict[str, tuple[int, ...]]:
    """``qformer_perceiver.*`` of PhotoMaker-V2, without the prefix."""
    names: dict[str, tuple[int, ...]] = {
        "token_proj.0.weight": (2048, 512),
        "token_proj.0.bias": (2048,),
        "token_proj.2.weight": (4096, 2048),
        "token_proj.2.bias": (4096,),
        "token_norm.weight": (2048,),
        "token_norm.bias": (2048,),
        "perceiver_resampler.proj_in.weight": (2048, 1024),
        "perceiver_resampler.proj_in.bias": (2048,),
        "perceiver_resampler.proj_out.weight": (2048, 2048),
        "perceiver_resampler.proj_out.bias": (2048,),
        "perceiver_resampler.norm_out.weight": (2048,),
        "perceiver_resampler.norm_out.bias": (2048,),
    }
    for layer in range(4):
        prefix = f"perceiver_resampler.layers.{layer}"
        for norm in ("0.norm1", "0.norm2", "1.0"):
            names |= {f"{prefix}.{norm}.weight": (2048,), f"{prefix}.{norm}.bias": (2048,)}
        names |= {
            f"{prefix}.0.to_q.weight": (2048, 2048),
            f"{prefix}.0.to_kv.weight": (4096, 2048),
            f"{prefix}.0.to_out.weight": (2048, 2048),
            f"{prefix}.1.1.weight": (8192, 2048),
            f"{prefix}.1.3.weight": (2048, 8192),
        }
    return names


def norm(state, name, x):
    x = x - x.mean(-1, keepdim=True)
    return x / ((x**2).mean(-1, keepdim=True) + 1e-5).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def resample(state, latents, patches, depth, head_dim):
    """Q-Former: keys and values are patches and latents together; heads one by one."""
    prefix = "perceiver_resampler"
    patches = linear(state, f"{prefix}.proj_in", patches)
    for layer in range(depth):
        attention, feed_forward = f"{prefix}.layers.{layer}.0", f"{prefix}.layers.{layer}.1"
        reads, asks = norm(state, f"{attention}.norm1", patches), norm(state, f"{attention}.norm2", latents)
        query = linear(state, f"{attention}.to_q", asks)
        both = linear(state, f"{attention}.to_kv", torch.cat([reads, asks], dim=1))
        inner, heads = query.shape[-1], []
        for start in range(0, inner, head_dim):
            q, k = query[..., start : start + head_dim], both[..., start : start + head_dim]
            v = both[..., inner + start : inner + start + head_dim]
            weight = (q @ k.transpose(1, 2) / math.sqrt(head_dim)).exp()
            heads.append(weight / weight.sum(-1, keepdim=True) @ v)
        latents = latents + linear(state, f"{attention}.to_out", torch.cat(heads, dim=-1))
        hidden = gelu(linear(state, f"{feed_forward}.1", norm(state, f"{feed_forward}.0", latents)))
        latents = latents + linear(state, f"{feed_forward}.3", hidden)
    return norm(state, f"{prefix}.norm_out", linear(state, f"{prefix}.proj_out", latents))


def test_identity_perceiver_has_exactly_photomakers_tensors():
    with torch.device("meta"):
        perceiver = IdentityPerceiver()
    assert {name: tuple(value.shape) for name, value in perceiver.state_dict().items()} == published_tensors()
    assert perceiver.perceiver_resampler.layers[0][0].heads == 16


def test_identity_perceiver_follows_equation_3(tiny):
    perceiver = IdentityPerceiver(12, patch_dim=20, token_dim=16, depth=2, head_dim=8)
    state = tiny.randomise(perceiver).double().state_dict()
    embedding, patches = torch.randn(3, 12).double(), torch.randn(3, 5, 20).double()
    hidden = gelu(linear(state, "token_proj.0", embedding))
    tokens = linear(state, "token_proj.2", hidden)
    tokens = norm(state, "token_norm", torch.stack([tokens[:, :16], tokens[:, 16:]], dim=1))
    expected = tokens + resample(state, tokens, patches, depth=2, head_dim=8)
    # The published softmax is in single precision.
    torch.testing.assert_close(perceiver(embedding, patches), expected, rtol=0, atol=2e-6)
    assert expected.shape == (3, 2, 16)


def test_face_perceiver_follows_equation_4(tiny):
    perceiver = FacePerceiver(20, dim=16, output_dim=24, num_queries=7, depth=2, head_dim=8)
    state = tiny.randomise(perceiver).double().state_dict()
    patches = torch.randn(3, 5, 20).double()
    queries = state["queries"].expand(3, -1, -1)
    expected = linear(state, "proj", queries + resample(state, queries, patches, depth=2, head_dim=8))
    torch.testing.assert_close(perceiver(patches), expected, rtol=0, atol=2e-6)
    assert expected.shape == (3, 7, 24)


def test_face_perceiver_has_the_paper_sizes_by_default():
    with torch.device("meta"):
        perceiver = FacePerceiver()
        tokens = perceiver(torch.zeros(2, 257, 1024))
    assert tokens.shape == (2, 32, 3072)


def test_order_of_patches_does_not_matter(tiny):
    perceiver = tiny.randomise(FacePerceiver(20, dim=16, output_dim=24, num_queries=4, depth=2, head_dim=8)).double()
    patches = torch.randn(1, 9, 20).double()
    torch.testing.assert_close(perceiver(patches.flip(1)), perceiver(patches), rtol=0, atol=2e-6)


def sizes(perceiver):
    return {name: value for name, value in perceiver.config.items() if not name.startswith("_")}


@pytest.mark.parametrize("kind", [IdentityPerceiver, FacePerceiver])
def test_round_trip_is_exact(tiny, tmp_path, kind):
    width = {IdentityPerceiver: "token_dim", FacePerceiver: "dim"}[kind]
    perceiver = tiny.randomise(kind(patch_dim=20, depth=1, head_dim=8, **{width: 16}))
    perceiver.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert sizes(loaded) == sizes(perceiver)
    state = loaded.state_dict()
    assert all(torch.equal(state[name], value) for name, value in perceiver.state_dict().items())
