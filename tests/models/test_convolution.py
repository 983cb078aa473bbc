"""Convolutions by oneDNN: the numbers of torch's own, and nothing else is touched."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from magicmirror.models.convolution import DirectConvolutions


def kernels(run):
    """Names of what was computed."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        run()
    return {event.key for event in record.key_averages()}


@torch.no_grad()
@pytest.mark.parametrize(
    "settings",
    [{}, {"stride": (1, 2, 2)}, {"dilation": (1, 2, 1)}, {"groups": 4}, {"bias": False}, {"padding": (2, 0, 1)}],
)
def test_the_numbers_are_those_of_the_slow_path(settings):
    torch.manual_seed(0)
    layer = nn.Conv3d(8, 12, 3, **{"padding": (0, 1, 1), **settings})
    clip = torch.randn(1, 8, 6, 20, 24)
    expected = layer(clip)
    with DirectConvolutions():
        torch.testing.assert_close(layer(clip), expected, atol=1e-5, rtol=1e-5)
        assert "aten::mkldnn_convolution" in kernels(lambda: layer(clip))
    if not settings:
        assert "aten::slow_conv3d_forward" in kernels(lambda: layer(clip))  # what it is for


def test_what_has_a_gradient_or_another_type_is_computed_as_ever():
    layer = nn.Conv3d(4, 4, 3, padding="same")
    clip = torch.randn(1, 4, 3, 8, 8)
    with DirectConvolutions():
        layer(clip).sum().backward()
        expected = torch.autograd.functional.jacobian(
            lambda weight: functional.conv3d(clip, weight, padding=1).sum(), layer.weight
        )
        torch.testing.assert_close(layer.weight.grad, expected)
        assert layer.double()(clip.double()).dtype == torch.float64
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert layer.float()(clip).dtype == torch.bfloat16
