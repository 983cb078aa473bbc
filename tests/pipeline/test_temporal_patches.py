"""CogVideoX 1.5 (patches of two latent frames, positions cut out of one grid) by the same pipeline."""

import pytest
import torch

from magicmirror.errors import ConfigError

NEWER = {"patch_size_t": 2, "patch_bias": False, "sample_height": 12, "sample_width": 12, "sample_frames": 17}
SIZE = {"height": 48, "width": 80}


@pytest.fixture(scope="module")
def newer(make_pipeline):
    return make_pipeline(**NEWER)


@pytest.mark.parametrize("num_frames", [1, 9, 17, 33, 41])
def test_without_identity_it_is_stock_cogvideox(newer, stock_of, reference, num_frames):
    """Odd numbers of latent frames are padded to whole patches, and the padding is gone afterwards."""
    options = {"num_frames": num_frames, "num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "np", **SIZE}
    seeded = {"generator": torch.Generator().manual_seed(3), "max_sequence_length": 24}
    expected = stock_of(newer)("a man smiles", **seeded, **options).frames
    assert expected.shape == (1, num_frames, 48, 80, 3)
    assert (newer("a man smiles", seed=3, **options).frames == expected).all()
    with_identity = newer("a man smiles", [reference], seed=3, **options).frames
    assert with_identity.shape == expected.shape
    assert abs(with_identity - expected).max() > 1e-3


def test_padded_latents_are_the_stock_ones(newer, stock_of):
    options = {"num_frames": 17, "num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "latent", **SIZE}
    seeded = {"generator": torch.Generator().manual_seed(3), "max_sequence_length": 24}
    expected = stock_of(newer)("a man smiles", **seeded, **options).frames
    assert expected.shape == (1, 6, 4, 6, 10)  # five, and one of padding
    assert torch.equal(newer("a man smiles", seed=3, **options).frames, expected)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"height": 48, "width": 112}, "width must be a multiple of 16 px up to 96, got 112.*nearest is 96"),
        ({"height": 40, "width": 80}, "height must be a multiple of 16 px up to 96, got 40.*nearest is"),
    ],
)
def test_sizes_beyond_the_grid_of_positions_are_refused(newer, size, message):
    with pytest.raises(ConfigError, match=message):
        newer("a man smiles", seed=0, num_frames=9, num_inference_steps=1, **size)
