"""A picture of the video while it is being sampled, a thousand times cheaper than the decoder.

Decoding even one latent frame costs about as much as a denoising step. So the decoder is replaced by the linear map
that comes closest to it: from a latent cell and its eight neighbours to the cell's 8 x 8 px. It is fitted once, by
least squares on pictures that the VAE itself encoded, and works for every VAE.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from magicmirror.errors import ConfigError, MagicMirrorError
from magicmirror.media import complete_file, load_image
from magicmirror.types import Float32Array, UInt8Array

log = logging.getLogger(__name__)

SHIPPED_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "live_preview"
"""Maps that come with the repository, so that the preview profile starts without fitting one."""
MAX_SIDE_PX = 256
"""Larger pictures are reduced: they travel to the browser at every step."""
FIT_SIDE_PX = 128
FIT_FRAMES = 5
"""One latent frame of a first frame, and one of the four that follow: the second is of the kind that is shown."""
RIDGE = 1e-3
MIN_ALPHA = 0.1
"""A guess from one state is not worth a look while it holds a smaller share of signal."""


class LatentPreview:
    """The linear stand-in for a decoder.

    Args:
        weights: (9 C + 1, S * S * 3) float32: neighbourhood and constant to px in about [-1, 1]; S px a cell.
        scale: Latents are divided by this, the VAE's scaling factor.
    """

    def __init__(self, weights: Float32Array, scale: float) -> None:
        self.weights = weights
        self.scale = scale

    @classmethod
    def fit(cls, pipeline: Any, pictures: Sequence[UInt8Array]) -> LatentPreview:
        """Fit the map to a pipeline's VAE.

        Args:
            pipeline: With ``vae`` and ``vae_scale_factor_spatial``.
            pictures: (H, W, 3) uint8 RGB each; a dozen are enough.

        Raises:
            ConfigError: When there is no picture.
        """
        import torch

        if not pictures:
            raise ConfigError("A live preview cannot be fitted without pictures.")
        vae, cell = pipeline.vae, int(pipeline.vae_scale_factor_spatial)
        inputs, outputs = [], []
        for picture in (each for source in pictures for each in (_square(source), _square(source)[:, ::-1])):
            pixels = torch.from_numpy(np.ascontiguousarray(picture)).to(vae.device, vae.dtype) / 127.5 - 1.0
            clip = pixels.permute(2, 0, 1)[None, :, None].expand(-1, -1, FIT_FRAMES, -1, -1)
            with torch.no_grad():
                latents = vae.encode(clip).latent_dist.mode()[0, :, -1]
            inputs.append(_neighbourhoods(latents.float().cpu().numpy()))
            outputs.append(_cells(picture.astype(np.float32) / 127.5 - 1.0, cell))
        x, y = np.concatenate(inputs), np.concatenate(outputs)
        ridge = RIDGE * len(x) * np.eye(x.shape[1])
        ridge[-1, -1] = 0.0
        weights = np.linalg.solve((x.T @ x + ridge).astype(np.float64), (x.T @ y).astype(np.float64))
        return cls(weights.astype(np.float32), float(vae.config.scaling_factor))

    def render(self, latents: Float32Array) -> UInt8Array:
        """Draw one latent frame.

        Args:
            latents: (C, H, W) as the denoising loop has them.

        Returns:
            (H, W, 3) uint8 RGB, its longer side at most ``MAX_SIDE_PX``.
        """
        _, rows, columns = latents.shape
        side = round((self.weights.shape[1] / 3) ** 0.5)
        values = _neighbourhoods(latents / self.scale) @ self.weights
        blocks = values.reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4)
        picture = np.clip((blocks.reshape(rows * side, columns * side, 3) + 1.0) * 127.5, 0, 255).astype(np.uint8)
        return _reduced(picture)


class CleanEstimate:
    """What the model takes the clean latents for, told from two successive states of the loop.

    A deterministic step keeps the predicted clean latents x0 and noise e: x_t = a_t x0 + s_t e and
    x_u = a_u x0 + s_u e with a^2 + s^2 = 1 (DDIM, Eq. 12 with eta = 0), so two states give x0 exactly. After the first
    step, and for schedulers that add noise, the best linear guess a_u x_u stands in.

    Args:
        scheduler: Of the pipeline, after ``set_timesteps``.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._exact = type(scheduler).__name__.endswith("DDIMScheduler")
        self._before: tuple[Float32Array, float] | None = None

    def update(self, latents: Float32Array, step: int, total: int) -> Float32Array | None:
        """Take in the state after a step and return the estimate; ``None`` where there is next to nothing to see.

        Args:
            latents: Of any shape, the same in every call.
            step: From 0.
            total: Steps in all.
        """
        alpha = self._alpha_after(step, total)
        signal, noise = alpha**0.5, (1.0 - alpha) ** 0.5
        estimate = signal * latents if alpha >= MIN_ALPHA else None
        if self._exact and self._before is not None:
            earlier, alpha_then = self._before
            signal_then, noise_then = alpha_then**0.5, (1.0 - alpha_then) ** 0.5
            denominator = signal_then * noise - signal * noise_then
            if abs(denominator) > 1e-6:
                estimate = (noise * earlier - noise_then * latents) / denominator
        self._before = (latents, alpha)
        return estimate

    def _alpha_after(self, step: int, total: int) -> float:
        """Share of signal (cumulative alpha) after a step, as the schedulers compute it."""
        scheduler = self._scheduler
        timestep = int(scheduler.timesteps[step]) - scheduler.config.num_train_timesteps // total
        return float(scheduler.alphas_cumprod[timestep] if timestep >= 0 else scheduler.final_alpha_cumprod)


