"""dlib's face recognition network in torch, so that the identity loss of section 3.4 has gradients.

Same weights, same numbers as dlib's own implementation (``faces.dlib_analyzer``), which gives no gradients. The
network is a 29-layer residual network on a 150 px chip. Two habits of dlib differ from what torch users expect and are
kept: convolutions with stride 2 have no padding, and a residual sum of unequal maps pads the smaller one with zeros
below, to the right, and in the channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.models.dlib_weights import DlibLayer, package_file, read_layers
from magicmirror.models.warping import as_complex, cut_similar
from magicmirror.types import Float32Array, UInt8Array

CHIP_SIZE_PX = 150
CHIP_PADDING = 0.25
EMBEDDING_SIZE = 128
MEAN_RGB = (122.782, 117.001, 104.298)
INPUT_DIVISOR = 256.0

# Channels, and how many blocks after the first of each stage; every stage but the first starts by halving the map.
STAGES = ((32, 3), (64, 3), (128, 2), (256, 2), (256, 0))

# dlib's mean face in its unit square, dlib5 order (types.FaceReference); the network was trained on chips fitted to it.
MEAN_FACE = (
    (0.8595674595992, 0.2134981538014),
    (0.6460604764104, 0.2289674387677),
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.4901123135679, 0.6277975316475),
)
# The head template, as in faces.alignment: fractions of the crop's side.
EYE_DISTANCE = 0.27
EYES_CENTRE = (0.5, 0.45)
TEMPLATE_EYES = (EYES_CENTRE[0] - EYE_DISTANCE / 2, EYES_CENTRE[1], EYES_CENTRE[0] + EYE_DISTANCE / 2, EYES_CENTRE[1])


class DlibResidualBlock(nn.Module):
    """Two convolutions and a shortcut, then a rectifier.

    The affine layer that follows each convolution is folded into it.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        halve: Whether the map is halved: by stride in the first convolution, by averaging in the shortcut.
    """

    def __init__(self, in_channels: int, channels: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        stride, padding = (2, 0) if halve else (1, 1)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C, H', W')."""
        residual = self.conv2(functional.relu(self.conv1(features)))
        shortcut = functional.avg_pool2d(features, 2) if self.halve else features
        if residual.shape != shortcut.shape:
            shape = [max(sizes) for sizes in zip(residual.shape, shortcut.shape, strict=True)]
            residual, shortcut = _pad_to(residual, shape), _pad_to(shortcut, shape)
        return functional.relu(residual + shortcut)


