"""What the tests of this room share: example portraits with landmarks, and a tiny VAE."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from magicmirror.faces.alignment import head_transform, transform_points
from magicmirror.media import load_image


@pytest.fixture(scope="session")
def portraits(examples, example_references):
    """Name -> (picture, landmarks) of the example faces."""
    return {
        name: (load_image(examples / f"{name}.jpg"), reference.landmarks)
        for name, reference in example_references.items()
    }


@pytest.fixture(scope="session")
def template_landmarks():
    """Name of an example -> its (5, 2) landmarks in template units."""

    def of(landmarks):
        return ((transform_points(head_transform(landmarks, "dlib5", 128), landmarks) + 0.5) / 128).astype(np.float32)

    return of


def make_tiny_vae():
    """A CogVideoX VAE of the real class with random weights, always the same."""
    from diffusers import AutoencoderKLCogVideoX

    torch.manual_seed(0)
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        sample_height=32,
        sample_width=32,
        scaling_factor=0.7,
    )
    return vae.eval()


@pytest.fixture(scope="session")
def tiny_vae():
    """See ``make_tiny_vae``."""
    return make_tiny_vae()


@pytest.fixture(scope="session")
def tools():
    """What finds and what embeds faces, as importers take them."""
    from magicmirror.data.embedding import BatchEmbedder
    from magicmirror.faces.dlib_search import DlibFaceSearch

    return DlibFaceSearch(), BatchEmbedder()
