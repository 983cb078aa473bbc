"""How much memory a video will need under each memory policy, and which policy fits.

Weights are counted, activations follow formulas: their numbers are fitted to what ``activation_count`` finds at full
size (``docs/memory.md`` has the table), and stand for eager mode with a fused attention kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from magicmirror.errors import ConfigError
from magicmirror.pipeline.memory_options import POLICIES, MemoryOptions, Policy
from magicmirror.pipeline.model_size import ModelSize, VideoWork
from magicmirror.settings import Quantisation

GIB = 1024**3

DENOISE_TENSORS = 17.0
"""Tensors of (B, T + N + V, D) that are alive at once in a block: 15.9 to 17.0 counted from 5,000 to 240,000 tokens."""
MODULATIONS = 18
"""Vectors of width D that the identity has in an adapted block at a step: 12 of CAN, 6 of the face stream."""
DECODE_TENSORS, DECODE_TENSORS_STILL, DECODE_LATENTS = 14.9, 23.0, 19.4
"""Alive at once in the VAE's last block: pictures of its narrowest width a frame and once, and latents a frame."""
FRAMES_AT_ONCE = 8
"""The VAE decodes two latent frames at a time, three where their number is odd."""
WORKSPACE_BYTES = int(0.6 * GIB)
"""What cuDNN and cuBLAS take: 4.4 GiB were published for a tiled decode that counts 3.8."""
SPARE = 0.95
"""Share of the free memory that may be planned with; the rest goes to fragments."""

_WHAT = {
    "resident": "every network stays on the device",
    "model": "only the network at work is on the device",
    "group": "only the layers at work and the next ones are on the device",
    "sequential": "only the layer at work is on the device, which is slow",
}


@dataclass(frozen=True)
class MemoryPlan:
    """How a pipeline uses its device.

    Args:
        policy: See ``MemoryOptions``.
        quantisation: Of the base's weights.
        vae_tiling: Whether the video is decoded in tiles.
        frees_text_encoder: Whether the text encoder leaves the device between prompts, with ``resident``.
        reason: Why, in one line for people.
    """

    policy: Policy = "resident"
    quantisation: Quantisation = "none"
    vae_tiling: bool = False
    frees_text_encoder: bool = False
    reason: str = ""

    @property
    def short_name(self) -> str:
        """What makes it slower than ``resident`` with whole weights, with a space before each word."""
        words: list[str] = [] if self.policy == "resident" else [self.policy]
        words += [self.quantisation] if self.quantisation != "none" else []
        return "".join(f" {word}" for word in words)

    def below(self) -> MemoryPlan | None:
        """The plan that needs less memory; ``None`` where there is none."""
        if self.policy == POLICIES[-1]:
            return None
        policy = POLICIES[POLICIES.index(self.policy) + 1]
        reason = f"{policy}: {_WHAT[policy]}, because the memory did not suffice for {self.policy}"
        return replace(self, policy=policy, vae_tiling=True, frees_text_encoder=False, reason=reason)


@dataclass(frozen=True)
class MemoryBudget:
    """What a plan was chosen from, kept for videos that are larger than the one it was chosen for.

    Args:
        size: Of the model, with the options' quantisation.
        usual: The video that the plan was chosen for.
        options: What was asked for.
        free: Bytes that were free on the device before anything was loaded.
        device_type: ``cuda``, ``mps`` or ``cpu``.
        tiling: Whether the profile decodes in tiles where nothing else was asked for.
    """

    size: ModelSize
    usual: VideoWork
    options: MemoryOptions
    free: int
    device_type: str
    tiling: bool

    def choose(self, work: VideoWork) -> MemoryPlan:
        """The fastest plan for a video; see ``choose_plan``."""
        return choose_plan(self.size, work, self.options, self.free, self.device_type, self.tiling)

    def lowered(self, plan: MemoryPlan, work: VideoWork) -> MemoryPlan:
        """The plan for a video that may be larger than the usual one.

        Args:
            plan: The present one; it stays where it is enough, or where the video needs no more than the usual one.
            work: The video.

        Returns:
            The same plan, or one that needs less.

        Raises:
            ConfigError: If no plan is enough; a policy that was named is taken all the same.
        """
        if forecast_bytes(self.size, work, plan) <= max(SPARE * self.free, forecast_bytes(self.size, self.usual, plan)):
            return plan
        lower = self.choose(work)
        need = forecast_bytes(self.size, work, lower)
        if need > SPARE * self.free and self.options.policy == "auto":
            raise ConfigError(
                f"{work.num_frames} frames of {work.width_px} x {work.height_px} px need {need / GIB:.1f} GiB of "
                f"memory with the smallest policy, and {self.free / GIB:.1f} GiB are free.",
                f"Ask for fewer frames; the usual number is {self.usual.num_frames}.",
            )
        return lower


