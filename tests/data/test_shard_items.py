"""Shards of identity pairs and real clips: the right pixels, other pictures as references, loadable and resumable."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from magicmirror.data.animation import render_clip
from magicmirror.data.dataset import BatchOrder, LatentDataset
from magicmirror.data.framing import bordered_photo, cut_window, frame_window, head_window
from magicmirror.data.motion import ClipSpec, MotionCue
from magicmirror.data.precompute import PrecomputeConfig, encode_clips, precompute, shard_path
from magicmirror.data.records import FrameFace, IdentityPairRecord, RealClipRecord, ReferencePicture, rounded_points
from magicmirror.data.shard_items import ItemSampler
from magicmirror.errors import ConfigError, VideoError
from magicmirror.faces.alignment import align_head
from magicmirror.media import load_image, read_video, write_video
from magicmirror.types import GeneratedVideo

CONFIG = PrecomputeConfig(
    views_per_portrait=3, portraits_per_shard=2, num_frames=5, size_px=32, clip_batch=2, image_batch=2, bf16=False
)
SHARED = {"source": "examples", "licence": "see LICENSE.md", "split": "train"}
FPS = 16


class MeanColour:
    """Embeds a crop as its mean colour: enough to see which crop was embedded."""

    def embed_aligned(self, crops):
        return crops.reshape(len(crops), -1, 3).mean(axis=1).astype(np.float32)


def pair(name, paper_set, landmarks, references=()):
    return IdentityPairRecord(
        path=f"{name}.jpg",
        person_id=name,
        group="person",
        stratum="people",
        landmarks=rounded_points(landmarks),
        box=(0.0, 0.0, 10.0, 10.0),
        paper_set=paper_set,
        caption="A photo of a person img.",
        references=references,
        **SHARED,
    )


@pytest.fixture(scope="module")
def pairs(portraits):
    def other(name):
        return ReferencePicture(f"{name}.jpg", rounded_points(portraits[name][1]), 0.3)

    return (
        pair("man_1", "C", portraits["man_1"][1], (other("man_2"), other("man_3"))),
        pair("woman_1", "B", portraits["woman_1"][1]),
        pair("woman_2", "A", portraits["woman_2"][1]),
    )


@pytest.fixture(scope="module")
def video(portraits, tmp_path_factory):
    """Folder with a video of 40 frames in which every frame differs."""
    root = tmp_path_factory.mktemp("videos")
    frames = render_clip(*portraits["man_1"], ClipSpec((MotionCue("zoom_in", pace="slow"),)), 40, 128)
    write_video(GeneratedVideo(frames, FPS, {}), root / "v.mp4")
    return root


@pytest.fixture(scope="module")
def clips(portraits):
    def clip(start, end):
        points = tuple((float(x), float(y)) for x, y in ((81, 57), (69, 57), (46, 57), (58, 57), (64, 75)))
        return RealClipRecord(
            path="v.mp4",
            person_id=f"v.mp4#{start}",
            group="man",
            stratum="videos",
            start_frame=start,
            end_frame=end,
            fps=float(FPS),
            box=(0.0, 0.0, 128.0, 128.0),
            caption="A man img waits.",
            motion=0.1,
            fingerprints=("0", "1", "2"),
            faces=tuple(FrameFace(frame, points) for frame in (start, start + 6, end - 1)),
            **SHARED,
        )

    return clip(0, 9), clip(10, 22), clip(22, 40)


def test_pairs_give_stills_and_the_other_pictures(pairs, examples, portraits, tiny_vae, tmp_path):
    assert precompute(pairs, examples, tmp_path, tiny_vae, MeanColour(), CONFIG) == 2
    tensors = load_file(shard_path(tmp_path, 0))
    assert tensors["image_latents"].shape == (2, 1, 4, 4, 4) and tensors["clip_latents"].shape[0] == 0
    picture, landmarks = portraits["man_1"]
    window = frame_window(head_window(landmarks), picture.shape[:2], (32, 32), "head")
    expected = encode_clips(tiny_vae, cut_window(picture, window, 32, 32)[None, None], bf16=False)
    torch.testing.assert_close(tensors["image_latents"][0], expected[0], atol=2e-3, rtol=2e-3)
    for view, name in enumerate(("man_1", "man_2", "man_3")):
        points = np.array(rounded_points(portraits[name][1]), dtype=np.float32)
        own = align_head(load_image(examples / f"{name}.jpg"), points, "dlib5", 32)
        np.testing.assert_array_equal(tensors["crops"][0, view].numpy(), own)
    # Too few others, or none: other views of them, or of the target, and never the same crop twice.
    for person in range(2):
        assert len({bytes(crop.numpy().tobytes()) for crop in tensors["crops"][person]}) == 4

    images = LatentDataset([tmp_path], "image")
    assert [row.caption for row in images.rows] == ["A photo of a person img."] * 3
    batch = BatchOrder(images, 3, seed=1).batch_at(0)
    assert batch["latents"].shape == (3, 1, 4, 4, 4) and set(batch["person_ids"]) == {"man_1", "woman_1", "woman_2"}
    lines = shard_path(tmp_path, 0).with_suffix(".jsonl").read_text().splitlines()
    assert [json.loads(line)["paper_set"] for line in lines] == ["C", "B"]
    with pytest.raises(ConfigError, match="no clip"):
        LatentDataset([tmp_path], "clip")
    # Framed by the head: nearly the template; the window is moved where it would leave the picture.
    for row, line in enumerate(lines):
        (eyes,) = json.loads(line)["eyes"]
        middle = (eyes[0] + eyes[2]) / 2, (eyes[1] + eyes[3]) / 2
        assert middle == pytest.approx((0.5, 0.45), abs=0.03)
        assert np.hypot(eyes[2] - eyes[0], eyes[3] - eyes[1]) == pytest.approx(0.27, abs=0.01)
        assert images[row]["face_area"].shape == (1, 4, 4) and images[row]["face_area"][0, 1:3, 1:3].all()


def test_clips_give_a_stretch_and_other_frames(clips, video, tiny_vae, tmp_path):
    assert precompute(clips, video, tmp_path, tiny_vae, MeanColour(), CONFIG) == 2
    tensors = load_file(shard_path(tmp_path, 0))
    lines = [json.loads(line) for line in shard_path(tmp_path, 0).with_suffix(".jsonl").read_text().splitlines()]
    frames, _ = read_video(video / "v.mp4")
    for row, clip in enumerate(clips[:2]):
        start = lines[row]["start_frame"]
        assert clip.start_frame <= start and start + 9 <= clip.end_frame  # five frames at half the rate
        shown = np.stack([cut_window(frames[start + 2 * n], clip.box, 32, 32) for n in range(5)])
        expected = encode_clips(tiny_vae, shown[None], bf16=False)[0]
        torch.testing.assert_close(tensors["clip_latents"][row], expected, atol=2e-3, rtol=2e-3)
        views = [align_head(frames[f.frame], f.landmark_array, "dlib5", 32) for f in clip.faces]
        own = min(range(3), key=lambda n: abs(clip.faces[n].frame - start))
        np.testing.assert_array_equal(tensors["crops"][row, 0].numpy(), views[own])
        seen = {crop.numpy().tobytes() for crop in tensors["crops"][row, 1:]}
        assert seen == {view.tobytes() for n, view in enumerate(views) if n != own}
    for line in lines:
        np.testing.assert_allclose(line["eyes"], [np.array([52.5, 57.5, 75.5, 57.5]) / 128] * 5, atol=1e-4)
    dataset = LatentDataset([tmp_path], "clip")
    assert dataset[0]["face_area"].shape == (2, 4, 4) and dataset[0]["face_area"].any()
    assert len(dataset) == 3 and dataset[0]["latents"].shape == (2, 4, 4, 4) and dataset.num_views(0) == 4


def test_shards_do_not_depend_on_who_made_the_one_before(clips, video, tiny_vae, tmp_path):
    """An open video is gone on with where possible; the result is that of opening it anew."""
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    precompute(clips, video, whole, tiny_vae, MeanColour(), CONFIG)
    for worker in (1, 0):
        assert precompute(clips, video, shared, tiny_vae, MeanColour(), CONFIG, worker, 2) == 1
    assert {p.name: p.read_bytes() for p in whole.iterdir()} == {p.name: p.read_bytes() for p in shared.iterdir()}
    sampler = ItemSampler(video, CONFIG)
    backwards = [sampler.sample(clip).crops for clip in reversed(clips)]
    for crops, clip in zip(backwards, reversed(clips), strict=True):
        np.testing.assert_array_equal(crops, ItemSampler(video, CONFIG).sample(clip).crops)


def test_what_does_not_fit_is_refused(clips, video, portraits, examples):
    long = dataclasses.replace(CONFIG, num_frames=17)
    with pytest.raises(ConfigError, match="33 frames are needed"):
        ItemSampler(video, long).sample(clips[0])
    beyond = dataclasses.replace(
        clips[2], end_frame=60, faces=(clips[2].faces[0], FrameFace(55, clips[2].faces[0].landmarks))
    )
    with pytest.raises(VideoError, match="ends at frame 40"):
        ItemSampler(video, CONFIG).sample(beyond)
    for change, message in (
        ({"size_px": 40}, "multiples of 16"),
        ({"framing": "feet"}, "framing"),
        ({"fps": 0}, "fps"),
    ):
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(CONFIG, **change)


def test_folders_begun_before_new_settings_go_on(pairs, examples, tiny_vae, tmp_path):
    precompute(pairs, examples, tmp_path, tiny_vae, MeanColour(), CONFIG)
    plan = json.loads((tmp_path / "plan.json").read_text())
    for name in ("width_px", "fps", "framing"):
        del plan["config"][name]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert precompute(pairs, examples, tmp_path, tiny_vae, MeanColour(), CONFIG) == 0
    with pytest.raises(ConfigError, match="another config"):
        precompute(pairs, examples, tmp_path, tiny_vae, MeanColour(), dataclasses.replace(CONFIG, framing="whole"))


def test_windows():
    head = (10.0, 20.0, 50.0, 60.0)
    assert frame_window(head, (100, 200), (32, 32), "head") == head
    # Twice as wide as high: moved into the picture, where it fits.
    assert frame_window(head, (100, 200), (32, 64), "head") == (0.0, 20.0, 80.0, 60.0)
    assert frame_window(head, (100, 200), (48, 64), "whole") == (0.0, 0.0, pytest.approx(400 / 3), 100.0)
    assert frame_window((150.0, 0.0, 190.0, 40.0), (100, 200), (32, 32), "whole") == (100.0, 0.0, 200.0, 100.0)
    picture = np.arange(8, dtype=np.uint8)[None, :, None].repeat(8, 0).repeat(3, 2)
    np.testing.assert_array_equal(cut_window(picture, (-2, 0, 6, 8), 8, 8)[0, :, 0], [1, 0, 0, 1, 2, 3, 4, 5])
    with pytest.raises(ConfigError, match="outside"):
        cut_window(picture, (20, 0, 28, 8), 8, 8)


def test_borders_are_pure_black_on_two_sides():
    """At CogVideoX's 480 x 720 the photo between them is a square."""
    picture = np.full((600, 600, 3), 200, dtype=np.uint8)
    frame, window, start = bordered_photo(picture, (100.0, 100.0, 500.0, 500.0), 480, 720, "head")
    assert frame.shape == (480, 720, 3) and window == (100.0, 100.0, 500.0, 500.0) and start == 120 / 480
    assert (frame[:, :120] == 0).all() and (frame[:, 600:] == 0).all() and (frame[:, 120:600] == 200).all()


def test_head_window_shows_an_upright_head_as_the_template_does():
    eyes = np.array([[90, 60], [80, 60], [40, 60], [50, 60], [65, 80]], dtype=np.float32)
    left, top, right, bottom = head_window(eyes)
    side = right - left
    assert side == pytest.approx(40 / 0.27) and bottom - top == pytest.approx(side)
    assert left + 0.5 * side == pytest.approx(65.5) and top + 0.45 * side == pytest.approx(60.5)
