"""The identity term of section 3.4: ``1 - cos(q_face, D(x0))`` through a differentiable recogniser."""

from __future__ import annotations

from collections.abc import Callable

from diffusers import AutoencoderKLCogVideoX
from torch import Tensor
from torch.nn import functional


class IdentityLoss:
    """Decodes one latent frame of the predicted clean latents and compares its face with the reference.

    Only the first latent frame is decoded: CogVideoX's VAE is causal, so that frame is a still of its own. Where the
    face is in it, the data tells; of animated portraits it is the canonical, frontal view of the head template.

    The paper's cosine is that of ArcFace, where two strangers are about orthogonal. Embeddings of dlib share a large
    common part (two strangers have a cosine of 0.87), which a cosine of the raw vectors mostly measures: a blurred
    average face would do well. ``centre`` takes that part away first.

    Args:
        vae: Frozen; gradients flow through its decoder.
        recognise: Frames (B, 3, H, W) in [0, 1] RGB and their eyes, as below, to embeddings (B, E), differentiable.
        centre: (E,) mean embedding of many people, taken off both sides; ``None`` for the paper's plain cosine.
    """

    def __init__(
        self,
        vae: AutoencoderKLCogVideoX,
        recognise: Callable[[Tensor, Tensor | None], Tensor],
        centre: Tensor | None = None,
    ) -> None:
        self.vae = vae.requires_grad_(False).eval()
        self.recognise = recognise
        self.centre = centre

    def __call__(self, clean: Tensor, embeddings: Tensor, keep: Tensor, eyes: Tensor | None = None) -> Tensor:
        """Mean over kept samples.

        Args:
            clean: (B, F, C, H, W) predicted clean latents, scaled.
            embeddings: (B, E) recognition embeddings of the people, each of the target's own portrait (**D7**).
            keep: (B,) bool; the term makes sense where the prediction is not mostly noise.
            eyes: (B, 4) eye centres in the first frame (``data.face_area.Eyes``); ``None`` for the head template's.

        Returns:
            Scalar in [0, 2]; zero if nothing is kept.
        """
        if not bool(keep.any()):
            return clean.new_zeros(())
        first = clean[keep, :1].transpose(1, 2) / self.vae.config.scaling_factor
        pixels = self.vae.decode(first).sample[:, :, 0].float()
        predicted = self.recognise((pixels / 2 + 0.5).clamp(0, 1), None if eyes is None else eyes[keep]).float()
        wanted = embeddings[keep].to(predicted.dtype)
        if self.centre is not None:
            centre = self.centre.to(predicted)
            predicted, wanted = predicted - centre, wanted - centre
        similarity: Tensor = functional.cosine_similarity(predicted, wanted, dim=-1)
        return (1 - similarity).mean()