def forecast_bytes(size: ModelSize, work: VideoWork, plan: MemoryPlan) -> int:
    """Most bytes that a video takes on the device.

    Args:
        size: Of the model, with the plan's quantisation.
        work: The video.
        plan: How the networks share the device.
    """
    weights = size.weights
    held = {  # by network, what its stage needs beside weights
        "image_encoder": _small(size),
        "identity_perceiver": _small(size),
        "face_perceiver": _small(size),
        "text_encoder": _text(size, work),
        "identity_fusion": _small(size),
        "transformer": denoise_bytes(size, work),
        "vae": decode_bytes(size, work, plan.vae_tiling),
    }
    if plan.policy == "resident":
        everything = sum(weights.values())
        if plan.frees_text_encoder:
            later = max(held["transformer"], held["vae"]) - weights["text_encoder"]
            peak = everything + max(held["text_encoder"], later)
        else:
            peak = everything + max(held.values())
    elif plan.policy == "model":
        peak = max(weights[name] + held[name] for name in weights)
    elif plan.policy == "group":
        at_work = {name: size.leaf_bytes for name in weights}
        at_work |= {"transformer": 2 * size.block_bytes + size.rest_bytes, "vae": 0}
        peak = weights["vae"] + max(at_work[name] + held[name] for name in weights)
    else:
        peak = size.leaf_bytes + max(held.values())
    return peak + WORKSPACE_BYTES


def denoise_bytes(size: ModelSize, work: VideoWork) -> int:
    """Activations of the transformer, and the constants of the identity over the schedule."""
    row = size.tokens(work) * size.width
    constants = size.adapted_layers * size.width * (work.steps * MODULATIONS + 2 * size.face_tokens)
    return int(work.rows * (DENOISE_TENSORS * row + constants) * size.value_bytes)


def decode_bytes(size: ModelSize, work: VideoWork, tiling: bool) -> int:
    """Activations of the VAE's decoder, and the finished frames."""
    frames = work.latent_frames
    at_once = 1 if frames == 1 else FRAMES_AT_ONCE + frames % 2
    height, width = work.height_px, work.width_px
    if tiling:
        height, width = min(height, size.tile_px[0]), min(width, size.tile_px[1])
    per_px = size.vae_channels * (DECODE_TENSORS * at_once + DECODE_TENSORS_STILL)
    per_px += size.latent_channels * DECODE_LATENTS * at_once
    finished = 3 * work.videos * work.num_frames * work.height_px * work.width_px
    return int((height * width * per_px + 2 * finished) * size.value_bytes)


def choose_plan(
    size: ModelSize, work: VideoWork, options: MemoryOptions, free: int, device_type: str, tiling: bool
) -> MemoryPlan:
    """Pick the fastest plan that fits into the free memory.

    Args:
        size: Of the model, with the options' quantisation.
        work: The largest video.
        options: What was asked for; a policy that is named is taken, fit or not.
        free: Bytes that are free on the device before anything is loaded.
        device_type: ``cuda``, ``mps`` or ``cpu``.
        tiling: Whether the profile decodes in tiles where nothing else was asked for.

    Returns:
        The plan with its reason.
    """
    base = MemoryPlan(quantisation=options.quantisation)
    if device_type == "cpu":
        need = forecast_bytes(size, work, replace(base, vae_tiling=_tilings(options, tiling)[0]))
        reason = f"resident: the CPU has one memory; {need / GIB:.1f} of {free / GIB:.1f} GiB free are needed"
        return replace(base, vae_tiling=_tilings(options, tiling)[0], reason=reason)
    candidates = [
        plan for plan in _candidates(base, _tilings(options, tiling)) if options.policy in ("auto", plan.policy)
    ]
    needs = [forecast_bytes(size, work, plan) for plan in candidates]
    fitting = [index for index, need in enumerate(needs) if need <= SPARE * free]
    chosen = fitting[0] if fitting else len(candidates) - 1
    return replace(candidates[chosen], reason=_reason(candidates, needs, chosen, free, options))


def _candidates(base: MemoryPlan, tilings: tuple[bool, ...]) -> Iterator[MemoryPlan]:
    """Plans from the fastest to the smallest."""
    for policy in POLICIES:
        for frees in (False, True) if policy == "resident" else (False,):
            for tiling in tilings:
                yield replace(base, policy=policy, vae_tiling=tiling, frees_text_encoder=frees)


def _tilings(options: MemoryOptions, default: bool) -> tuple[bool, ...]:
    if options.vae_tiling is not None:
        return (options.vae_tiling,)
    return (True,) if default else (False, True)


def _reason(candidates: list[MemoryPlan], needs: list[int], chosen: int, free: int, options: MemoryOptions) -> str:
    plan = candidates[chosen]
    parts = [_WHAT[plan.policy]]
    if plan.frees_text_encoder:
        parts.append("the text encoder only while it reads a prompt")
    if plan.vae_tiling:
        parts.append("the video is decoded in tiles")
    if plan.quantisation != "none":
        parts.append(f"weights in {plan.quantisation}")
    text = f"{plan.policy}: {', '.join(parts)}; {needs[chosen] / GIB:.1f} of {free / GIB:.1f} GiB free are needed"
    if needs[chosen] > SPARE * free:
        return text + ", which is too much: expect it to fail"
    if options.policy == "auto" and chosen:
        return text + f" ({candidates[0].policy} without that would need {needs[0] / GIB:.1f})"
    return text


def _text(size: ModelSize, work: VideoWork) -> int:
    """Activations of the text encoder: 15 tensors of its widest layer, less than one per cent of its weights."""
    return int(0.01 * size.weights["text_encoder"] * work.rows)


def _small(size: ModelSize) -> int:
    """Activations of the face networks, which see one picture."""
    return int(0.1 * max(size.weights[name] for name in ("image_encoder", "identity_perceiver", "face_perceiver")))
