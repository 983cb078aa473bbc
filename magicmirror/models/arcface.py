"""ArcFace in torch, so that the identity term of section 3.4 has gradients at full size.

The weights are those of an insightface pack (``faces.insightface_packs``), whose ONNX file is run layer by layer; its
packs may be used for non-commercial research only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.models.onnx_network import OnnxNetwork
from magicmirror.models.recognizer import TEMPLATE_EYES
from magicmirror.models.warping import as_complex, cut_similar

CHIP_SIZE_PX = 112
EMBEDDING_SIZE = 512
CHIP_EYES_PX = (38.2946, 51.6963, 73.5318, 51.5014)
"""Eye centres of ArcFace's mean face in its chip: x and y of the one on the picture's left, then of the other
(insightface, ``utils.face_align.arcface_dst``)."""

_FIRST_LAYERS = 8
"""Among which insightface looks for a network's own scaling of its input."""


class ArcFaceRecognizer(nn.Module):
    """ArcFace's network, differentiable in the pixels; frozen.

    Args:
        network: (B, 3, 112, 112) to (B, 512).
    """

    def __init__(self, network: OnnxNetwork) -> None:
        super().__init__()
        self.network = network
        # As insightface does: a network that takes bytes scales them itself.
        scales_itself = {"Sub", "Mul"} <= set(network.operators[:_FIRST_LAYERS])
        self.slope, self.shift = (255.0, 0.0) if scales_itself else (2.0, -1.0)

    @classmethod
    def from_onnx_file(cls, path: Path) -> Self:
        """Read the recogniser of a pack.

        Raises:
            ConfigError: When the package ``onnx`` is not installed.
            WeightsError: When the file is damaged or holds another network.
        """
        network = OnnxNetwork(path)
        if network.input_shape[1:] == (3, CHIP_SIZE_PX, CHIP_SIZE_PX):
            recognizer = cls(network)
            with torch.no_grad():
                if recognizer(torch.zeros(1, 3, CHIP_SIZE_PX, CHIP_SIZE_PX)).shape == (1, EMBEDDING_SIZE):
                    return recognizer
        raise WeightsError(f'"{path}" holds another network than ArcFace\'s.', "Take the pack buffalo_l or antelopev2.")

    def forward(self, images: Tensor) -> Tensor:
        """Embed face chips.

        Args:
            images: (B, 3, 112, 112) RGB in [0, 1], aligned as insightface does.

        Returns:
            (B, 512), not normalised; two strangers are about orthogonal.

        Raises:
            ConfigError: When the shape is another.
        """
        if images.ndim != 4 or images.shape[1:] != (3, CHIP_SIZE_PX, CHIP_SIZE_PX):
            raise ConfigError(f"Face chips must be (B, 3, {CHIP_SIZE_PX}, {CHIP_SIZE_PX}), got {tuple(images.shape)}.")
        embedding: Tensor = self.network(images * self.slope + self.shift)
        return embedding

    def embed_faces(self, frames: Tensor, eyes: Tensor | None = None) -> Tensor:
        """Embed the faces of whole frames by their eyes; nose and mouth are taken to be the mean face's.

        Args:
            frames: (B, 3, H, W) RGB in [0, 1].
            eyes: (B, 4) eye centres as ``data.face_area.Eyes``, in heights of the frame; ``None`` for square frames
                that are aligned to the head template.

        Returns:
            (B, 512), not normalised.
        """
        if eyes is None:
            eyes = torch.tensor(TEMPLATE_EYES)
        placed = eyes.to(frames.device, torch.float32).expand(frames.shape[0], 4) * frames.shape[-2] - 0.5
        left, right = as_complex(placed.unflatten(1, (2, 2))).unbind(1)
        own_left, own_right = complex(*CHIP_EYES_PX[:2]), complex(*CHIP_EYES_PX[2:])
        factor = (right - left) / (own_right - own_left)
        middle = complex((CHIP_SIZE_PX - 1) / 2, (CHIP_SIZE_PX - 1) / 2)
        embedding: Tensor = self(cut_similar(frames, factor, left + factor * (middle - own_left), CHIP_SIZE_PX))
        return embedding