def load_or_fit(pipeline: Any, pictures: Sequence[Path], cache: Path | None = None) -> LatentPreview | None:
    """Return the preview of a pipeline; ``None``, with a warning in the log, where it cannot be had.

    Args:
        pipeline: Loaded.
        pictures: Picture files to fit with, where neither the repository nor the cache has a map for this VAE.
        cache: Folder in which a fitted map is kept; ``None`` keeps none.
    """
    try:
        name = f"live-preview-{vae_key(pipeline.vae)}.npz"
        for folder in (SHIPPED_FOLDER, cache):
            if folder is not None and (folder / name).is_file():
                return read_preview(folder / name)
        preview = LatentPreview.fit(pipeline, [load_image(path) for path in pictures])
        if cache is not None:
            write_preview(preview, cache / name)
    except (MagicMirrorError, OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        log.warning("No live preview: %s", error)
        return None
    return preview


def vae_key(vae: Any) -> str:
    """Return a short name of a VAE's weights, told from its outermost layers."""
    digest = hashlib.sha256()
    for name, tensor in vae.state_dict().items():
        if "conv_in" in name or "conv_out" in name:
            digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def read_preview(path: Path) -> LatentPreview:
    """Read a fitted map."""
    with np.load(path, allow_pickle=False) as stored:
        return LatentPreview(stored["weights"].astype(np.float32), float(stored["scale"]))


def write_preview(preview: LatentPreview, path: Path) -> Path:
    """Keep a fitted map; half precision is far finer than its fit.

    Raises:
        ConfigError: When it cannot be written.
    """
    with complete_file(path, ConfigError) as partial, partial.open("wb") as file:
        np.savez_compressed(file, weights=preview.weights.astype(np.float16), scale=preview.scale)
    return path


def _square(picture: UInt8Array) -> UInt8Array:
    """Return the middle square at ``FIT_SIDE_PX``."""
    import cv2

    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    square = np.ascontiguousarray(picture[top : top + side, left : left + side])
    small = cv2.resize(square, (FIT_SIDE_PX, FIT_SIDE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def _neighbourhoods(latents: Float32Array) -> Float32Array:
    """(C, H, W) -> (H * W, 9 C + 1): every cell with its eight neighbours, and a one; the border is repeated."""
    channels, rows, columns = latents.shape
    padded = np.pad(latents, ((0, 0), (1, 1), (1, 1)), mode="edge")
    shifts = [padded[:, y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    flat = np.concatenate([*shifts, np.ones((1, rows, columns), np.float32)]).reshape(9 * channels + 1, -1)
    return np.ascontiguousarray(flat.T, dtype=np.float32)


def _cells(picture: Float32Array, side: int) -> Float32Array:
    """(H, W, 3) -> (cells, side * side * 3)."""
    rows, columns = picture.shape[0] // side, picture.shape[1] // side
    blocks = picture.reshape(rows, side, columns, side, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(blocks.reshape(rows * columns, side * side * 3))


def _reduced(picture: UInt8Array) -> UInt8Array:
    height, width = picture.shape[:2]
    if max(height, width) <= MAX_SIDE_PX:
        return picture
    import cv2

    scale = MAX_SIDE_PX / max(height, width)
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
