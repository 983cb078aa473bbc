"""First recipe of the small profile: teach the vision tower and the face perceiver to see.

At full size both dense features and identity tokens come from a pretrained tower. The preview has none, and a tower
that starts from nothing learns its features through the whole denoiser, very slowly (``docs/preview_training.md`` has
the figures). So tower and face perceiver are first trained to write the reference's VAE latents into the face tokens,
in the very form in which the transformer embeds video patches: ``x_face = W_patch z + position``. The transformer then
meets face tokens that look like one more frame at the same places.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from magicmirror.models.perceiver import FacePerceiver
from magicmirror.models.transformer import MagicMirrorTransformer3DModel
from magicmirror.training.parts import WHOLE, Batch, Part

# Of CLIP's image processor; RGB.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(crops: Tensor) -> Tensor:
    """Normalise crops (B, S, S, 3) uint8 RGB as CLIP's image processor does, to (B, 3, S, S) float32."""
    mean, std = (torch.tensor(x, device=crops.device).view(1, 3, 1, 1) for x in (CLIP_MEAN, CLIP_STD))
    return (crops.permute(0, 3, 1, 2).float() / 255 - mean) / std


class TowerObjective(nn.Module):
    """Mean squared error between face tokens and the patch embedding of the reference's own latents.

    Args:
        image_encoder: Trained.
        face_perceiver: Trained; has as many queries as the transformer has patches a frame.
        transformer: Gives the target's patch embedding; not trained here.
    """

    def __init__(
        self, image_encoder: CLIPVisionModel, face_perceiver: FacePerceiver, transformer: MagicMirrorTransformer3DModel
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.face_perceiver = face_perceiver
        patch_embed = transformer.patch_embed
        self.proj = patch_embed.proj.requires_grad_(False)
        patches = face_perceiver.config.num_queries
        start = patch_embed.max_text_seq_length
        position = patch_embed.pos_embedding[:, start : start + patches].detach().clone()
        self.register_buffer("position", position, persistent=False)

    @property
    def untrained(self) -> tuple[str, ...]:
        """Parameters that this loss does not reach: the face perceiver reads the penultimate layer, Eq. 4.

        The last layer, which only the identity perceiver reads, so stays as it was made; it is frozen here, and no
        recipe of the preview trains it.
        """
        last = self.image_encoder.config.num_hidden_layers - 1
        return ("image_encoder.*post_layernorm.*", f"image_encoder.*encoder.layers.{last}.*")

    def forward(self, batch: Batch, generator: torch.Generator, part: Part = WHOLE) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            batch: ``crops`` (B, S, S, 3) uint8 RGB and ``latents`` (B, 1, C, H, W) of the same crops.
            generator: Unused; nothing here is random.
            part: Unused; every sample counts for itself.

        Returns:
            ``loss``, and ``unexplained``: error over the variance of the target among people.
        """
        features = self.image_encoder(clip_pixels(batch["crops"]), output_hidden_states=True)
        tokens = self.face_perceiver(features.hidden_states[-2])
        content = self.proj(batch["latents"][:, 0].to(tokens.dtype)).flatten(2).transpose(1, 2)
        loss = (tokens - content - self.position).float().square().mean()
        return {"loss": loss, "unexplained": loss.detach() / content.float().var(dim=0).mean()}
