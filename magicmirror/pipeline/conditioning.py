"""What the transformer is told: text, identity, and the text fused with the identity (paper section 3.2).

Plain functions on tensors and modules; the pipeline calls them for one request, the trainer for batches.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from magicmirror.errors import ConfigError, FaceError
from magicmirror.pipeline.person_word import PersonWord, token_position
from magicmirror.pipeline.prompt_length import check_length
from magicmirror.types import FaceReference, UInt8Array

logger = logging.getLogger(__name__)


class IdentityCondition(NamedTuple):
    """One person as the networks see them.

    Args:
        identity_tokens: (B, K, D_id) ``x_id`` of Eq. 3, K = 2.
        face_tokens: (B, N, D) ``x_face`` of Eq. 4.
    """

    identity_tokens: Tensor
    face_tokens: Tensor


def encode_text(
    tokenizer: Any, text_encoder: Any, prompts: Sequence[str], max_length: int, device: torch.device | None = None
) -> Tensor:
    """Encode prompts with T5, exactly as the stock CogVideoX pipeline does: padded, truncated, no attention mask.

    Args:
        tokenizer: T5 tokenizer.
        text_encoder: ``T5EncoderModel``.
        prompts: B prompts.
        max_length: T, length in tokens including the end token.
        device: Where it runs; ``None`` takes the encoder's own, which is not the right one under offload.

    Returns:
        (B, T, D_txt) in the encoder's dtype.
    """
    for prompt in prompts:
        count = count_tokens(tokenizer, prompt)
        if count > max_length:
            logger.warning("the prompt has %d tokens; those after the first %d are ignored", count, max_length)
    ids = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=max_length,
        truncation=True,
        add_special_tokens=True,
        return_tensors="pt",
    ).input_ids
    embeds: Tensor = text_encoder(ids.to(device or text_encoder.device))[0]
    return embeds.to(text_encoder.dtype)


def count_tokens(tokenizer: Any, prompt: str) -> int:
    """Tokens of a prompt, its end token included."""
    return len(tokenizer(prompt).input_ids)


def fusion_position(tokenizer: Any, person: PersonWord, max_length: int) -> int:
    """Where the identity goes into a prompt.

    Args:
        tokenizer: T5 tokenizer.
        person: The person word.
        max_length: T.

    Returns:
        Index of the last token of the person word.

    Raises:
        PromptError: If no padding token is left to make room for the second ID token.
    """
    check_length(person.prompt, max_length, partial(count_tokens, tokenizer))
    return token_position(tokenizer, person)


def insert_fusion_positions(text: Tensor, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Double the token of the person word, so that each of the two ID tokens has a place (decision 8).

    The tokens after it move by one and the last padding token drops out, so the length stays.

    Args:
        text: (B, T, D_txt).
        positions: B indices, each at most T - 2.

    Returns:
        (B, T, D_txt) and the mask ``m`` of Eq. 5, (B, T) bool with exactly two true a row.
    """
    length = text.size(1)
    at = torch.as_tensor(positions, device=text.device).unsqueeze(1)
    assert at.numel() == text.size(0) and int(at.min()) >= 0 and int(at.max()) <= length - 2
    index = torch.arange(length, device=text.device).unsqueeze(0)
    source = index - (index > at).long()
    mask = (index == at) | (index == at + 1)
    return text.gather(1, source.unsqueeze(-1).expand_as(text)), mask


def fuse_identity(identity_fusion: Any, identity_tokens: Tensor, text: Tensor, positions: Sequence[int]) -> Tensor:
    """Eq. 5: put the fused identity in the place of the person word.

    Args:
        identity_fusion: ``IdentityFusion``.
        identity_tokens: (B, 2, D_id).
        text: (B, T, D_txt) of ``encode_text``.
        positions: B indices of ``fusion_position``.

    Returns:
        (B, T, D_txt).
    """
    doubled, mask = insert_fusion_positions(text, positions)
    fused: Tensor = identity_fusion(identity_tokens, doubled, mask)
    return fused


def preprocess_crops(feature_extractor: Any, crops: Sequence[UInt8Array]) -> Tensor:
    """Turn head crops into the vision tower's input.

    Args:
        feature_extractor: CLIP image processor of the pipeline.
        crops: B pictures (S, S, 3) uint8 RGB.

    Returns:
        (B, 3, h, w) float32, normalised.
    """
    images = [np.ascontiguousarray(crop) for crop in crops]
    features = feature_extractor(images=images, input_data_format="channels_last", return_tensors="pt")
    pixels: Tensor = features.pixel_values
    return pixels.clone()  # into torch's own, aligned memory


def encode_faces(
    image_encoder: Any,
    identity_perceiver: Any,
    face_perceiver: Any,
    pixel_values: Tensor,
    embeddings: Tensor,
) -> IdentityCondition:
    """The two branches of Fig. 3, Eq. 3 and 4, for B photos.

    Args:
        image_encoder: ``CLIPVisionModel``.
        identity_perceiver: ``tau_id``; reads the last hidden state with CLS, before the last norm.
        face_perceiver: ``tau_face``; reads the penultimate layer.
        pixel_values: (B, 3, h, w) of ``preprocess_crops``.
        embeddings: (B, E) raw recognition embeddings ``q_id``.

    Returns:
        ID tokens (B, 2, D_id) and face tokens (B, N, D).
    """
    hidden = image_encoder(pixel_values.to(image_encoder.dtype), output_hidden_states=True).hidden_states
    last, penultimate = hidden[-1], hidden[-2]
    dtype = identity_perceiver.dtype
    identity_tokens = identity_perceiver(embeddings.to(last.device, dtype), last.to(dtype))
    return IdentityCondition(identity_tokens, face_perceiver(penultimate.to(face_perceiver.dtype)))


def average_identity(photos: IdentityCondition, weights: Tensor) -> IdentityCondition:
    """Average several photos of one person after the perceivers (decision 5).

    Args:
        photos: R photos: (R, K, D_id) and (R, N, D).
        weights: (R,) face qualities, not negative; where all are zero every photo counts alike.

    Returns:
        (1, K, D_id) and (1, N, D).
    """
    if photos.identity_tokens.size(0) == 1:
        return photos
    weights = weights if bool(weights.sum() > 0) else torch.ones_like(weights)
    share = (weights / weights.sum()).to(photos.face_tokens.device)
    return IdentityCondition(
        *(torch.einsum("r,rnd->nd", share.to(tokens.dtype), tokens).unsqueeze(0) for tokens in photos)
    )


def reference_tensors(references: Sequence[FaceReference], embedding_dim: int) -> tuple[Tensor, Tensor]:
    """Stack what the identity branch needs of R references.

    Args:
        references: Analysed faces of one person.
        embedding_dim: E that the identity perceiver takes.

    Returns:
        Embeddings (R, E) and qualities (R,), float32.

    Raises:
        FaceError: If there is none.
        ConfigError: If an embedding has another width, so comes from another recogniser.
    """
    if not references:
        raise FaceError("No reference face was given.", "Add at least one photo with one clear face.")
    for reference in references:
        if reference.embedding.size != embedding_dim:
            raise ConfigError(
                f"The model reads face embeddings of {embedding_dim} values, this one has {reference.embedding.size}.",
                "Analyse the photo with the face analyzer of the same profile (dlib: 128, insightface: 512).",
            )
    # Copied into torch's memory, whose alignment is fixed: CPU kernels round differently on unaligned data.
    embeddings = torch.tensor(np.stack([reference.embedding for reference in references]), dtype=torch.float32)
    return embeddings, torch.tensor([reference.quality for reference in references], dtype=torch.float32)