class DlibFaceRecognizer(nn.Module):
    """dlib's face recognition network, differentiable in the pixels; frozen.

    Made with random weights; ``from_dlib_package`` reads the real ones.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean = torch.tensor(MEAN_RGB, dtype=torch.float32).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.stem = nn.Conv2d(3, STAGES[0][0], 7, 2)
        self.blocks = nn.ModuleList()
        channels = STAGES[0][0]
        for stage, (width, plain) in enumerate(STAGES):
            if stage:
                self.blocks.append(DlibResidualBlock(channels, width, halve=True))
            self.blocks.extend(DlibResidualBlock(width, width, halve=False) for _ in range(plain))
            channels = width
        self.projection = nn.Linear(channels, EMBEDDING_SIZE, bias=False)
        self.requires_grad_(False).eval()

    @classmethod
    def from_dlib_package(cls) -> Self:
        """Read the weights (CC0) that the package ``face_recognition_models`` installs.

        Raises:
            WeightsError: When the package is missing or its file is damaged.
        """
        return cls.from_dlib_file(package_file())

    @classmethod
    def from_dlib_file(cls, path: Path) -> Self:
        """Read the weights from ``dlib_face_recognition_resnet_model_v1.dat``.

        Raises:
            WeightsError: When the file is missing, damaged or holds another network.
        """
        model = cls()
        layers = read_layers(path)
        convolutions = list(_folded_convolutions(layers))
        modules = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        matrix = torch.from_numpy(layers[-1].weight).T
        expected = [module.weight.shape for module in modules] + [model.projection.weight.shape]
        found = [weight.shape for weight, _ in convolutions] + [matrix.shape]
        if found != expected:
            raise WeightsError(f"{path.name} holds another network than dlib's face recognition network.")
        with torch.no_grad():
            for module, (weight, bias) in zip(modules, convolutions, strict=True):
                module.weight.copy_(weight)
                assert module.bias is not None
                module.bias.copy_(bias)
            model.projection.weight.copy_(matrix)
        return model

    def forward(self, images: Tensor) -> Tensor:
        """Embed face chips.

        Args:
            images: (B, 3, 150, 150) RGB in [0, 1], aligned as dlib's ``get_face_chip`` does with padding 0.25
                (``chips_from_template`` makes them).

        Returns:
            (B, 128) raw embeddings; two of one person are less than 0.6 apart.

        Raises:
            ConfigError: When the shape is another.
        """
        if images.ndim != 4 or images.shape[1:] != (3, CHIP_SIZE_PX, CHIP_SIZE_PX):
            raise ConfigError(f"Face chips must be (B, 3, {CHIP_SIZE_PX}, {CHIP_SIZE_PX}), got {tuple(images.shape)}.")
        return self.embedding(self.feature_maps(images))

    def embedding(self, maps: list[Tensor]) -> Tensor:
        """Raw embedding (B, 128) of what ``feature_maps`` returns."""
        embedding: Tensor = self.projection(maps[-1].mean(dim=(2, 3)))
        return embedding

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Features on the way to the embedding, for a perceptual comparison.

        Args:
            images: (B, 3, 150, 150) as ``forward`` takes them.

        Returns:
            The last map of each of the five stages, (B, C, H, W) with C as in ``STAGES``, from 35 px to 3 px a side.
        """
        features = (images * 255.0 - self.mean) / INPUT_DIVISOR
        # On CPUs this layout saves a quarter of the time in bfloat16.
        features = features.contiguous(memory_format=torch.channels_last)
        features = functional.max_pool2d(functional.relu(self.stem(features)), 3, 2)
        maps: list[Tensor] = []
        for block in self.blocks:
            if block.halve:
                maps.append(features)
            features = block(features)
        return [*maps, features]

    @torch.inference_mode()
    def embed_chips(self, chips: UInt8Array) -> Float32Array:
        """Embed face chips without a gradient.

        Args:
            chips: (B, 150, 150, 3) uint8 RGB, aligned as for ``forward``.

        Returns:
            (B, 128) float32; dlib's own differ in the seventh digit.
        """
        pixels = torch.from_numpy(chips).to(self.mean.device).permute(0, 3, 1, 2).float() / 255.0
        embeddings: Float32Array = self(pixels).float().cpu().numpy()
        return embeddings

    def embed_aligned(self, crops: Tensor, landmarks: Tensor | None = None) -> Tensor:
        """Embed heads that are aligned to the head template.

        Args:
            crops: (B, 3, S, S) RGB in [0, 1].
            landmarks: (B, 5, 2) in px of the crops, ``dlib5`` order; see ``chips_from_template``.

        Returns:
            (B, 128) raw embeddings.
        """
        embedding: Tensor = self(chips_from_template(crops, landmarks=landmarks))
        return embedding

    def embed_faces(self, frames: Tensor, eyes: Tensor | None = None) -> Tensor:
        """Embed the faces of whole frames by their eyes; the rest is taken from the mean face.

        Args:
            frames: (B, 3, H, W) RGB in [0, 1].
            eyes: (B, 4) eye centres as ``data.face_area.Eyes``, in heights of the frame; ``None`` for square frames
                that are aligned to the head template.

        Returns:
            (B, 128) raw embeddings.
        """
        return self.embed_aligned(frames, None if eyes is None else mean_face_landmarks(eyes, frames.shape[-2]))


