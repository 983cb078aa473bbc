"""Regional compilation: one graph a kind of block, the same numbers, and nothing compiled again later."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

TIMESTEPS = (900, 500, 100)


@pytest.fixture
def compiler():
    """Counts graphs; dynamo's own memory is one for the whole process."""
    torch._dynamo.reset()
    counters.clear()
    yield CompileCounterWithBackend("eager")
    torch._dynamo.reset()
    counters.clear()


def test_one_graph_a_kind_of_block_and_none_at_later_steps_or_requests(tiny, compiler):
    model = tiny.model("rotary and learned")
    inputs = tiny.inputs(model, timesteps=(TIMESTEPS[0],) * 2)

    def request(seed, scale):
        """Predictions of a guided request of three steps."""
        constants = model.precompute_identity(
            **tiny.identity(model, seed=seed), timesteps=torch.tensor(TIMESTEPS), identity_scale=scale
        )
        start = tiny.inputs(model, seed=seed)["hidden_states"]
        changing = [
            {"hidden_states": start + step, "timestep": torch.tensor([timestep] * 2)}
            for step, timestep in enumerate(TIMESTEPS)
        ]
        return [
            tiny.predict(model, **{**inputs, **change}, identity_constants=constants.at(step))
            for step, change in enumerate(changing)
        ]

    expected = [*request(1, 1.0), *request(2, 0.5)]
    model.compile_repeated_blocks(fullgraph=True, backend=compiler)
    found = request(1, 1.0)
    assert compiler.frame_count == 2  # with and without an adapter
    found += request(2, 0.5)
    assert compiler.frame_count == 2
    assert not counters["graph_break"] and not counters["recompile_limit"]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
