"""Which device a pipeline lives on and how its networks share the memory."""

import pytest
import torch

from magicmirror.errors import ConfigError
from magicmirror.pipeline.placement import choose_device


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("warp", "cuda:99", "meta"):
        with pytest.raises(ConfigError, match=name):
            choose_device(name)
