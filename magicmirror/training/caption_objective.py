"""First recipe of the small profile's words: the text encoder learns what captions mean, without any picture.

CogVideoX comes with T5-XXL, which has read the web. The preview's T5 is made from nothing, and through the denoiser it
learned the styles but no motion (``docs/preview_training.md``): "turns left", "tilts left" and "pans left" differ by
words that only matter together. Here every caption is sampled with its motions and its style, and linear heads read
both off the mean of its tokens and off each token. The heads are left behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import T5EncoderModel

from magicmirror.data.caption_vocabulary import PERSON_WORDS
from magicmirror.data.captions import sample_clip_spec, sample_image_spec, sample_person_word
from magicmirror.data.motion import ClipSpec
from magicmirror.data.pose_targets import NUM_POSE_VALUES, latent_poses
from magicmirror.data.style import STYLES
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.training.batches import takes_caption, text_batch
from magicmirror.training.config import TrainingConfig
from magicmirror.training.motion_term import STYLE_WEIGHT
from magicmirror.training.parts import WHOLE, Batch, BatchSource, Part

NUM_LATENT_FRAMES = 5
"""Of the preview's clips."""
CLIP_CAPTIONS = 0.8
"""Share of captions that tell a motion."""


class CaptionObjective(nn.Module):
    """Pose and style from the states of the text encoder.

    Args:
        text_encoder: Trained.
    """

    def __init__(self, text_encoder: T5EncoderModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        width, poses = text_encoder.config.d_model, NUM_LATENT_FRAMES * NUM_POSE_VALUES
        self.heads = nn.ModuleDict(
            {
                "pose_of_caption": nn.Linear(width, poses),
                "pose_of_token": nn.Linear(width, poses),
                "style": nn.Linear(width, len(STYLES)),
            }
        )

    def forward(self, batch: Batch, generator: torch.Generator, part: Part = WHOLE) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            batch: ``input_ids`` (B, T), ``poses`` (B, F, P), ``styles`` (B,), indices into ``STYLES``, and
                ``pose_sizes`` (B,), the mean square of the poses of the whole step.
            generator: Unused; nothing here is random.
            part: Unused; every sample counts for itself.

        Returns:
            ``loss``; ``pose``, the error of the mean token as a share of the poses' mean square, and ``style``, a
            cross entropy in nats.
        """
        states = self.text_encoder(batch["input_ids"])[0].float()
        words = (batch["input_ids"] != self.text_encoder.config.pad_token_id).float()
        shares = words / words.sum(1, keepdim=True)
        poses = batch["poses"].flatten(1)
        size = batch["pose_sizes"].mean().clamp_min(1e-6)
        mean = torch.einsum("btd,bt->bd", states, shares)
        of_caption = (self.heads["pose_of_caption"](mean) - poses).square().mean() / size
        each = (self.heads["pose_of_token"](states) - poses[:, None]).square().mean(-1)
        of_token = (each * shares).sum(1).mean() / size
        guesses = self.heads["style"](states).transpose(1, 2)
        wanted = batch["styles"][:, None].expand(-1, states.size(1))
        style = (functional.cross_entropy(guesses, wanted, reduction="none") * shares).sum(1).mean()
        loss = of_caption + of_token + STYLE_WEIGHT * style
        return {"loss": loss, "pose": of_caption.detach(), "style": style.detach()}


def caption_batches(pipeline: MagicMirrorPipeline, config: TrainingConfig) -> BatchSource:
    """Batches for ``CaptionObjective``: ``config.image_batch`` new captions a step.

    Args:
        pipeline: Its tokenizer reads the captions.
        config: Of the run.
    """
    length, styles = pipeline.transformer.config.max_text_seq_length, list(STYLES)

    def batch_at(step: int, part: Part = WHOLE, /) -> Batch:
        rng = np.random.default_rng([config.seed, 3, step])
        # A rare caption is longer than the prompts of this model.
        fitting = (spec for spec in _samples(rng) if takes_caption(pipeline.tokenizer, spec.caption, length))
        specs = list(islice(fitting, config.image_batch))
        poses = torch.from_numpy(np.stack([latent_poses(spec.motions, NUM_LATENT_FRAMES) for spec in specs]))
        mine = part.rows(config.image_batch)
        own = specs[mine]
        return {
            "input_ids": text_batch(pipeline.tokenizer, [spec.caption for spec in own], length)[0],
            "poses": poses[mine],
            # Of the whole step, or parts of it would weigh the same error differently.
            "pose_sizes": poses.square().mean().expand(len(own)),
            "styles": torch.tensor([styles.index(spec.style) for spec in own]),
        }

    return batch_at


def _samples(rng: np.random.Generator) -> Iterator[ClipSpec]:
    """Clips and stills without end."""
    groups = list(PERSON_WORDS)
    while True:
        person = sample_person_word(rng, groups[int(rng.integers(len(groups)))])
        yield (sample_clip_spec if rng.random() < CLIP_CAPTIONS else sample_image_spec)(rng, person)
