"""``prepare``: manifest and shards of a folder of pictures, continued and refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from diffusers import AutoencoderKLCogVideoX

from magicmirror.cli.main import main
from magicmirror.data.animation import render_clip
from magicmirror.data.dataset import LatentDataset
from magicmirror.data.manifest import read_clips, read_manifest, read_pairs
from magicmirror.data.motion import ClipSpec, MotionCue
from magicmirror.media import load_image, write_image, write_video
from magicmirror.types import GeneratedVideo
from tests.tiny_training import build_trainable


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    build_trainable().vae.save_pretrained(folder)
    return folder


@pytest.fixture
def portraits(examples, tmp_path):
    """Two portraits, a picture of two people and one of nobody."""
    folder = tmp_path / "portraits"
    folder.mkdir()
    for name in ("man_1", "woman_1", "two_people"):
        shutil.copy(examples / f"{name}.jpg", folder)
    write_image(np.full((64, 64, 3), 200, np.uint8), folder / "wall.png")
    return folder


@pytest.fixture
def prepare(portraits, vae, tmp_path, capsys):
    """``prepare("--images", 1)`` -> (status, stdout, stderr); the tokenizer is there already."""
    output = tmp_path / "prepared"
    (output / "tokenizer").mkdir(parents=True)
    small = {"--images": 2, "--clips": 1, "--views": 1, "--portraits": portraits, "--vae": vae, "--output": output}

    def run(*arguments):
        given = [str(part) for name, value in small.items() if name not in arguments for part in (name, value)]
        status = main(["prepare", *given, *map(str, arguments)])
        return (status, *capsys.readouterr())

    return run


def test_shards_of_a_folder_and_the_same_command_again(prepare, tmp_path):
    status, out, err = prepare("--source", "the family", "--licence", "all rights reserved")
    assert (status, err) == (0, "")
    kept, shard, computed = out.splitlines()
    assert kept.startswith("2 portraits kept") and "'no face': 1" in kept and "'several faces': 1" in kept
    assert (shard, computed) == ("shard 1 of 1", "1 shards computed now")
    output = tmp_path / "prepared"
    records = read_manifest(output / "manifest.jsonl")
    assert [record.path for record in records] == ["man_1.jpg", "woman_1.jpg"]
    assert {(record.source, record.licence) for record in records} == {("the family", "all rights reserved")}
    images, clips = (LatentDataset([output / "shards"], kind) for kind in ("image", "clip"))
    assert (len(images), len(clips)) == (4, 2)
    assert images[0]["latents"].shape == (1, 4, 16, 16) and clips[0]["latents"].shape == (5, 4, 16, 16)
    assert images.num_views(0) == 2 and images[0]["crop"].shape == (128, 128, 3)
    assert list((output / "tokenizer").iterdir()) == []  # one that is there is left alone

    status, out, _ = prepare()
    assert status == 0 and out.endswith("0 shards computed now\n")
    assert len(read_manifest(output / "manifest.jsonl")) == 2
    # Shards of other settings do not get mixed.
    status, _, err = prepare("--seed", 1)
    assert status == 2 and "another config" in err and err.count("\n") == 1


def test_people_and_videos(portraits, vae, examples, example_references, tmp_path, capsys):
    """Pairs and clips go the same way as portraits, into folders of their own, in the size that is asked for."""
    videos, output = tmp_path / "videos", tmp_path / "prepared"
    videos.mkdir()
    (output / "tokenizer").mkdir(parents=True)
    picture, landmarks = load_image(examples / "man_1.jpg"), example_references["man_1"].landmarks
    frames = render_clip(picture, landmarks, ClipSpec((MotionCue("nod"),)), 9, 128)
    write_video(GeneratedVideo(frames, 8, {}), videos / "male_nods.mp4")
    (videos / "male_nods.txt").write_text("A man nods.")
    arguments = ["--pairs", portraits, "--videos", videos, "--vae", vae, "--output", output, "--size", "32x48"]
    arguments += ["--frames", 5, "--views", 2, "--licence", "CC0 1.0"]
    status = main(["prepare", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    assert "2 targets of pairs kept" in out and "1 clips kept, dropped: none" in out
    assert out.endswith("2 shards computed now\n")
    assert [record.paper_set for record in read_pairs(output / "pairs.jsonl")] == ["B", "B"]
    assert [record.licence for record in read_clips(output / "clips.jsonl")] == ["CC0 1.0"]
    images, clips = LatentDataset([output / "shards-pairs"], "image"), LatentDataset([output / "shards-clips"], "clip")
    assert images[0]["latents"].shape == (1, 4, 4, 6) and clips[0]["latents"].shape == (2, 4, 4, 6)
    assert clips[0]["caption"] == "A man img nods." and clips.num_views(0) == 3
    assert not (output / "shards").exists()

    for extra, reason in ((("--size", "48x32"), "another config"), (("--frames", 6), "4 n")):
        assert main(["prepare", *map(str, (*arguments[:2], *arguments[4:], *extra))]) == 2
        assert reason in capsys.readouterr().err
    assert main(["prepare", "--vae", str(vae), "--output", str(output)]) == 2
    assert "Name --portraits, --pairs or --videos" in capsys.readouterr().err


def test_a_second_worker_needs_the_manifest_and_leaves_the_rest_to_the_first(prepare, tmp_path):
    status, out, err = prepare("--worker", 1, "--workers", 2)
    assert (status, out) == (2, "") and "no manifest" in err and err.count("\n") == 1
    assert prepare("--worker", 0, "--workers", 2)[0] == 0
    status, out, _ = prepare("--worker", 1, "--workers", 2)
    assert (status, out) == (0, "0 shards computed now\n")
    plan = json.loads((tmp_path / "prepared" / "shards" / "plan.json").read_text())
    assert (plan["num_shards"], plan["num_portraits"]) == (1, 2)


def test_bad_input_is_one_line_and_status_2(prepare, portraits, tmp_path):
    walls = tmp_path / "walls"
    walls.mkdir()
    shutil.copy(portraits / "wall.png", walls)
    for arguments, reason in (
        (("--vae", tmp_path / "nothing"), "holds no VAE"),
        (("--portraits", tmp_path / "nothing"), "There is no folder"),
        (("--worker", 2, "--workers", 2), "no manifest"),
        (("--portraits", walls), "No portrait in"),
    ):
        status, _, err = prepare(*arguments)
        assert status == 2 and reason in err and err.count("\n") == 1, err
    assert not (tmp_path / "prepared" / "shards").exists()


def test_the_encoder_is_the_given_one(prepare, tmp_path):
    """Latents of another VAE cannot be trained together with the first."""
    assert prepare()[0] == 0
    other = tmp_path / "other"
    vae = build_trainable(seed=1).vae
    vae.save_pretrained(other)
    assert AutoencoderKLCogVideoX.from_pretrained(other).config.latent_channels == 4
    status, _, err = prepare("--vae", other)
    assert status == 2 and "vae_sha256" in err
