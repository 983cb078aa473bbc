"""The average of what is trained, and lending it to a model."""

import pytest
import torch
from torch import nn

from magicmirror.errors import WeightsError
from magicmirror.training.average import WeightAverage


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    model[1].requires_grad_(False)
    return model


def test_only_trained_weights_are_copied(model):
    average = WeightAverage(model, 0.9)
    assert set(average.values) == {"0.weight", "0.bias"}
    assert average.values["0.weight"].data_ptr() != model[0].weight.data_ptr()


@torch.no_grad()
def test_first_update_copies_and_later_ones_mix(model):
    average = WeightAverage(model, 0.75)
    model[0].weight.fill_(4.0)
    average.update(model)
    assert (average.values["0.weight"] == 4).all()
    model[0].weight.fill_(8.0)
    average.update(model)
    assert (average.values["0.weight"] == 5).all() and average.updates == 2


@torch.no_grad()
def test_weights_are_lent_and_given_back(model):
    average = WeightAverage(model, 0.5)
    average.values["0.bias"].fill_(7.0)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []

    def fail_inside():
        with average.applied(model):
            seen.append({name: value.clone() for name, value in model.state_dict().items()})
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert (seen[0]["0.bias"] == 7).all() and torch.equal(seen[0]["1.weight"], own["1.weight"])
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
    average.copy_to(model)
    assert (model[0].bias == 7).all()


def test_another_network_s_average_is_refused(model):
    average = WeightAverage(model, 0.5)
    before = average.values["0.weight"].clone()
    for values in ({"0.weight": torch.ones(2, 3)}, {"0.weight": torch.ones(5, 3), "0.bias": torch.ones(2)}):
        with pytest.raises(WeightsError, match=r"does not fit.*0\.(bias|weight)"):
            average.load(values, 3)
    assert torch.equal(average.values["0.weight"], before) and average.updates == 0
