"""``MagicMirrorPipeline``: a face and a prompt in, a video out (the whole of the paper's section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.pipelines.cogvideo.pipeline_output import CogVideoXPipelineOutput
from diffusers.video_processor import VideoProcessor
from torch import Tensor
from transformers import CLIPVisionModel, T5EncoderModel, T5Tokenizer
from transformers.image_processing_base import ImageProcessingMixin

from magicmirror.errors import ConfigError
from magicmirror.number_checks import check_guidance, check_identity_scale, check_steps, whole_number
from magicmirror.pipeline.components import (
    FacePerceiver,
    IdentityFusion,
    IdentityPerceiver,
    MagicMirrorTransformer3DModel,
)
from magicmirror.pipeline.conditioning import IdentityCondition, reference_tensors
from magicmirror.pipeline.denoising import Guidance
from magicmirror.pipeline.input_checks import (
    check_callback_inputs,
    check_count,
    check_embeds,
    check_frame_count,
    check_latents,
    check_output_type,
    check_randomness,
    check_size,
    check_text,
    texts_of,
)
from magicmirror.pipeline.memory_forecast import MemoryBudget, MemoryPlan
from magicmirror.pipeline.stage_timer import StageTimer
from magicmirror.pipeline.step_callbacks import CallbackWatcher, StepCallback, wanted_tensors
from magicmirror.pipeline.steps import PipelineSteps
from magicmirror.types import FaceReference

_FACE_PARTS = ("image_encoder", "feature_extractor", "identity_perceiver", "face_perceiver", "identity_fusion")


class MagicMirrorPipeline(PipelineSteps):
    """Identity-preserved text-to-video.

    Every stage is a public method; ``__call__`` runs them in order. Without references, or with ``identity_scale=0``,
    the latents are those of diffusers' ``CogVideoXPipeline`` bit for bit. A component may be ``None`` where no call
    needs it, as the text encoder where embeddings are given.

    Args:
        tokenizer: Of the text encoder.
        text_encoder: T5.
        vae: CogVideoX's.
        transformer: With the adapter.
        scheduler: One of CogVideoX's two.
        image_encoder: CLIP vision tower ``F_feat``.
        feature_extractor: Image processor of the vision tower.
        identity_perceiver: ``tau_id`` of Eq. 3.
        face_perceiver: ``tau_face`` of Eq. 4.
        identity_fusion: ``MLP_fuse`` of Eq. 5.

    Attributes:
        timings_s: Seconds per stage of the last call.
        provenance: Which weights these are; filled in by ``load_pipeline``.
        memory_plan: How the networks share the device's memory; see ``placement``.
        memory_budget: What the plan was chosen from; ``None`` where the caller moved the networks.
    """

    model_cpu_offload_seq = (
        "image_encoder->identity_perceiver->face_perceiver->text_encoder->identity_fusion->transformer->vae"
    )
    _optional_components: list[str] = []
    _callback_tensor_inputs = ["latents", "prompt_embeds", "negative_prompt_embeds"]

    def __init__(
        self,
        tokenizer: T5Tokenizer,
        text_encoder: T5EncoderModel,
        vae: AutoencoderKLCogVideoX,
        transformer: MagicMirrorTransformer3DModel,
        scheduler: CogVideoXDDIMScheduler | CogVideoXDPMScheduler,
        image_encoder: CLIPVisionModel,
        feature_extractor: ImageProcessingMixin,
        identity_perceiver: IdentityPerceiver,
        face_perceiver: FacePerceiver,
        identity_fusion: IdentityFusion,
    ) -> None:
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            transformer=transformer,
            scheduler=scheduler,
            image_encoder=image_encoder,
            feature_extractor=feature_extractor,
            identity_perceiver=identity_perceiver,
            face_perceiver=face_perceiver,
            identity_fusion=identity_fusion,
        )
        self.vae_scale_factor_spatial, self.vae_scale_factor_temporal = 8, 4  # CogVideoX's, as in the stock pipeline
        if vae is not None:
            self.vae_scale_factor_spatial = 2 ** (len(vae.config.block_out_channels) - 1)
            self.vae_scale_factor_temporal = int(vae.config.temporal_compression_ratio)
        self.video_processor = VideoProcessor(vae_scale_factor=self.vae_scale_factor_spatial)
        self.timings_s: dict[str, float] = {}
        self.provenance: dict[str, str] = {}
        self.memory_plan = MemoryPlan()
        self.memory_budget: MemoryBudget | None = None
        self._interrupt = False
        self._current_timestep: Tensor | None = None
        self._guidance_scale = 1.0
        self._attention_kwargs: dict[str, Any] | None = None

    @property
    def interrupt(self) -> bool:
        """Whether the running call was asked to stop (set ``_interrupt``, as for every diffusers pipeline)."""
        return self._interrupt

    @property
    def num_timesteps(self) -> int:
        """Timesteps of the running or the last call; read by diffusers' callbacks."""
        return self._num_timesteps

    @property
    def guidance_scale(self) -> float:
        """Guidance of the running or the last call."""
        return self._guidance_scale

    @property
    def attention_kwargs(self) -> dict[str, Any] | None:
        """What the running or the last call passes to the transformer."""
        return self._attention_kwargs

    @property
    def current_timestep(self) -> Tensor | None:
        """The timestep that is being denoised; read by diffusers' attention caches."""
        return self._current_timestep

    def check_inputs(
        self,
        prompt: str | Sequence[str] | None,
        references: Sequence[FaceReference] | None,
        height: int,
        width: int,
        num_frames: int,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 6.0,
        num_videos_per_prompt: int = 1,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        identity_scale: float = 1.0,
        max_sequence_length: int | None = None,
        output_type: str = "np",
        callback_inputs: Sequence[str] = (),
    ) -> None:
        """Refuse what cannot work before any model runs.

        Args:
            prompt: Text, or texts.
            references: Photos of one person, or ``None``.
            height: In px.
            width: In px.
            num_frames: Pixel frames.
            negative_prompt: Text, a text for each prompt, or ``None``.
            prompt_embeds: In place of ``prompt``.
            negative_prompt_embeds: In place of ``negative_prompt``.
            num_inference_steps: Denoising steps.
            guidance_scale: Classifier-free guidance.
            num_videos_per_prompt: Videos of every prompt.
            seed: Of the noise.
            generator: In place of ``seed``; a list has one for each video.
            latents: First noise, or ``None``.
            identity_scale: Strength of the identity.
            max_sequence_length: T; ``None`` takes the transformer's.
            output_type: As in ``__call__``.
            callback_inputs: Names of tensors that a callback wants.

        Raises:
            PromptError: If text is missing, or with an identity names no person or is too long.
            FaceError: If the list of references is empty.
            ConfigError: If a size does not fit the networks, the seed is missing, or a value is out of range.
        """
        config, scale = self.transformer.config, self.vae_scale_factor_spatial
        # CogVideoX 1.5 cuts its positions out of one grid of this size; 1.0 scales them to any.
        largest = (config.sample_height * scale, config.sample_width * scale) if config.patch_size_t else None
        check_size(height, width, scale * config.patch_size, largest)
        check_frame_count(num_frames, self.vae_scale_factor_temporal, decoded=output_type != "latent")
        check_text(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds)
        check_count("num_videos_per_prompt", num_videos_per_prompt)
        check_steps(num_inference_steps, "num_inference_steps")
        guided = Guidance(check_guidance(guidance_scale, "guidance_scale")).active
        if max_sequence_length is not None:
            check_count("max_sequence_length", max_sequence_length)
        prompts = len(texts_of(prompt)) if prompt is not None else cast(Tensor, prompt_embeds).size(0)
        encoded = (prompts, max_sequence_length or config.max_text_seq_length, config.text_embed_dim)
        check_embeds(prompt_embeds, negative_prompt_embeds, encoded, guided)
        rows = prompts * num_videos_per_prompt
        check_randomness(seed, generator, rows)
        if latents is not None:
            check_latents(latents, self.latent_shape(rows, num_frames, height, width))
        check_identity_scale(identity_scale, "identity_scale")
        check_callback_inputs(callback_inputs, self._callback_tensor_inputs)
        check_output_type(output_type)
        if references is not None and identity_scale > 0:
            reference_tensors(references, self.identity_perceiver.config.embedding_dim)
            if prompt is not None:
                self.locate_person(prompt, max_sequence_length)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        references: Sequence[FaceReference] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 6.0,
        use_dynamic_cfg: bool = False,
        num_videos_per_prompt: int = 1,
        identity_scale: float = 1.0,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "np",
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: StepCallback | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = ("latents",),
        max_sequence_length: int | None = None,
        return_dict: bool = True,
    ) -> CogVideoXPipelineOutput | tuple[Any]:
        """Make a video.

        Args:
            prompt: What the person does; a list makes several videos of the same person.
            references: Analysed photos of one person; ``None`` is plain CogVideoX.
            negative_prompt: What to steer away from; a list has one for each prompt.
            height: In px; ``None`` takes the transformer's.
            width: In px; ``None`` takes the transformer's.
            num_frames: Pixel frames; ``None`` takes the transformer's.
            num_inference_steps: Denoising steps, 1 to 1000.
            guidance_scale: Classifier-free guidance, 1 to 30; 1 switches it off.
            use_dynamic_cfg: Let the guidance grow over the schedule.
            num_videos_per_prompt: Videos of every prompt, which differ in their noise; those of one prompt follow
                each other, and B below counts them all.
            identity_scale: Strength in [0, 2]; 0 is plain CogVideoX, whatever the references.
            seed: Of all noise, drawn on the CPU so that it does not depend on the device.
            generator: In place of ``seed``; a list has one for each video.
            latents: First noise (B, F, C, H, W) to use instead of drawing it.
            prompt_embeds: In place of ``prompt``, taken as they are: of ``encode_prompt``, one row for each prompt.
            negative_prompt_embeds: In place of ``negative_prompt``.
            output_type: ``np`` (B, F, H, W, 3) and ``pt`` (B, F, 3, H, W) in [0, 1], ``pil``, or ``latent``.
            attention_kwargs: Passed to the transformer.
            callback_on_step_end: Called after every step with (pipeline, step, timestep, tensors).
            callback_on_step_end_tensor_inputs: Names of the tensors that it gets.
            max_sequence_length: T; ``None`` takes the transformer's.
            return_dict: Whether to return an object instead of a tuple.

        Returns:
            ``frames`` as ``output_type`` says. After an interrupt they are what the steps so far have made.

        Raises:
            MagicMirrorError: As ``check_inputs``, ``encode_identity`` and ``encode_prompt`` say.
        """
        guidance = Guidance(check_guidance(guidance_scale, "guidance_scale"), use_dynamic_cfg)
        with_text = prompt is not None or (guidance.active and negative_prompt_embeds is None)
        self._check_parts(with_text, references is not None and identity_scale > 0, output_type != "latent")
        height, width, num_frames = self._shape(height, width, num_frames)
        text: dict[str, Any] = {
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "prompt_embeds": prompt_embeds,
            "negative_prompt_embeds": negative_prompt_embeds,
            "max_sequence_length": max_sequence_length,
            "num_videos_per_prompt": num_videos_per_prompt,
        }
        self.check_inputs(
            **text,
            references=references,
            height=height,
            width=width,
            num_frames=num_frames,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            seed=seed,
            generator=generator,
            latents=latents,
            identity_scale=identity_scale,
            output_type=output_type,
            callback_inputs=wanted_tensors(callback_on_step_end, callback_on_step_end_tensor_inputs),
        )
        num_inference_steps = int(num_inference_steps)
        generator = _noise_source(seed, generator)
        self._interrupt = False
        self._guidance_scale = guidance.scale
        self._attention_kwargs = attention_kwargs
        timer = StageTimer(self._execution_device)
        try:
            people = references if identity_scale > 0 else None
            identity, positive, negative = self._conditions(timer, people, guided=guidance.active, **text)
            with timer.stage("denoise"), self.progress_bar(total=num_inference_steps) as bar:
                watcher = CallbackWatcher(self, callback_on_step_end, callback_on_step_end_tensor_inputs, negative, bar)
                size = (num_frames, height, width)
                noise = self.prepare_latents(positive.size(0), *size, positive.dtype, generator, latents)
                latents = self.denoise(
                    noise,
                    positive,
                    negative,
                    num_inference_steps,
                    guidance,
                    identity=identity,
                    identity_scale=identity_scale,
                    generator=generator,
                    attention_kwargs=attention_kwargs,
                    watcher=watcher,
                )
            with timer.stage("decode"):
                frames = self._postprocess(latents, num_frames, output_type)
        finally:
            self._current_timestep = None
            self.timings_s = timer.seconds
            self.maybe_free_model_hooks()
        return CogVideoXPipelineOutput(frames=frames) if return_dict else (frames,)

    def _conditions(
        self, timer: StageTimer, references: Sequence[FaceReference] | None, **text: Any
    ) -> tuple[IdentityCondition | None, Tensor, Tensor | None]:
        """Identity of the references, or ``None`` for nobody, and what ``encode_prompt`` makes of the text with it."""
        with timer.stage("identity"):
            identity = self.encode_identity(references) if references is not None else None
        with timer.stage("prompt"):
            positive, negative = self.encode_prompt(identity=identity, **text)
        return identity, positive, negative

    def _check_parts(self, with_text: bool, with_face: bool, decoded: bool) -> None:
        """Refuse a call that needs a component which is not there.

        Raises:
            ConfigError: Naming it.
        """
        needed = ["transformer", "scheduler"]
        needed += ["tokenizer", "text_encoder"] if with_text else []
        needed += _FACE_PARTS if with_face else []
        needed += ["vae"] if decoded else []
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ConfigError(
                f"This call needs {', '.join(missing)}, which the pipeline was loaded without.",
                "Load all of it; or give embeddings in place of text, or take latents in place of frames.",
            )

    def _shape(self, height: int | None, width: int | None, num_frames: int | None) -> tuple[int, int, int]:
        """Height, width and frames, the transformer's where they are not given."""
        config, cell = self.transformer.config, self.vae_scale_factor_spatial
        return (
            config.sample_height * cell if height is None else whole_number("height", height),
            config.sample_width * cell if width is None else whole_number("width", width),
            config.sample_frames if num_frames is None else whole_number("num_frames", num_frames),
        )

    def _postprocess(self, latents: Tensor, num_frames: int, output_type: str) -> Any:
        """Clean latents as ``output_type`` wants them."""
        if output_type == "latent":
            return latents
        video = self.decode_latents(latents[:, self._padding_frames(num_frames) :])
        return self.video_processor.postprocess_video(video=video, output_type=output_type)


def _noise_source(
    seed: int | None, generator: torch.Generator | Sequence[torch.Generator] | None
) -> torch.Generator | Sequence[torch.Generator]:
    """The generators, or a new one on the CPU, whose noise is the same for every device."""
    if generator is not None:
        return generator
    assert seed is not None
    return torch.Generator("cpu").manual_seed(int(seed))
