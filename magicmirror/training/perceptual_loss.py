"""A perceptual term on decoded frames: pixels, features and embedding, against the frame that was asked for.

Not in the paper (**D7** in ``docs/paper_map.md``). The identity term alone sharpens the first frame only, and with
speckles that please the recogniser rather than the eye; this one compares any frame with its own target, so it knows
pose and light, and early features punish speckles. It is the usual perceptual loss, with the network that is at hand.
The embedding keeps the person through the clip: a turned or tilted head is cut out as crookedly in both pictures.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor
from torch.nn import functional

from magicmirror.models.recognizer import DlibFaceRecognizer, chips_from_template


class PictureDistance:
    """How different two pictures of a canonically framed head look: pixels, features and embedding.

    Args:
        recognizer: Frozen; its features and embeddings are compared.
        centre: (E,) mean embedding, taken off both embeddings before they are compared; see ``IdentityLoss``.
    """

    def __init__(self, recognizer: DlibFaceRecognizer, centre: Tensor | None = None) -> None:
        self.recognizer = recognizer
        self.centre = centre

    def __call__(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """Mean over pictures.

        Args:
            predicted: (N, 3, H, W) in about [-1, 1]; gradients flow into it.
            wanted: Of the same shape.

        Returns:
            Scalar: mean absolute difference of pixels, plus the mean over the recogniser's stages of the squared
            difference of features of unit length, in [0, 4], plus 1 - cosine of the embeddings, in [0, 2].
        """
        maps = self._maps(predicted)
        with torch.no_grad():
            wanted_maps = self._maps(wanted)
        distances = [
            (functional.normalize(map_.float(), dim=1) - functional.normalize(goal.float(), dim=1))
            .square()
            .sum(1)
            .mean()
            for map_, goal in zip(maps, wanted_maps, strict=True)
        ]
        likeness = functional.cosine_similarity(self._embedding(maps), self._embedding(wanted_maps), dim=-1).mean()
        return (predicted - wanted).abs().mean() + torch.stack(distances).mean() + (1 - likeness)

    def _embedding(self, maps: list[Tensor]) -> Tensor:
        embedding = self.recognizer.embedding(maps).float()
        return embedding if self.centre is None else embedding - self.centre.to(embedding)

    def _maps(self, pixels: Tensor) -> list[Tensor]:
        return self.recognizer.feature_maps(chips_from_template((pixels / 2 + 0.5).clamp(0, 1)))


class PerceptualLoss:
    """Decodes one latent frame of some samples, predicted and true, as stills, to be compared by ``distance``.

    A later latent frame of the small VAE, decoded as if it were the first, is the picture in its middle (measured:
    embeddings as near to the portrait as those of the decoded clip), so no clip needs to be decoded.

    Args:
        vae: Frozen; gradients flow through its decoder.
        recognizer: See ``PictureDistance``.
        centre: See ``PictureDistance``.
    """

    def __init__(
        self, vae: AutoencoderKLCogVideoX, recognizer: DlibFaceRecognizer, centre: Tensor | None = None
    ) -> None:
        self.vae = vae.requires_grad_(False).eval()
        self.distance = PictureDistance(recognizer, centre)

    def pictures(self, clean: Tensor, latents: Tensor, frames: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Decode one frame of each of the N kept samples.

        Args:
            clean: (B, F, C, H, W) predicted clean latents, scaled; gradients flow into them.
            latents: (B, F, C, H, W) true ones.
            frames: (B,) which latent frame of each sample.
            keep: (B,) bool; at least one.

        Returns:
            Predicted and true pictures, (N, 3, H_px, W_px) in about [-1, 1] both.
        """
        rows = keep.nonzero().squeeze(1)
        predicted = self._decode(clean[rows, frames[rows]])
        with torch.no_grad():
            wanted = self._decode(latents[rows, frames[rows]])
        return predicted, wanted

    def _decode(self, latents: Tensor) -> Tensor:
        """Decode (N, C, H, W) latents as stills, (N, 3, H_px, W_px)."""
        pixels: Tensor = self.vae.decode(latents.unsqueeze(2) / self.vae.config.scaling_factor).sample
        return pixels[:, :, 0].float()
