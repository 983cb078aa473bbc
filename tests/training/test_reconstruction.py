"""The terms that compare a decoded clip with its original, each against cases with a known answer."""

import pytest
import torch

from magicmirror.training.reconstruction import change_error, edge_error, texture_error, warping_error
from magicmirror.training.vae_objective import as_clips
from tests.tiny_training import moving_clips


def test_edges_see_a_blur_and_a_flicker_but_no_constant():
    clips = as_clips(moving_clips()["pixels"])
    assert edge_error(clips + 0.3, clips) < 1e-6
    flicker = clips.clone()
    flicker[:, :, 1::2] += 0.3
    # Only the differences in time see it: a third of the terms on every scale.
    assert edge_error(flicker, clips).item() == pytest.approx(0.3 / 3, rel=1e-4)
    rows = torch.zeros(1, 1, 1, 4, 4)
    rows[..., 1, :] = 1.0
    # No time. Scale 1: along H two of three differences are 1, along W none. Scale 2: 0.5 along H. No smaller one.
    assert edge_error(rows, torch.zeros_like(rows)).item() == pytest.approx((2 / 3 + 0 + 0.5 + 0) / 4)


def test_texture_is_how_much_detail_there_is_and_not_where():
    """A checkerboard of +-a has 2 a across and nothing along a side or at half the size; stripes have it along one."""
    board = 0.1 * (-1.0) ** (torch.arange(34)[:, None] + torch.arange(34))
    stripes = 0.1 * (-1.0) ** torch.arange(34).expand(34, 34)
    pattern, striped = (each[None, None, None].repeat(1, 3, 2, 1, 1) for each in (board, stripes))
    share = 1 / (3 * 2)  # one of three details, on one of two scales
    assert texture_error(pattern, torch.zeros_like(pattern)).item() == pytest.approx(0.2 * share, rel=2e-2)
    assert texture_error(0.25 * pattern, pattern).item() == pytest.approx(0.15 * share, rel=2e-2)
    assert texture_error(-pattern, pattern).item() == pytest.approx(0, abs=1e-6)
    assert texture_error(pattern + 0.3, pattern).item() == pytest.approx(0, abs=1e-5)
    # One direction does not stand in for another, as it would where all detail is one number.
    assert texture_error(pattern, striped).item() == pytest.approx(0.4 * share, rel=2e-2)
    wide = torch.nn.functional.interpolate(striped[:, :, 0], scale_factor=2)[:, :, None]
    # Stripes twice as wide are the second scale's: 2 a there, and every other difference on the first.
    expected = (0.2 + 0.2 / 2**0.5) * share
    assert texture_error(wide, torch.zeros_like(wide)).item() == pytest.approx(expected, rel=3e-2)
    still = torch.zeros_like(pattern).requires_grad_()
    texture_error(still, pattern).backward()
    assert still.grad.isfinite().all()


def still_with_a_square(frames=3, side=24):
    """Grey but for a square of 8 px that is brighter from the second frame on, (1, 3, F, S, S)."""
    clips = torch.zeros(1, 3, frames, side, side)
    clips[:, :, 1:, 8:16, 8:16] = 0.5
    return clips


def test_the_change_term_looks_where_the_clip_changes_and_there_alone():
    clips = still_with_a_square()
    assert change_error(clips + 0.2, clips).item() == pytest.approx(0.2, rel=1e-5)
    start, far, near, inside = (clips.clone() for _ in range(4))
    start[:, :, 0] += 1.0
    far[:, :, :, :, 18:] += 1.0
    assert change_error(start, clips).item() == change_error(far, clips).item() == 0.0
    near[:, :, 1:, 8:16, 16] += 1.0
    inside[:, :, 1:, 8:16, 15] += 1.0
    # A column beside the square has two fifths of the weight of one in the middle, one at its edge three.
    weights = torch.tensor([1, 2, 3, 4, 5, 5, 5, 5, 4, 3, 2, 1]) / 5  # the square, spread over a window of 5
    across = weights.sum()
    share = weights[2:10].sum() / across  # rows 8 to 15
    assert change_error(near, clips).item() == pytest.approx((share * 2 / 5 / across).item(), rel=1e-4)
    assert change_error(inside, clips).item() == pytest.approx((share * 3 / 5 / across).item(), rel=1e-4)


def test_a_clip_that_changes_less_counts_as_much():
    clips = still_with_a_square()
    both = torch.cat([clips, clips * 0.01])
    wrong = both.clone()
    wrong[1, :, :, 8:16, 8:16] += 0.1
    alone = change_error(wrong[1:], both[1:]).item()
    assert change_error(wrong, both).item() == pytest.approx(alone / 2, rel=1e-5) and alone > 0.04
    assert change_error(clips[:, :, :1] + 1, clips[:, :, :1]).item() == 0.0  # a still


def test_the_warping_term_forgives_an_error_that_moves_along():
    """Everything moves by 2 px a frame to the right."""
    texture = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    clips = torch.stack([texture[..., 8 - 2 * t : 32 - 2 * t] for t in range(4)], dim=2)
    flow = torch.tensor([2.0, 0.0]).expand(1, 3, 24, 24, 2)
    stripes = 0.3 * (torch.arange(40) % 4 < 2).float().expand(1, 3, 24, 40)
    along = torch.stack([stripes[..., 8 - 2 * t : 32 - 2 * t] for t in range(4)], dim=2)
    assert warping_error(clips + along, clips, flow).item() == pytest.approx(0, abs=1e-6)
    standing = along[:, :, :1].expand_as(clips)
    # Stripes of 2 px, followed by 2 px, are their opposite everywhere.
    assert warping_error(clips + standing, clips, flow).item() == pytest.approx(0.3, rel=1e-4)
    flicker = clips.clone()
    flicker[:, :, 1::2] += 0.3
    assert warping_error(flicker, clips, flow).item() == pytest.approx(0.3, rel=1e-4)
    assert warping_error(clips + 0.3, clips, flow).item() == pytest.approx(0, abs=1e-6)
    assert warping_error(clips[:, :, :1] + 0.3, clips[:, :, :1], flow[:, :0]).item() == 0.0  # a still


def test_the_warping_term_looks_away_where_the_motion_leaves_the_picture():
    clips = torch.zeros(1, 3, 2, 8, 8)
    flow = torch.zeros(1, 1, 8, 8, 2)
    flow[..., 4:, 0] = 100.0
    wrong = clips.clone()
    wrong[:, :, 0, :, 4:] = 1.0
    assert warping_error(wrong, clips, flow).item() == 0.0
    wrong[:, :, 0, :, 3] = 1.0
    assert warping_error(wrong, clips, flow).item() == pytest.approx(1 / 4)
    flow[..., 0] = 100.0
    assert warping_error(wrong, clips, flow).item() == 0.0  # nowhere is left


def test_terms_of_parts_are_those_of_the_whole():
    """However much of each clip is left, as processes that share out a step need it."""
    clips, wrong = (torch.randn(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    flow = torch.zeros(2, 2, 8, 8, 2)
    flow[1, ..., 4:, 0] = 100.0
    parts = [warping_error(wrong[row : row + 1], clips[row : row + 1], flow[row : row + 1]) for row in range(2)]
    torch.testing.assert_close(sum(parts) / 2, warping_error(wrong, clips, flow))
    parts = [change_error(wrong[row : row + 1], clips[row : row + 1]) for row in range(2)]
    torch.testing.assert_close(sum(parts) / 2, change_error(wrong, clips))
