"""Where weights may lie: other dtypes and devices, meta, and offloading in groups. What needs no GPU is tried here."""

import accelerate
import pytest
import torch

CPU = torch.device("cpu")
TIMESTEPS = torch.tensor([900, 500])


@pytest.fixture
def request_of(tiny):
    """Predictions of two steps: once with tokens, and once with constants that were made before."""

    def run(model):
        inputs, identity = tiny.inputs(model), tiny.identity(model)
        constants = model.precompute_identity(**identity, timesteps=TIMESTEPS)
        steps = [{**inputs, "timestep": timestep.expand(2)} for timestep in TIMESTEPS]
        predictions = [tiny.predict(model, **step, **identity) for step in steps]
        predictions += [
            tiny.predict(model, **step, identity_constants=constants.at(index)) for index, step in enumerate(steps)
        ]
        return [*predictions, *(tokens.clone() for tokens in model.null_identity(1))]

    return run


@pytest.mark.parametrize(
    "grouping",
    [{"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}],
    ids=lambda grouping: grouping["offload_type"],
)
def test_group_offloading_finds_every_weight(tiny, request_of, tmp_path, grouping):
    """Offloaded to files, a weight is garbage until its group is brought back, so that one that was missed shows."""
    model = tiny.model("rotary and learned")
    expected = request_of(model)
    model.enable_group_offload(CPU, offload_to_disk_path=str(tmp_path), **grouping)
    for parameter in model.parameters():
        parameter.data.fill_(torch.nan)  # where diffusers leaves what was in the memory
    for _ in range(2):
        assert all(torch.equal(a, b) for a, b in zip(request_of(model), expected, strict=True))


def test_leaves_on_meta_give_the_same(tiny, request_of):
    """accelerate's sequential offloading, with the CPU in the place of the GPU."""
    model = tiny.model("rotary and learned")
    expected = request_of(model)
    accelerate.cpu_offload(model, CPU, offload_buffers=True)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    inputs = {**tiny.inputs(model), **tiny.identity(model), "timestep": TIMESTEPS[:1].expand(2)}
    for _ in range(2):
        assert torch.equal(tiny.predict(model, **inputs), expected[0])
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_moving_to_a_dtype_moves_everything(tiny, dtype):
    model = tiny.model("rotary and learned")
    expected = tiny.predict(model, **tiny.inputs(model), **tiny.identity(model)).double()
    model.to(dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype} and model.dtype == dtype
    found = tiny.predict(model, **tiny.inputs(model), **tiny.identity(model))
    assert found.dtype == dtype
    tolerance = {torch.float16: 5e-3, torch.bfloat16: 4e-2, torch.float64: 1e-5}[dtype]
    assert (found.double() - expected).norm() < tolerance * expected.norm()


def test_shapes_on_the_meta_device(tiny):
    """A meta forward costs nothing and checks that no tensor is made on another device."""
    model = tiny.model("rotary and learned").to("meta")
    arguments = {**tiny.inputs(model), **tiny.identity(model)}
    rotary = tuple(table.to("meta") for table in arguments.pop("image_rotary_emb"))
    arguments = {name: tensor.to("meta") for name, tensor in arguments.items()}
    out = tiny.predict(model, **arguments, image_rotary_emb=rotary)
    assert (out.device.type, out.shape) == ("meta", arguments["hidden_states"].shape)
    model.to_empty(device="cpu")
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


@pytest.mark.gpu
@pytest.mark.parametrize("grouping", [{}, {"use_stream": True}], ids=["plain", "stream"])
@pytest.mark.parametrize("kind", ["leaf_level", "block_level"])
def test_group_offloading_on_a_gpu(tiny, request_of, kind, grouping):
    model = tiny.model("rotary and learned")
    move = {"offload_type": kind, **({"num_blocks_per_group": 1} if kind == "block_level" else {}), **grouping}
    expected = request_of(model)
    model.enable_group_offload(torch.device("cuda"), **move)
    for _ in range(2):
        for found, exact in zip(request_of(model), expected, strict=True):
            torch.testing.assert_close(found.cpu(), exact, rtol=0, atol=1e-3)
    assert model.transformer_blocks[1].ff.net[0].proj.weight.device.type == "cpu"
