"""The steps of a request between its checks and its frames, each a public method of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from magicmirror.errors import ConfigError
from magicmirror.models.convolution import DirectConvolutions
from magicmirror.pipeline.acceleration import step_cache
from magicmirror.pipeline.conditioning import (
    IdentityCondition,
    average_identity,
    encode_faces,
    encode_text,
    fuse_identity,
    fusion_position,
    preprocess_crops,
    reference_tensors,
)
from magicmirror.pipeline.denoising import Guidance, LoopWatcher, denoise, rotary_embedding
from magicmirror.pipeline.persistence import PersistentPipeline
from magicmirror.pipeline.person_word import PersonWord, find_person_word
from magicmirror.pipeline.speed_options import StepCache
from magicmirror.types import FaceReference


class PipelineSteps(PersistentPipeline):
    """Encode identity and prompt, prepare latents, denoise, decode.

    Its components are those of ``MagicMirrorPipeline``. A caller that runs the steps itself does so under
    ``torch.no_grad()``, in the order of ``MagicMirrorPipeline.__call__``.

    Attributes:
        vae_scale_factor_spatial: Px a side of a latent cell.
        vae_scale_factor_temporal: Pixel frames a latent frame.
        step_cache: Reuse of denoising steps; ``None`` computes every one.
        decode_dtype: Precision of a float32 decoder's products; ``None`` is float32.
        direct_convolutions: Whether the decoder's convolutions avoid torch's slow path, which is what stock diffusers
            takes: equal to rounding, not to the bit.
    """

    vae_scale_factor_spatial: int
    vae_scale_factor_temporal: int
    step_cache: StepCache | None = None
    decode_dtype: torch.dtype | None = None
    direct_convolutions: bool = False
    _num_timesteps: int = 0

    def encode_identity(self, references: Sequence[FaceReference]) -> IdentityCondition:
        """Encode one person.

        Args:
            references: One or more analysed photos; averaged by quality.

        Returns:
            ID tokens (1, 2, D_id) and face tokens (1, N, D).

        Raises:
            FaceError: If there is no reference.
            ConfigError: If a reference comes from another recogniser than the model was made for.
        """
        device = self._execution_device
        embeddings, qualities = reference_tensors(references, self.identity_perceiver.config.embedding_dim)
        pixels = preprocess_crops(self.feature_extractor, [reference.crop for reference in references])
        photos = encode_faces(
            self.image_encoder,
            self.identity_perceiver,
            self.face_perceiver,
            pixels.to(device),
            embeddings.to(device),
        )
        return average_identity(photos, qualities)

    def encode_prompt(
        self,
        prompt: str | Sequence[str] | None,
        negative_prompt: str | Sequence[str] | None = None,
        guided: bool = True,
        identity: IdentityCondition | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        max_sequence_length: int | None = None,
        num_videos_per_prompt: int = 1,
    ) -> tuple[Tensor, Tensor | None]:
        """Encode the text, fused with the identity where there is one.

        Args:
            prompt: P texts, or one. Without an identity they are encoded as they are, trigger and all.
            negative_prompt: What to steer away from; never fused.
            guided: Whether the negative text is needed.
            identity: One person, for all rows.
            prompt_embeds: (P, T, D_txt) in place of ``prompt``; taken as it is.
            negative_prompt_embeds: As ``prompt_embeds``, in place of ``negative_prompt``.
            max_sequence_length: T; ``None`` takes the transformer's.
            num_videos_per_prompt: How often every row is repeated; the repetitions follow each other.

        Returns:
            Text (B, T, D_txt) with B = P ``num_videos_per_prompt``, and negative text of the same shape or ``None``.

        Raises:
            PromptError: If there is an identity, and a prompt names no person or has no room for it.
        """
        try:
            device = self._execution_device
            length = self._text_length(max_sequence_length)
            if prompt_embeds is None:
                assert prompt is not None
                prompts = [prompt] if isinstance(prompt, str) else list(prompt)
                prompt_embeds = self._encode_positive(prompts, identity, length, device)
            positive = prompt_embeds.repeat_interleave(num_videos_per_prompt, dim=0)
            if not guided:
                return positive, None
            if negative_prompt_embeds is None:
                one = "" if negative_prompt is None else negative_prompt
                negative = [one] * prompt_embeds.size(0) if isinstance(one, str) else list(one)
                negative_prompt_embeds = encode_text(self.tokenizer, self.text_encoder, negative, length, device)
            return positive, negative_prompt_embeds.repeat_interleave(num_videos_per_prompt, dim=0)
        finally:
            self._release_text_encoder()

    def _text_length(self, max_sequence_length: int | None) -> int:
        """T, the transformer's where it is not given.

        Raises:
            ConfigError: If there is no transformer either.
        """
        if max_sequence_length is None and self.transformer is None:
            raise ConfigError("Without a transformer the length of the text is unknown.", "Give max_sequence_length.")
        return max_sequence_length or int(self.transformer.config.max_text_seq_length)

    def _release_text_encoder(self) -> None:
        """Have the text encoder leave the device, where it is offloaded as a whole.

        It runs again after the fusion, for the negative prompt, and the hook of the network that follows only knows of
        its neighbour: the largest but one of the networks would lie on the device through all of the denoising.
        """
        for hook in (*getattr(self, "_all_hooks", ()), self.text_encoder_hook):
            if hook is not None and hook.model is self.text_encoder:
                hook.offload()

    def _encode_positive(
        self, prompts: list[str], identity: IdentityCondition | None, length: int, device: torch.device
    ) -> Tensor:
        if identity is None:
            return encode_text(self.tokenizer, self.text_encoder, prompts, length, device)
        people, positions = self.locate_person(prompts, length)
        text = encode_text(self.tokenizer, self.text_encoder, [person.prompt for person in people], length, device)
        tokens = identity.identity_tokens.expand(len(prompts), -1, -1)
        return fuse_identity(self.identity_fusion, tokens, text, positions)

    def locate_person(
        self, prompt: str | Sequence[str], max_sequence_length: int | None = None
    ) -> tuple[list[PersonWord], list[int]]:
        """Find the person word of every prompt, and the token where the identity will go.

        Args:
            prompt: B texts, or one.
            max_sequence_length: T; ``None`` takes the transformer's.

        Returns:
            B person words, and B positions.

        Raises:
            PromptError: If a prompt names no person or has no room for the identity.
        """
        length = self._text_length(max_sequence_length)
        people = [find_person_word(text) for text in ([prompt] if isinstance(prompt, str) else prompt)]
        return people, [fusion_position(self.tokenizer, person, length) for person in people]

    def prepare_latents(
        self,
        batch_size: int,
        num_frames: int,
        height: int,
        width: int,
        dtype: torch.dtype,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        latents: Tensor | None = None,
    ) -> Tensor:
        """Draw the first noise.

        Args:
            batch_size: B.
            num_frames: Pixel frames.
            height: In px.
            width: In px.
            dtype: Of the latents.
            generator: Source of the noise, or one for each row.
            latents: Noise to use instead, unit variance.

        Returns:
            (B, F, C, H, W), as they were given or drawn; ``denoise`` scales them.
        """
        device = self._execution_device
        if latents is None:
            shape = self.latent_shape(batch_size, num_frames, height, width)
            latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        return latents.to(device, dtype)

    def latent_shape(self, batch_size: int, num_frames: int, height: int, width: int) -> tuple[int, ...]:
        """(B, F, C, H, W) of the latents of B videos of so many frames and px."""
        return (
            batch_size,
            (num_frames - 1) // self.vae_scale_factor_temporal + 1 + self._padding_frames(num_frames),
            self.transformer.config.in_channels,
            height // self.vae_scale_factor_spatial,
            width // self.vae_scale_factor_spatial,
        )

    def denoise(
        self,
        latents: Tensor,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor | None,
        num_inference_steps: int,
        guidance: Guidance,
        *,
        identity: IdentityCondition | None = None,
        identity_scale: float = 1.0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        watcher: LoopWatcher | None = None,
    ) -> Tensor:
        """Set the schedule and run the loop of ``magicmirror.pipeline.denoising``.

        Args:
            latents: Of ``prepare_latents``: noise of unit variance.
            prompt_embeds: (B, T, D_txt).
            negative_prompt_embeds: As ``prompt_embeds``; needed where guidance is active.
            num_inference_steps: Steps.
            guidance: Scale and schedule.
            identity: One person, for all rows.
            identity_scale: Strength in [0, 2].
            generator: For schedulers that add noise.
            attention_kwargs: Passed to the transformer.
            watcher: Called around every step.

        Returns:
            (B, F, C, H, W) clean latents.
        """
        self.scheduler.set_timesteps(num_inference_steps, device=latents.device)
        # Schedulers other than CogVideoX's may take several timesteps a step, and know their scale only now.
        self._num_timesteps = len(self.scheduler.timesteps)
        latents = latents * self.scheduler.init_noise_sigma
        if guidance.active:
            assert negative_prompt_embeds is not None
            prompt_embeds = torch.cat([negative_prompt_embeds, prompt_embeds])
        if identity is not None:
            identity = IdentityCondition(*(tokens.expand(latents.size(0), -1, -1) for tokens in identity))
        with step_cache(self.transformer, self.step_cache, self._num_timesteps):
            return denoise(
                self.transformer,
                self.scheduler,
                latents,
                prompt_embeds,
                guidance,
                rotary=rotary_embedding(self.transformer.config, latents.shape, latents.device),
                identity=identity,
                identity_scale=identity_scale,
                generator=generator,
                attention_kwargs=attention_kwargs,
                watcher=watcher,
            )

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode clean latents (B, F, C, H, W) to frames (B, 3, F, H, W), about [-1, 1]."""
        scaled = 1 / self.vae.config.scaling_factor * latents.permute(0, 2, 1, 3, 4)
        if self.decode_precision == self.vae.dtype:
            with DirectConvolutions() if self.direct_convolutions else nullcontext():
                frames: Tensor = self.vae.decode(scaled).sample
            return frames
        with torch.autocast(scaled.device.type, self.decode_precision):
            frames = self.vae.decode(scaled).sample
        return frames.to(latents.dtype)

    @property
    def decode_precision(self) -> torch.dtype:
        """What the decoder multiplies in: where it has left float32 since ``decode_dtype`` was set, its own dtype."""
        own: torch.dtype = self.vae.dtype
        return self.decode_dtype if self.decode_dtype is not None and own == torch.float32 else own

    def _padding_frames(self, num_frames: int) -> int:
        """Latent frames put before the video, for CogVideoX 1.5 whose patches span several."""
        patch = self.transformer.config.patch_size_t or 1
        return -((num_frames - 1) // self.vae_scale_factor_temporal + 1) % patch