def chips_from_template(frames: Tensor, size: int = CHIP_SIZE_PX, landmarks: Tensor | None = None) -> Tensor:
    """Cut the recogniser's chips out of aligned heads, or out of frames with known landmarks, differentiably.

    dlib fits a similarity to five points, eye corners and base of the nose. The head template fixes only the eyes; the
    rest is taken from dlib's mean face, unless the person's own landmarks are given.

    Args:
        frames: (B, 3, H, W) RGB of any range; without ``landmarks`` square and aligned to the head template
            (``faces.alignment``).
        size: Side of a chip in px.
        landmarks: (B, 5, 2) x and y in px of ``frames``, ``dlib5`` order; ``None`` for the mean face.

    Returns:
        (B, 3, size, size), zero where a chip reaches beyond its frame.

    Raises:
        ConfigError: When a shape is wrong.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or (landmarks is None and frames.shape[2] != frames.shape[3]):
        raise ConfigError(f"Aligned heads must be (B, 3, S, S), got {tuple(frames.shape)}.")
    side = frames.shape[-1]
    if landmarks is None:
        landmarks = template_landmarks(side).expand(frames.shape[0], 5, 2)
    elif landmarks.shape != (frames.shape[0], 5, 2):
        raise ConfigError(f"Landmarks must be ({frames.shape[0]}, 5, 2), got {tuple(landmarks.shape)}.")
    factor, centre = _chip_transform(landmarks.to(frames.device, torch.float32), size)
    return cut_similar(frames, factor, centre, size)  # dlib goes through an image pyramid where px would be skipped


def template_landmarks(side_px: int) -> Tensor:
    """Return the (5, 2) landmarks of dlib's mean face with its eye centres on the head template, in px."""
    return mean_face_landmarks(torch.tensor([TEMPLATE_EYES], dtype=torch.float64), side_px)[0]


def mean_face_landmarks(eyes: Tensor, height_px: int) -> Tensor:
    """Place dlib's mean face by its eyes.

    Args:
        eyes: (B, 4) eye centres as ``data.face_area.Eyes``, in heights of the frame.
        height_px: Of the frame.

    Returns:
        (B, 5, 2) float32 landmarks in px, ``dlib5`` order.
    """
    face = as_complex(torch.tensor(MEAN_FACE, dtype=torch.float64, device=eyes.device))
    right, left = face[0:2].mean(), face[2:4].mean()
    own_left, own_right = as_complex(eyes.double().unflatten(1, (2, 2))).unbind(1)
    factor = (own_right - own_left) / (right - left)
    placed = (own_left[:, None] + factor[:, None] * (face - left)) * height_px - (0.5 + 0.5j)
    return torch.view_as_real(placed).float()


def _chip_transform(landmarks: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Fit dlib's map from chip to frame: ``frame = factor * (chip - middle of the chip) + centre``.

    Points are complex numbers ``x + iy``, so that a similarity is one multiplication and one sum; least squares gives
    Umeyama's solution. dlib then cuts a rotated box of ``size * |slope|`` px of the frame whose outermost px (not their
    outer edges) become the outermost px of the chip, and centres it at chip point ``size / 2``, which is half a px to
    the lower right of the chip's middle; both habits are kept.

    Args:
        landmarks: (B, 5, 2) in px of the frames.
        size: Side of the chip.

    Returns:
        (B,) complex factor and (B,) complex centre.
    """
    mean_face = torch.tensor(MEAN_FACE, dtype=landmarks.dtype, device=landmarks.device)
    source = as_complex((mean_face + CHIP_PADDING) / (1 + 2 * CHIP_PADDING) * size)
    target = as_complex(landmarks)
    spread = source - source.mean()
    slope = (spread.conj() * (target - target.mean(-1, keepdim=True))).sum(-1) / spread.abs().square().sum()
    middle = complex(size / 2, size / 2)
    centre = slope * (middle - source.mean()) + target.mean(-1)
    return slope * (size - 1 / slope.abs()) / (size - 1), centre


def _pad_to(features: Tensor, shape: Sequence[int]) -> Tensor:
    """Pad (B, C, H, W) with zeros at the end of C, H and W."""
    _, channels, height, width = (wanted - have for wanted, have in zip(shape, features.shape, strict=True))
    return functional.pad(features, (0, width, 0, height, 0, channels))


def _folded_convolutions(layers: Sequence[DlibLayer]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weight and bias of each convolution with the affine layer after it: ``a (W x + b) + c``."""
    for layer, following in itertools.pairwise(layers):
        if layer.kind != "con":
            continue
        weight, bias = (torch.from_numpy(values).double() for values in (layer.weight, layer.bias))
        if following.kind != "affine":
            raise WeightsError("A convolution of the dlib file has no affine layer after it.")
        scale, shift = (torch.from_numpy(values).double() for values in (following.weight, following.bias))
        yield (weight * scale.view(-1, 1, 1, 1)).float(), (bias * scale + shift).float()
