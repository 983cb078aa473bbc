"""CogVideoX transformer with the MagicMirror adapter in every even block (paper section 3.3, 4.1)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Self, cast

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.utils import apply_lora_scale
from torch import Tensor, nn

from magicmirror.errors import WeightsError
from magicmirror.models.adapter import BASE_SETTINGS, load_adapter, save_adapter
from magicmirror.models.block import BlockAdapter, MagicMirrorBlock
from magicmirror.models.identity import IdentityConstants, StepIdentity, block_constants
from magicmirror.models.lora import for_base, plain_state_dict
from magicmirror.models.onloading import onloaded


class MagicMirrorTransformer3DModel(CogVideoXTransformer3DModel):  # type: ignore[misc]
    """Stock CogVideoX plus face stream, CAN and decoupled cross-attention.

    Base parameters keep their diffusers names; the adapter's are those for which ``is_adapter_key`` is true. Without
    an identity, or with ``identity_scale=0``, the output is that of the stock model bit for bit.

    Args:
        identity_dim: D_id, width of an ID token.
        num_identity_tokens: ID tokens a person (2 in the paper).
        num_face_tokens: N, face tokens a person (32 in the paper).
        adapter_stride: Blocks whose index is a multiple of this are adapted (2 in the paper).
        identity_proj_dim: c2, width of the one projection of the ID tokens that all layers share.
        can_hidden_dim: Hidden width of the CAN networks.
    """

    _no_split_modules = ["MagicMirrorBlock", "CogVideoXPatchEmbed"]
    _repeated_blocks = ["MagicMirrorBlock"]
    # The adapter's small residuals would drown in an 8-bit float.
    _skip_layerwise_casting_patterns = ["patch_embed", "norm", "adapter", "identity_proj"]

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 30,
        attention_head_dim: int = 64,
        in_channels: int = 16,
        out_channels: int | None = 16,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        time_embed_dim: int = 512,
        ofs_embed_dim: int | None = None,
        text_embed_dim: int = 4096,
        num_layers: int = 30,
        dropout: float = 0.0,
        attention_bias: bool = True,
        sample_width: int = 90,
        sample_height: int = 60,
        sample_frames: int = 49,
        patch_size: int = 2,
        patch_size_t: int | None = None,
        temporal_compression_ratio: int = 4,
        max_text_seq_length: int = 226,
        activation_fn: str = "gelu-approximate",
        timestep_activation_fn: str = "silu",
        norm_elementwise_affine: bool = True,
        norm_eps: float = 1e-5,
        spatial_interpolation_scale: float = 1.875,
        temporal_interpolation_scale: float = 1.0,
        use_rotary_positional_embeddings: bool = False,
        use_learned_positional_embeddings: bool = False,
        patch_bias: bool = True,
        identity_dim: int = 2048,
        num_identity_tokens: int = 2,
        num_face_tokens: int = 32,
        adapter_stride: int = 2,
        identity_proj_dim: int = 512,
        can_hidden_dim: int = 1024,
    ) -> None:
        base = {k: v for k, v in locals().items() if k not in _ADAPTER_CONFIG and k not in ("self", "__class__")}
        super().__init__(**{**base, "num_layers": 0})
        # The parent registered its own zero layers; the true number stands in our config.
        self.register_to_config(num_layers=num_layers)
        self.transformer_blocks = nn.ModuleList(self._new_block(index) for index in range(num_layers))
        self.identity_proj = nn.Linear(num_identity_tokens * identity_dim, identity_proj_dim)
        # What the unconditional branch and dropped conditions see (docs/paper_map.md, guidance).
        self.null_identity_tokens = nn.Parameter(torch.zeros(num_identity_tokens, identity_dim))
        self.null_face_tokens = nn.Parameter(torch.zeros(num_face_tokens, num_attention_heads * attention_head_dim))
        self.reset_adapter()

    def _new_block(self, index: int) -> MagicMirrorBlock:
        """The block at an index, as the config wants it."""
        config = self.config
        dim = config.num_attention_heads * config.attention_head_dim
        adapter = None
        if index % config.adapter_stride == 0:
            widths = (config.identity_proj_dim, config.can_hidden_dim)
            adapter = BlockAdapter(dim, config.time_embed_dim, *widths, config.attention_bias)
        return MagicMirrorBlock(adapter, dim=dim, **{key: config[key] for key in _BLOCK_CONFIG})

    @staticmethod
    def is_adapter_key(name: str) -> bool:
        """Whether a state-dict key belongs to the adapter rather than to the base."""
        return ".adapter." in name or name.startswith(("identity_proj.", "null_identity_tokens", "null_face_tokens"))

    @torch.no_grad()
    def reset_adapter(self) -> None:
        """(Re)initialise the adapter: new modulation zero, cross keys from the block's own, cross values zero."""
        for block in self._blocks():
            if block.adapter is not None:
                block.adapter.reset(block.attn1.to_k)
        self.identity_proj.reset_parameters()
        self.null_identity_tokens.zero_()
        self.null_face_tokens.zero_()

    @classmethod
    def from_base(cls, base: CogVideoXTransformer3DModel, **adapter_config: Any) -> Self:
        """Wrap a stock transformer with a freshly initialised adapter.

        Args:
            base: Stock model; its parameters are shared, not copied.
            **adapter_config: Adapter keys of the constructor (``identity_dim``, ``num_face_tokens``, ...).

        Returns:
            The model, on the device and in the dtype of ``base``.

        Raises:
            TypeError: For a key that is not the adapter's.
        """
        unknown = sorted(set(adapter_config) - set(_ADAPTER_CONFIG))
        if unknown:
            raise TypeError(f"not adapter settings: {unknown}; known are {list(_ADAPTER_CONFIG)}.")
        config = {k: v for k, v in base.config.items() if not k.startswith("_") and k != "quantization_config"}
        with torch.device("meta"):
            model = cls(**config, **adapter_config)
        parameter = next(base.parameters())
        model.load_base_state_dict(base.state_dict(), assign=True)
        for name, buffer in base.named_buffers():
            owner, _, own_name = name.rpartition(".")
            model.get_submodule(owner).register_buffer(own_name, buffer, persistent=name in base.state_dict())
        for name, value in list(model.named_parameters()):
            if cls.is_adapter_key(name):
                fresh = nn.Parameter(torch.empty_like(value, device=parameter.device, dtype=parameter.dtype))
                setattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], fresh)
        model.reset_adapter()
        if getattr(base, "hf_quantizer", None) is not None:  # the library saves quantised weights by it
            model.hf_quantizer = base.hf_quantizer
            model.register_to_config(quantization_config=base.config["quantization_config"])
        return cast(Self, model.train(base.training))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, **kwargs: Any) -> Any:
        """Load a saved model, as every diffusers model does, but never one whose adapter is missing.

        Args:
            pretrained_model_name_or_path: Folder of ``save_pretrained``, or hub id.
            **kwargs: As for every diffusers model.

        Returns:
            The model in evaluation mode; with ``output_loading_info=True`` also what was missing or unexpected.

        Raises:
            WeightsError: If the file holds a base model alone; the library would leave the adapter without values.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(pretrained_model_name_or_path, output_loading_info=True, **kwargs)
        missing = sorted(name for name in info["missing_keys"] if cls.is_adapter_key(name))
        if missing:
            raise WeightsError(
                f"{pretrained_model_name_or_path} holds no adapter: missing {missing[:3]} ({len(missing)}).",
                "Load a base model with CogVideoXTransformer3DModel, wrap it with from_base, then load_adapter.",
            )
        return (model, info) if wants_info else model

    def load_base_state_dict(self, state_dict: dict[str, Tensor], assign: bool = False) -> None:
        """Load stock CogVideoX weights strictly, leaving the adapter alone.

        Args:
            state_dict: Exactly the stock model's keys.
            assign: Take the tensors themselves instead of copying their values.

        Raises:
            WeightsError: If keys are missing or unknown; a wrong shape raises from torch.
        """
        expected = {name for name in self.state_dict() if not self.is_adapter_key(name)}
        if expected != set(state_dict):
            missing, unknown = sorted(expected - set(state_dict)), sorted(set(state_dict) - expected)
            raise WeightsError(
                f"Base weights do not fit: missing {missing[:4]} ({len(missing)}), "
                f"unknown {unknown[:4]} ({len(unknown)}).",
                "They must be those of a stock CogVideoXTransformer3DModel of the same configuration.",
            )
        self.load_state_dict(state_dict, strict=False, assign=assign)

    def _blocks(self) -> Iterator[MagicMirrorBlock]:
        """The blocks with their type, which a ModuleList does not know."""
        return iter(cast(Any, self.transformer_blocks))

    def adapter_state_dict(self) -> dict[str, Tensor]:
        """The adapter's tensors by name, also where PEFT has put layers of its own around them."""
        return plain_state_dict(self, self.is_adapter_key)

    def add_adapter(self, adapter_config: Any, adapter_name: str = "default") -> None:
        """Add a LoRA of PEFT's for training; see ``magicmirror.models.lora``."""
        super().add_adapter(for_base(adapter_config), adapter_name)

    def adapter_config(self) -> dict[str, Any]:
        """The settings that the adapter's tensors depend on; two models that share them can share an adapter."""
        return {key: self.config[key] for key in (*BASE_SETTINGS, *_ADAPTER_CONFIG)}

    def save_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Write the transformer's adapter alone; see ``magicmirror.models.adapter``."""
        save_adapter(folder, {"transformer": self})

    def load_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Read the transformer's part of a saved adapter.

        Raises:
            WeightsError: If it is missing, damaged or made for another model; nothing is changed then.
        """
        load_adapter(folder, {"transformer": self})

    def null_identity(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """ID tokens (B, K, D_id) and face tokens (B, N, D) that stand for "nobody in particular"."""
        with onloaded(self):
            null = (self.null_identity_tokens, self.null_face_tokens)
            return null[0].expand(batch_size, -1, -1), null[1].expand(batch_size, -1, -1)

    def _time_embedding(
        self, timestep: Tensor, dtype: torch.dtype, condition: Tensor | None, ofs: Tensor | None
    ) -> Tensor:
        """Embed timesteps (B,) to (B, time_embed_dim), as the stock forward does."""
        emb: Tensor = self.time_embedding(self.time_proj(timestep).to(dtype), condition)
        if self.ofs_embedding is not None:
            emb = emb + self.ofs_embedding(self.ofs_proj(ofs).to(dtype))
        return emb

    @apply_lora_scale("attention_kwargs")
    def precompute_identity(
        self,
        identity_tokens: Tensor,
        face_tokens: Tensor,
        timesteps: Tensor,
        identity_scale: float = 1.0,
        timestep_cond: Tensor | None = None,
        ofs: Tensor | None = None,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> IdentityConstants | None:
        """Compute all of the adapter that is constant over the latents, for a whole schedule.

        Args:
            identity_tokens: (B, K, D_id).
            face_tokens: (B, N, D).
            timesteps: (S,) the schedule, the same for every row; or (S, B).
            identity_scale: Strength in [0, 2].
            timestep_cond: As in ``forward``.
            ofs: As in ``forward``.
            attention_kwargs: As in ``forward``; only LoRA's ``scale`` counts.

        Returns:
            Constants whose ``at(step)`` goes to ``forward`` as ``identity_constants``; ``None`` at strength 0.
        """
        if identity_scale == 0:
            return None
        with onloaded(self) as bring:
            identity_tokens, face_tokens, timesteps = map(bring, (identity_tokens, face_tokens, timesteps))
            return self._identity_constants(identity_tokens, face_tokens, timesteps, identity_scale, timestep_cond, ofs)

    def _identity_constants(
        self,
        identity_tokens: Tensor,
        face_tokens: Tensor,
        timesteps: Tensor,
        identity_scale: float,
        timestep_cond: Tensor | None,
        ofs: Tensor | None,
    ) -> IdentityConstants:
        """Compute what ``precompute_identity`` returns, with the weights on their device."""
        timesteps = timesteps if timesteps.ndim == 2 else timesteps[:, None].expand(-1, identity_tokens.size(0))
        temb = self._time_embedding(timesteps.flatten(), face_tokens.dtype, timestep_cond, ofs)
        temb = temb.unflatten(0, timesteps.shape)
        identity = self.identity_proj(identity_tokens.flatten(1))
        blocks = tuple(block_constants(block, temb, identity, face_tokens, identity_scale) for block in self._blocks())
        return IdentityConstants(face_tokens, blocks)

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: Tensor,
        timestep_cond: Tensor | None = None,
        ofs: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
        identity_tokens: Tensor | None = None,
        face_tokens: Tensor | None = None,
        identity_scale: float = 1.0,
        identity_constants: StepIdentity | None = None,
    ) -> tuple[Tensor] | Transformer2DModelOutput:
        """Predict the velocity.

        Args:
            hidden_states: (B, F, C, H, W) noisy latents.
            encoder_hidden_states: (B, T, text_embed_dim) text, fused with the identity by ``IdentityFusion``.
            timestep: (B,).
            timestep_cond: Extra condition of the time embedding, or ``None``.
            ofs: Of the image-to-video checkpoints.
            image_rotary_emb: cosines and sines, each (V, D / heads).
            attention_kwargs: Passed to the attention processors.
            return_dict: Whether to return a dataclass instead of a tuple.
            identity_tokens: (B, K, D_id) of ``IdentityPerceiver``; goes with ``face_tokens``.
            face_tokens: (B, N, D) of ``FacePerceiver``.
            identity_scale: Strength of CAN residual and cross term; 0 is the base model.
            identity_constants: ``precompute_identity(...).at(step)`` in place of the three above.

        Returns:
            (B, F, C, H, W).

        Raises:
            ValueError: If only one of the two kinds of tokens is given.
        """
        if (identity_tokens is None) != (face_tokens is None):
            raise ValueError("identity_tokens and face_tokens go together: pass both or neither.")
        if identity_tokens is not None and face_tokens is not None and identity_scale != 0:
            identity_constants = self._identity_constants(
                identity_tokens, face_tokens, timestep.unsqueeze(0), identity_scale, timestep_cond, ofs
            ).at(0)

        temb = self._time_embedding(timestep, hidden_states.dtype, timestep_cond, ofs)
        text_length = encoder_hidden_states.shape[1]
        tokens = self.embedding_dropout(self.patch_embed(encoder_hidden_states, hidden_states))
        # As blocks return them, or the first would be compiled once more; of one row ``contiguous`` leaves a slice.
        text, video = (x.clone(memory_format=torch.contiguous_format) for x in tokens.tensor_split([text_length], 1))
        if identity_constants is not None:
            text = torch.cat([text, identity_constants.face_tokens.to(text.dtype)], dim=1)
        video = self._run_blocks(video, text, temb, image_rotary_emb, attention_kwargs, identity_constants)
        video = self.proj_out(self.norm_out(self.norm_final(video), temb=temb))
        output = self._unpatchify(video, hidden_states.shape)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def _run_blocks(
        self,
        video: Tensor,
        text: Tensor,
        temb: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        attention_kwargs: dict[str, Any] | None,
        identity: StepIdentity | None,
    ) -> Tensor:
        """Run every block on video (B, V, D) and text with face (B, T + N, D); returns the video tokens."""
        checkpointing = torch.is_grad_enabled() and self.gradient_checkpointing
        for index, block in enumerate(self.transformer_blocks):
            of_block = identity.blocks[index] if identity is not None else None
            if checkpointing:
                arguments = (video, text, temb, rotary, attention_kwargs, of_block)
                video, text = self._gradient_checkpointing_func(block, *arguments)
            else:
                video, text = block(
                    hidden_states=video,
                    encoder_hidden_states=text,
                    temb=temb,
                    image_rotary_emb=rotary,
                    attention_kwargs=attention_kwargs,
                    identity=of_block,
                )
        return video

    def _unpatchify(self, video: Tensor, shape: torch.Size) -> Tensor:
        """Put patches (B, V, patch values) back into latents of ``shape`` (B, F, C, H, W)."""
        batch, frames, _, height, width = shape
        p, p_t = self.config.patch_size, self.config.patch_size_t
        if p_t is None:  # CogVideoX 1.0
            grid = video.reshape(batch, frames, height // p, width // p, -1, p, p)
            return grid.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
        grid = video.reshape(batch, -(-frames // p_t), height // p, width // p, -1, p_t, p, p)
        return grid.permute(0, 1, 5, 4, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(1, 2)


_ADAPTER_CONFIG = (
    *("identity_dim", "num_identity_tokens", "num_face_tokens"),
    *("adapter_stride", "identity_proj_dim", "can_hidden_dim"),
)

_BLOCK_CONFIG = (
    *("num_attention_heads", "attention_head_dim", "time_embed_dim", "dropout"),
    *("activation_fn", "attention_bias", "norm_elementwise_affine", "norm_eps"),
)
