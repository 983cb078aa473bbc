"""Critics: each learns to tell what a network makes from what is real, and the network learns to be taken for real.

Not in the paper (**D7** in ``docs/paper_map.md``); CogVideoX's VAE was trained with one (arXiv 2408.06072). What 64
cells of latents leave open, as every single hair, an error of pixels answers with the mean of all that may be, which
is soft. A critic does not ask where a hair lies, but whether it looks like one.

Of a clip that a denoiser predicts, the latents are judged (as in arXiv 2403.12015, there through a network's features):
a frame in which a face has moved, and of which the error is least with the face at two places at once, is soft in the
picture as well, and only its latents tell it from one in which the face is seen to move.

Both losses compare a picture with the photo that it is of, place by place (relativistic pairing, arXiv 1807.00734): a
score has no meaning of its own, and the critic need not agree with itself about which places are hard. Without a bound
the critic's slope would grow, and the decoder's gradient with it, so its change under a little noise is punished, on
photos and pictures alike (approximated R1 and R2, arXiv 2501.08316); unlike spectral norms that keeps no state.

Of a clip it sees two frames, the second brought to the places of the first along the flow (as in arXiv 1811.09393):
what is sharp in one frame may be drawn anew in every frame. A penalty on what is left along the flow asks for that too,
but a blur pays the least of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

CHANNELS = (32, 64, 128)
NOISE = 0.02
"""Deviation of the noise under which a score should stay, in units of [-1, 1]; less than hair has."""
FOLLOWING_NOISE = 0.3
"""How far the noise of a following frame is from the first one's, as a share of it: flicker is weaker than hair."""
PENALTY = 250.0
LATENT_CHANNELS = (48, 96, 96)
LATENT_NOISE = 0.05
"""Of scaled latents, whose deviation is about 0.6."""
LATENT_PENALTY = 100.0
BLUR_PX = 9
"""Side of the window whose mean is taken off: a critic that sees light and colour pulls them back and forth."""

CRITIC_RATE = 4.0
"""Its learning rate, as a multiple of the rate of what it judges: else that outruns it, and its advice is stale."""
CRITIC_BETAS = (0.5, 0.99)
CRITICS = ("critic", "latent_critic")
"""Names by which an objective has its critics, of pictures and of latents."""


class Critic(nn.Module):
    """Scores places: higher where they look real.

    Attributes:
        penalty: Weight of the change of its scores under ``nudge``.
    """

    penalty: float = PENALTY

    def nudge(self, noise: Tensor) -> Tensor:
        """Scale standard normal noise, of the shape that it judges, to a step under which scores should stay."""
        raise NotImplementedError


class PictureCritic(Critic):
    """Scores of the detail of patches: convolutions with a view of 62 px, each score 8 px from the next.

    Args:
        channels: Of the layers that halve the picture.
        num_frames: How many frames K of the same place it sees at once.
    """

    def __init__(self, channels: tuple[int, ...] = CHANNELS, num_frames: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3 * num_frames
        for width in channels:
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            before = width
        layers += [nn.Conv2d(before, before, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(before, 1, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, pictures: Tensor) -> Tensor:
        """Score pictures (N, 3 K, H, W) in [-1, 1]; returns (N, 1, h, w), higher where they look like a photo.

        Of the frames after the first it looks at the detail that is not the first one's.
        """
        means = functional.avg_pool2d(pictures, BLUR_PX, stride=1, padding=BLUR_PX // 2, count_include_pad=False)
        first, *others = (pictures - means).split(3, dim=1)
        scores: Tensor = self.layers(torch.cat([first, *(other - first for other in others)], dim=1))
        return scores

    def nudge(self, noise: Tensor) -> Tensor:
        """Give frames after the first its noise, and a little of their own."""
        first, *others = noise.split(3, dim=1)
        return NOISE * torch.cat([first, *(first + FOLLOWING_NOISE * other for other in others)], dim=1)


class LatentCritic(Critic):
    """Scores of the latents of clips: convolutions over space and time, each score two cells from the next.

    Args:
        latent_channels: C of the latents.
        channels: Of its layers.
    """

    penalty = LATENT_PENALTY

    def __init__(self, latent_channels: int, channels: tuple[int, int, int] = LATENT_CHANNELS) -> None:
        super().__init__()
        near, wide, far = channels
        self.layers = nn.Sequential(
            nn.Conv3d(latent_channels, near, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv3d(near, wide, 3, stride=(1, 2, 2), padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv3d(wide, far, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv3d(far, 1, (1, 3, 3), padding=(0, 1, 1)),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Score scaled latents (N, F, C, H, W); returns (N, 1, F, h, w), each of 7 frames of 13 x 13 cells."""
        scores: Tensor = self.layers(latents.transpose(1, 2))
        return scores

    def nudge(self, noise: Tensor) -> Tensor:
        """Scale the noise of every frame alike."""
        return LATENT_NOISE * noise


def critic_losses(critic: Critic, made: Tensor, photos: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """What the maker and what the critic are to minimise, to be summed: neither one's gradient reaches the other.

    Args:
        critic: Trained by the second loss alone.
        made: (N, ...) what was made, as the critic takes it: for a ``PictureCritic`` decoded pictures (N, 3 K, H, W) in
            about [-1, 1]; the first loss alone flows into it.
        photos: (N, ...) what each is of.
        noise: (N, 2, ...) standard normal, for each photo and for the picture of it.

    Returns:
        Two scalars. Both are log 2 where the critic sees no difference.
    """
    frozen = {name: value.detach() for name, value in critic.named_parameters()}
    with torch.no_grad():
        wanted = critic(photos)
    fooled = functional.softplus(wanted - functional_call(critic, frozen, (made,))).mean()

    both = torch.cat([photos, made.detach()])
    scores = critic(both)
    of_photos, of_made = scores.chunk(2)
    told = functional.softplus(of_made - of_photos).mean()
    slope = (critic(both + critic.nudge(noise.transpose(0, 1).flatten(0, 1))) - scores).square().mean()
    return fooled, told + critic.penalty * slope
