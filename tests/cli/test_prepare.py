"""``prepare``: manifest and shards of a folder of pictures, continued and refused."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from diffusers import AutoencoderKLCogVideoX

from magicmirror.cli.main import main
from magicmirror.cli.prepare import _config, add_arguments
from magicmirror.data.animation import render_clip
from magicmirror.data.dataset import LatentDataset
from magicmirror.data.manifest import read_clips, read_manifest, read_pairs
from magicmirror.data.motion import ClipSpec, MotionCue
from magicmirror.errors import WeightsError
from magicmirror.faces.analyzer import create_face_analyzer
from magicmirror.media import load_image, write_image, write_video
from magicmirror.training.build import build_trainer
from magicmirror.training.recipes import Recipe
from magicmirror.types import GeneratedVideo
from tests.faces.insightface_pack import write_pack
from tests.tiny_pipeline import build_pipeline
from tests.tiny_training import build_trainable, make_config


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


def test_clips_at_the_frame_rate_of_the_model(vae, examples, example_references, tmp_path, capsys):
    """CogVideoX 1.5 shows 16 frames a second; a video that has fewer would repeat its own."""
    videos, output = tmp_path / "videos", tmp_path / "prepared"
    videos.mkdir()
    (output / "tokenizer").mkdir(parents=True)
    picture, landmarks = load_image(examples / "man_1.jpg"), example_references["man_1"].landmarks
    frames = render_clip(picture, landmarks, ClipSpec((MotionCue("nod"),)), 13, 128)
    for name, fps in (("male_fast", 16), ("male_slow", 8)):
        write_video(GeneratedVideo(frames, fps, {}), videos / f"{name}.mp4")
        (videos / f"{name}.txt").write_text("A man nods.")
    arguments = ["--videos", videos, "--vae", vae, "--output", output, "--size", "32", "--frames", 9, "--views", 2]
    assert main(["prepare", *map(str, (*arguments, "--fps", 16))]) == 0
    assert "1 clips kept, dropped: {'slow frame rate': 1}" in capsys.readouterr().out
    line = json.loads((output / "shards-clips" / "shard-00000.jsonl").read_text())
    assert line["portrait"] == "male_fast.mp4" and line["start_frame"] + 9 <= 13
    assert len(line["eyes"]) == 9  # one frame of the video after the other, each with its face
    assert LatentDataset([output / "shards-clips"], "clip")[0]["face_area"].shape == (3, 4, 4)
    assert main(["prepare", *map(str, (*arguments, "--fps", 0))]) == 2
    assert "fps must be positive" in capsys.readouterr().err


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


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """insightface's root folder with a small pack, where the analyzer looks for it."""
    write_pack(tmp_path / "packs" / "models" / "buffalo_l")
    monkeypatch.setenv("MAGICMIRROR_FACE_PACKS", str(tmp_path / "packs"))


@pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning")
@pytest.mark.usefixtures("pack")
def test_shards_for_the_full_model_can_be_trained_on(portraits, vae, tmp_path, capsys):
    """Frames that are no squares, crops as CLIP takes them, embeddings of ArcFace: networks of that size learn."""
    output = tmp_path / "prepared"
    (output / "tokenizer").mkdir(parents=True)
    arguments = ["prepare", "--pairs", portraits, "--vae", vae, "--output", output, "--size", "144x160"]
    arguments += ["--framing", "whole", "--views", 1, "--recogniser", "insightface"]
    assert main([*map(str, arguments)]) == 0, capsys.readouterr().err
    shards = output / "shards-pairs"
    (row,) = {(*row["latents"].shape, *row["crop"].shape, *row["embedding"].shape) for row in _rows(shards)}
    assert row == (1, 4, 18, 20, 224, 224, 3, 512)
    plan = json.loads((shards / "plan.json").read_text())
    assert (plan["config"]["crop_px"], plan["config"]["recogniser"]) == (224, "insightface")
    for row in _rows(shards):
        expected = create_face_analyzer("insightface").embed_aligned(row["crop"].numpy()[None])[0]
        np.testing.assert_array_equal(row["embedding"].numpy(), expected)

    recipe = Recipe(make_config(clip_share=0.0, image_batch=2), ("adapter", "face_perceiver"), "one step")
    pipeline = build_pipeline(image_size=224, embedding_size=512, max_text_seq_length=96)
    pipeline.register_modules(vae=AutoencoderKLCogVideoX.from_pretrained(vae))
    assert build_trainer(recipe, [shards], pipeline, tmp_path / "run").train_step()["loss"] > 0
    capsys.readouterr()

    # The paper's identity term, by the pack that made the embeddings: every face where its eyes are in the whole photo.
    changes = {"identity_loss": 0.1, "identity_loss_below": 1000, "gradient_checkpointing": True, "drop_all": 0.0}
    likeness = replace(recipe, config=replace(recipe.config, drop_identity=0.0, **changes))
    trainer = build_trainer(likeness, [shards], pipeline, tmp_path / "likeness")
    losses = trainer.train_step()
    assert 0 < losses["identity"] < 2 and pipeline.vae.decoder.gradient_checkpointing
    assert trainer.trained._terms[0].centre is None

    for extra in (("--crop", 128), ("--recogniser", "dlib")):
        assert main([*map(str, (*arguments, *extra))]) == 2
        assert "another config" in capsys.readouterr().err

    (tmp_path / "packs" / "models" / "buffalo_l" / "w600k_r50.onnx").unlink()
    with pytest.raises(WeightsError, match=r"is incomplete: w600k_r50\.onnx missing"):
        build_trainer(likeness, [shards], pipeline, tmp_path / "likeness")


def _rows(folder):
    data = LatentDataset([folder], "image")
    return [data[index] for index in range(len(data))]


def test_a_recogniser_that_cannot_be_used_is_found_before_anything_is_read(prepare, tmp_path, monkeypatch):
    (tmp_path / "packs" / "models" / "buffalo_l").mkdir(parents=True)
    (tmp_path / "packs" / "models" / "buffalo_l" / "det_10g.onnx").write_bytes(b"damaged")
    monkeypatch.setenv("MAGICMIRROR_FACE_PACKS", str(tmp_path / "packs"))
    status, out, err = prepare("--recogniser", "insightface")
    assert status == 1 and out == "" and err.count("\n") == 1 and "buffalo_l" in err
    assert not (tmp_path / "prepared" / "manifest.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "side"),
    [((), 128), (("--size", "96"), 96), (("--size", "480x720"), 224), (("--size", "256", "--crop", "128"), 128)],
)
def test_crops_are_as_the_models_take_them(arguments, side):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert _config(parser.parse_args(["--vae", "vae", "--output", "out", *arguments])).crop_side_px == side
