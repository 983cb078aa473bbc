"""Shards: right values, complete or absent, and the same bytes however the work was cut up."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import magicmirror.data.precompute as precompute_module
from magicmirror.data.animation import render_clip
from magicmirror.data.embedding import BatchEmbedder
from magicmirror.data.manifest import PortraitRecord
from magicmirror.data.motion import ClipSpec, MotionCue
from magicmirror.data.precompute import (
    PLAN_FILE,
    PrecomputeConfig,
    encode_clips,
    num_shards,
    precompute,
    precompute_shard,
    shard_path,
)
from magicmirror.data.vae_hash import encoder_sha256, vae_sha256
from magicmirror.errors import ConfigError
from magicmirror.faces.alignment import align_head
from magicmirror.media import load_image

CONFIG = PrecomputeConfig(
    images_per_portrait=2,
    clips_per_portrait=1,
    views_per_portrait=2,
    portraits_per_shard=2,
    num_frames=5,
    size_px=32,
    clip_batch=2,
    bf16=False,
)


class MeanColour:
    """Embeds a crop as its mean colour: enough to see which crop was embedded."""

    def embed_aligned(self, crops):
        return crops.reshape(len(crops), -1, 3).mean(axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def records(example_references):
    return tuple(
        PortraitRecord(
            path=f"{name}.jpg",
            source="examples",
            licence="see LICENSE.md",
            person_id=name,
            group="woman" if "woman" in name else "man",
            stratum=name.split("_")[0],
            landmarks=tuple((float(x), float(y)) for x, y in reference.landmarks),
            box=(0.0, 0.0, 10.0, 10.0),
            split="train",
        )
        for name, reference in sorted(example_references.items())[:5]
    )


@pytest.fixture(scope="module")
def whole(records, examples, tiny_vae, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    assert precompute(records, examples, out, tiny_vae, MeanColour(), CONFIG) == 3
    return out


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_tensors_hold_what_the_lines_say(whole, records, examples, tiny_vae, portraits):
    tensors = load_file(shard_path(whole, 0))
    lines = [json.loads(line) for line in shard_path(whole, 0).with_suffix(".jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["image"] * 4 + ["clip"] * 2
    assert tensors["image_latents"].shape == (4, 1, 4, 4, 4) and tensors["clip_latents"].shape == (2, 2, 4, 4, 4)
    assert tensors["image_latents"].dtype == torch.float16
    assert tensors["crops"].shape == (2, 3, 32, 32, 3) and tensors["embeddings"].shape == (2, 3, 3)
    assert tensors["image_portraits"].tolist() == [0, 0, 1, 1] and tensors["clip_portraits"].tolist() == [0, 1]

    line = lines[5]
    spec = ClipSpec(tuple(MotionCue(**cue) for cue in line["motions"]), line["style"], line["caption"], line["pattern"])
    assert line["portrait"] == records[1].path and "img" in line["caption"] and spec.motions
    picture, landmarks = portraits[records[1].person_id]
    clip = render_clip(picture, landmarks, spec, 5, 32)
    pixels = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        expected = tiny_vae.encode(pixels).latent_dist.mean[0].permute(1, 0, 2, 3) * tiny_vae.config.scaling_factor
    torch.testing.assert_close(tensors["clip_latents"][1].float(), expected, atol=2e-3, rtol=2e-3)

    own = align_head(picture, landmarks, "dlib5", 32)
    np.testing.assert_array_equal(tensors["crops"][1, 0].numpy(), own)
    means = tensors["crops"].float().mean(dim=(2, 3))
    torch.testing.assert_close(tensors["embeddings"], means)
    assert not torch.equal(tensors["crops"][1, 1], tensors["crops"][1, 2])


def test_last_shard_holds_the_rest(whole):
    assert num_shards(5, CONFIG) == 3
    assert load_file(shard_path(whole, 2))["crops"].shape[0] == 1


def test_complete_shards_are_skipped(whole, records, examples, tiny_vae):
    before = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    assert precompute(records, examples, whole, tiny_vae, MeanColour(), CONFIG) == 0
    assert {path.name: path.stat().st_mtime_ns for path in whole.iterdir()} == before
    assert not precompute_shard(1, records, examples, whole, tiny_vae, MeanColour(), CONFIG)


def test_two_workers_equal_one(whole, records, examples, tiny_vae, tmp_path):
    done = []
    second = precompute(records, examples, tmp_path, tiny_vae, MeanColour(), CONFIG, 1, 2)
    first = precompute(
        records, examples, tmp_path, tiny_vae, MeanColour(), CONFIG, 0, 2, on_shard=lambda *now: done.append(now)
    )
    assert (first, second, done) == (2, 1, [(1, 2), (2, 2)])
    assert contents(tmp_path) == contents(whole)


def test_killed_process_resumes_to_the_same_bytes(whole, records, examples, tiny_vae, tmp_path, repository):
    script = tmp_path / "run.py"
    out = tmp_path / "out"
    script.write_text(
        textwrap.dedent(
            """
            import dataclasses, json, os, signal, sys
            from pathlib import Path
            import torch
            torch.set_num_threads(1)
            from diffusers import AutoencoderKLCogVideoX
            from magicmirror.data.manifest import parse_record
            from magicmirror.data.precompute import PrecomputeConfig, precompute

            root, out, vae, records, config = sys.argv[1:]
            records = [parse_record(line, "test") for line in Path(records).read_text().splitlines()]

            class Dying:
                calls = 0
                def embed_aligned(self, crops):
                    self.calls += 1
                    if self.calls == 2:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return crops.reshape(len(crops), -1, 3).mean(axis=1).astype("float32")

            vae = AutoencoderKLCogVideoX.from_pretrained(vae).eval()
            precompute(records, Path(root), Path(out), vae, Dying(), PrecomputeConfig(**json.loads(config)))
            """
        )
    )
    tiny_vae.save_pretrained(tmp_path / "vae")
    lines = tmp_path / "records.jsonl"
    lines.write_text("".join(json.dumps(dataclasses.asdict(record)) + "\n" for record in records))
    config = json.dumps(dataclasses.asdict(CONFIG))
    arguments = [sys.executable, script, examples, out, tmp_path / "vae", lines, config]
    environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([str(a) for a in arguments], env=environment, capture_output=True, check=False, timeout=280)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert shard_path(out, 0).exists() and not shard_path(out, 1).exists()
    assert precompute(records, examples, out, tiny_vae, MeanColour(), CONFIG) == 2
    assert contents(out) == contents(whole)


def test_other_settings_portraits_or_weights_are_refused(whole, records, examples, tiny_vae):
    with pytest.raises(ConfigError, match="another config"):
        precompute(records, examples, whole, tiny_vae, MeanColour(), dataclasses.replace(CONFIG, seed=1))
    with pytest.raises(ConfigError, match="num_portraits"):
        precompute(records[:4], examples, whole, tiny_vae, MeanColour(), CONFIG)
    parameter = next(tiny_vae.parameters())
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(1.0)
    try:
        with pytest.raises(ConfigError, match="another vae_sha256"):
            precompute(records, examples, whole, tiny_vae, MeanColour(), CONFIG)
    finally:
        with torch.no_grad():
            parameter.copy_(before)
    with pytest.raises(ConfigError, match="worker"):
        precompute(records, examples, whole, tiny_vae, MeanColour(), CONFIG, 2, 2)
    with pytest.raises(ConfigError, match="4 n"):
        PrecomputeConfig(num_frames=16)


def test_crops_of_the_frames_height_are_those_without_a_size_of_their_own(whole, records, examples, tiny_vae):
    """So folders of earlier versions, whose plan says nothing of crops, are gone on with."""
    same = dataclasses.replace(CONFIG, crop_px=32)
    assert precompute(records, examples, whole, tiny_vae, MeanColour(), same) == 0
    plan = json.loads((whole / PLAN_FILE).read_text())
    before = json.dumps(plan, indent=2) + "\n"
    for name in ("crop_px", "recogniser"):
        del plan["config"][name]
    del plan["vae_encoder_sha256"]
    (whole / PLAN_FILE).write_text(json.dumps(plan))
    assert precompute(records, examples, whole, tiny_vae, MeanColour(), CONFIG) == 0
    assert precompute(records, examples, whole, tiny_vae, MeanColour(), same) == 0
    for other in ({"crop_px": 48}, {"recogniser": "insightface"}):
        with pytest.raises(ConfigError, match="another config"):
            precompute(records, examples, whole, tiny_vae, MeanColour(), dataclasses.replace(CONFIG, **other))
    (whole / PLAN_FILE).write_text(before)


def test_crops_of_a_size_of_their_own_leave_the_rest_as_it_is(whole, records, examples, tiny_vae, tmp_path):
    config = dataclasses.replace(CONFIG, crop_px=48)
    precompute_shard(0, records, examples, tmp_path, tiny_vae, MeanColour(), config)
    there, here = load_file(shard_path(tmp_path, 0)), load_file(shard_path(whole, 0))
    assert there["crops"].shape == (2, 3, 48, 48, 3)
    own = align_head(load_image(examples / records[0].path), records[0].landmark_array, "dlib5", 48)
    np.testing.assert_array_equal(there["crops"][0, 0].numpy(), own)
    for name in ("image_latents", "clip_latents"):
        assert torch.equal(there[name], here[name])
    for wrong in (-1, 8):
        with pytest.raises(ConfigError, match="side of a crop"):
            dataclasses.replace(CONFIG, crop_px=wrong)


def test_the_plan_names_vae_and_encoder(whole, tiny_vae):
    plan = json.loads((whole / PLAN_FILE).read_text())
    assert plan["vae_sha256"] == vae_sha256(tiny_vae) and plan["vae_encoder_sha256"] == encoder_sha256(tiny_vae)


def test_a_damaged_plan_is_refused(records, examples, tiny_vae, tmp_path):
    (tmp_path / PLAN_FILE).write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        precompute(records, examples, tmp_path, tiny_vae, MeanColour(), CONFIG)


def test_another_seed_gives_other_samples(whole, records, examples, tiny_vae, tmp_path):
    config = dataclasses.replace(CONFIG, seed=1)
    tmp_path.joinpath("other").mkdir()
    precompute_shard(0, records, examples, tmp_path / "other", tiny_vae, MeanColour(), config)
    there, here = load_file(shard_path(tmp_path / "other", 0)), load_file(shard_path(whole, 0))
    assert torch.equal(there["crops"][:, 0], here["crops"][:, 0])
    assert not torch.equal(there["crops"][:, 1], here["crops"][:, 1])
    assert not torch.equal(there["clip_latents"], here["clip_latents"])


def test_encoding_in_bfloat16_is_close_and_left_where_it_would_be_emulated(tiny_vae, monkeypatch):
    clips = np.random.default_rng(0).integers(0, 255, (2, 5, 32, 32, 3), dtype=np.uint8)
    full = encode_clips(tiny_vae, clips, bf16=False)
    assert full.shape == (2, 2, 4, 4, 4) and full.dtype == torch.float16
    monkeypatch.setattr(precompute_module, "has_bfloat16", lambda device: True)
    half = encode_clips(tiny_vae, clips, bf16=True)
    assert 0 < (full - half).abs().mean() < 0.05 * full.float().std()
    monkeypatch.setattr(precompute_module, "has_bfloat16", lambda device: False)
    assert torch.equal(encode_clips(tiny_vae, clips, bf16=True), full)


def test_batch_embedder_agrees_with_dlib(example_references, face_analyzer):
    crops = np.stack([reference.crop for reference in example_references.values()][:3])
    expected = face_analyzer.embed_aligned(crops)
    np.testing.assert_allclose(BatchEmbedder(batch_size=2).embed_aligned(crops), expected, atol=1e-5)
    assert BatchEmbedder().embed_aligned(crops[:0]).shape == (0, 128)
