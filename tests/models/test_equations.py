"""The whole transformer against a second, plain derivation from the paper's equations, in float64, on random weights.

Nothing of the package's block, attention or adapter code is used here: the reference reads a state dict and goes head
by head through Eq. 6 (face modulation), Eq. 7 (CAN) and Eq. 8 (decoupled cross-attention), with its own softmax, layer
norm and rotary positions.
"""

import math

import pytest
import torch

HEADS, HEAD_DIM, PATCH = 2, 16, 2
GRID = (4, 4, 4)  # frames, rows, columns of patches


def layer_norm(x, weight, bias, eps):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def softmax(x):
    e = (x - x.max(-1, keepdim=True).values).exp()
    return e / e.sum(-1, keepdim=True)


def silu(x):
    return x / (1 + (-x).exp())


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def rotary_angles(theta=10_000.0):
    """Angle of every patch and pair of channels, (V, head_dim / 2): 1/4 for time, 3/8 for rows, 3/8 for columns."""
    widths = (HEAD_DIM // 4, HEAD_DIM // 8 * 3, HEAD_DIM // 8 * 3)
    cells = [(f, r, c) for f in range(GRID[0]) for r in range(GRID[1]) for c in range(GRID[2])]
    rows = [
        [place * theta ** (-2 * pair / w) for place, w in zip(cell, widths, strict=True) for pair in range(w // 2)]
        for cell in cells
    ]
    return torch.tensor(rows, dtype=torch.float64)


def rotate(x):
    """Turn each pair of neighbouring channels of (B, V, head_dim) by its angle."""
    angles, even, odd = rotary_angles(), x[..., 0::2], x[..., 1::2]
    turned = (even * angles.cos() - odd * angles.sin(), odd * angles.cos() + even * angles.sin())
    return torch.stack(turned, dim=-1).flatten(-2)


class Reference:
    """A transformer made of a state dict and the equations.

    Args:
        state: Parameters by their diffusers names, float64.
        rotary: Whether video tokens are rotated.
        table: (1, T + V, D) added to all tokens, or zero.
    """

    def __init__(self, state, rotary, table):
        self.state, self.rotary, self.table = state, rotary, table

    def linear(self, name, x):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name, x, eps):
        return layer_norm(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps)

    def time_embedding(self, timestep):
        # The base takes its sinusoids in single precision.
        half = HEADS * HEAD_DIM // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32) / half)
        angles = timestep.float()[:, None] * frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1).double()
        return self.linear("time_embedding.linear_2", silu(self.linear("time_embedding.linear_1", waves)))

    def patches(self, latents):
        """(B, F, C, H, W) -> (B, V, D): one linear map of each patch."""
        weight, bias = self.state["patch_embed.proj.weight"], self.state["patch_embed.proj.bias"]
        tokens = [
            torch.einsum("bcij,dcij->bd", latents[:, f, :, r : r + PATCH, c : c + PATCH], weight) + bias
            for f in range(GRID[0])
            for r in range(0, GRID[1] * PATCH, PATCH)
            for c in range(0, GRID[2] * PATCH, PATCH)
        ]
        return torch.stack(tokens, dim=1)

    def unpatch(self, tokens, shape):
        out, token = torch.zeros(shape, dtype=tokens.dtype), 0
        for f in range(GRID[0]):
            for r in range(0, GRID[1] * PATCH, PATCH):
                for c in range(0, GRID[2] * PATCH, PATCH):
                    patch = tokens[:, token].reshape(shape[0], shape[2], PATCH, PATCH)
                    out[:, f, :, r : r + PATCH, c : c + PATCH] = patch
                    token += 1
        return out

    def modulation(self, block, t, x_id, scale):
        """Eq. 6 and 7: per stream (mu1, sigma1, gamma1, mu2, sigma2, gamma2), each (B, 1, D)."""
        first = self.linear(f"{block}.norm1.linear", silu(t)).chunk(6, dim=-1)  # video 1, text 1
        second = self.linear(f"{block}.norm2.linear", silu(t)).chunk(6, dim=-1)
        m_vid, m_txt = [*first[:3], *second[:3]], [*first[3:], *second[3:]]
        m_face = None
        if x_id is not None and f"{block}.adapter.can.0.weight" in self.state:
            m_face = self.linear(f"{block}.adapter.face_modulation.1", silu(t)).chunk(6, dim=-1)
            c2 = self.linear("identity_proj", torch.cat([x_id[:, 0], x_id[:, 1]], dim=-1))
            hidden = silu(self.linear(f"{block}.adapter.can.0", torch.cat([t, c2, m_vid[0]], dim=-1)))
            m_hat = self.linear(f"{block}.adapter.can.2", hidden).chunk(12, dim=-1)
            m_vid = [base + scale * m_hat[i] for i, base in enumerate(m_vid)]
            m_txt = [base + scale * m_hat[6 + i] for i, base in enumerate(m_txt)]
        return {
            name: [factor[:, None] for factor in factors] if factors is not None else None
            for name, factors in (("text", m_txt), ("face", m_face), ("video", m_vid))
        }

    def heads(self, name, x, norm=None):
        """Project and split: a list of (B, S, head_dim), normalised per head."""
        parts = self.linear(name, x).split(HEAD_DIM, dim=-1)
        return [self.norm(norm, part, 1e-6) for part in parts] if norm else parts

    def attention(self, block, full, x_face, prefix, scale):
        """Eq. 8: T_SA(W_qkv(x_full)) + scale * T_CA(W_q(x_full), W_hat_kv(x_face)), then the output projection."""
        attn = f"{block}.attn1"
        queries = self.heads(f"{attn}.to_q", full, f"{attn}.norm_q")
        keys, values = self.heads(f"{attn}.to_k", full, f"{attn}.norm_k"), self.heads(f"{attn}.to_v", full)
        if x_face is not None:
            face_keys = self.heads(f"{block}.adapter.to_k", x_face, f"{attn}.norm_k")
            face_values = self.heads(f"{block}.adapter.to_v", x_face)
        outputs = []
        for head in range(HEADS):
            q, k, v = queries[head], keys[head], values[head]
            placed = [torch.cat([x[:, :prefix], rotate(x[:, prefix:])], 1) if self.rotary else x for x in (q, k)]
            out = softmax(placed[0] @ placed[1].transpose(1, 2) / math.sqrt(HEAD_DIM)) @ v
            if x_face is not None:
                out = (
                    out + scale * softmax(q @ face_keys[head].transpose(1, 2) / math.sqrt(HEAD_DIM)) @ face_values[head]
                )
            outputs.append(out)
        return self.linear(f"{attn}.to_out.0", torch.cat(outputs, dim=-1))

    def block(self, block, streams, t, x_id, x_face, scale):
        """One block on {text, face, video}; without an adapter the face passes untouched."""
        factors = self.modulation(block, t, x_id, scale)
        names = [name for name in ("text", "face", "video") if name in streams and factors[name] is not None]
        lengths = [streams[name].shape[1] for name in names]
        out = dict(streams)
        for half in range(2):
            part = {name: factors[name][3 * half : 3 * half + 3] for name in names}  # mu, sigma, gamma
            modulated = []
            for name in names:
                mu, sigma, _ = part[name]
                modulated.append(self.norm(f"{block}.norm{half + 1}.norm", out[name], 1e-5) * (1 + sigma) + mu)
            full = torch.cat(modulated, dim=1)
            if half == 0:
                done = self.attention(block, full, x_face if "face" in names else None, sum(lengths[:-1]), scale)
            else:
                done = self.linear(f"{block}.ff.net.2", gelu_tanh(self.linear(f"{block}.ff.net.0.proj", full)))
            for name, change in zip(names, done.split(lengths, dim=1), strict=True):
                out[name] = out[name] + part[name][2] * change
        return out

    def __call__(self, latents, text, timestep, x_id=None, x_face=None, scale=1.0, layers=3):
        t = self.time_embedding(timestep)
        tokens = torch.cat([self.linear("patch_embed.text_proj", text), self.patches(latents)], dim=1) + self.table
        streams = {"text": tokens[:, : text.shape[1]], "video": tokens[:, text.shape[1] :]}
        if x_face is not None:
            streams["face"] = x_face
        for layer in range(layers):
            streams = self.block(f"transformer_blocks.{layer}", streams, t, x_id, x_face, scale)
        shift, factor = self.linear("norm_out.linear", silu(t)).chunk(2, dim=-1)
        video = self.norm("norm_out.norm", self.norm("norm_final", streams["video"], 1e-5), 1e-5)
        video = self.linear("proj_out", video * (1 + factor[:, None]) + shift[:, None])
        return self.unpatch(video, latents.shape)


def reference_of(model):
    table = getattr(model.patch_embed, "pos_embedding", torch.zeros(()))  # the base's own table of positions
    rotary = model.config.use_rotary_positional_embeddings
    return Reference({name: value.double() for name, value in model.state_dict().items()}, rotary, table.double())


# The base rotates in single precision, so with rotary positions the two agree to that precision only.
@pytest.mark.parametrize(
    ("variant", "scale", "tolerance"),
    [("sincos", 1.0, 1e-12), ("sincos", 0.4, 1e-12), ("rotary", 1.0, 2e-6), ("rotary and learned", 0.7, 2e-6)],
)
def test_transformer_follows_the_equations(tiny, variant, scale, tolerance):
    model = tiny.model(variant, torch.float64)
    inputs, identity = tiny.inputs(model), tiny.identity(model)
    derive = reference_of(model)
    given = (inputs["hidden_states"], inputs["encoder_hidden_states"], inputs["timestep"])
    expected = derive(*given, identity["identity_tokens"], identity["face_tokens"], scale)
    torch.testing.assert_close(
        tiny.predict(model, **inputs, **identity, identity_scale=scale), expected, rtol=0, atol=tolerance
    )
    plain = derive(*given)
    torch.testing.assert_close(tiny.predict(model, **inputs), plain, rtol=0, atol=tolerance)
    assert (expected - plain).abs().mean() > 0.1  # the identity matters in what was compared


@pytest.mark.parametrize("part", ["can.", "face_modulation.", "to_k.", "to_v.", "identity_proj.", "null_"])
def test_each_part_of_the_adapter_matters_and_only_where_the_equations_say(tiny, part):
    model = tiny.model("sincos", torch.float64)
    inputs, identity = tiny.inputs(model), tiny.identity(model)
    before = tiny.predict(model, **inputs, **identity)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if model.is_adapter_key(name) and part in name:
                parameter.add_(0.1 * torch.ones_like(parameter).cumsum(-1).cos())
    after = tiny.predict(model, **inputs, **identity)
    assert torch.equal(after, before) == (part == "null_")
    expected = reference_of(model)(
        *(inputs[name] for name in ("hidden_states", "encoder_hidden_states", "timestep")), *identity.values()
    )
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-11)


def test_shift_of_the_base_enters_can(tiny):
    """mu1_vid of Eq. 7 is the base's own shift: CAN follows it when the base changes, with all else fixed."""
    model = tiny.model("sincos", torch.float64)
    arguments = {**tiny.identity(model), "timesteps": torch.tensor([500])}
    with torch.no_grad():
        before = model.precompute_identity(**arguments).blocks[0].residual
        linear = model.transformer_blocks[0].norm1.linear
        linear.bias[32:].add_(1.0)  # scale, gate and all of the text: not the shift
        assert torch.equal(model.precompute_identity(**arguments).blocks[0].residual, before)
        linear.bias[:32].add_(1.0)  # the shift
        assert not torch.allclose(model.precompute_identity(**arguments).blocks[0].residual, before)
