"""Real clips from a folder of videos: cuts at the right frame, one moving face, no copies, damage skipped, resumed."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from magicmirror.data.animation import render_clip
from magicmirror.data.clip_selection import ClipRules
from magicmirror.data.manifest import Origin, read_clips
from magicmirror.data.motion import ClipSpec, MotionCue
from magicmirror.data.shots import CutDetector
from magicmirror.data.video_import import build_clip_manifest, drop_duplicates
from magicmirror.errors import ConfigError
from magicmirror.media import write_video
from magicmirror.types import GeneratedVideo

ORIGIN = Origin("examples", "see LICENSE.md")
RULES = ClipRules(min_s=1.0, looks_per_s=8.0, max_faces=4)
CUT = 13
FPS = 8


def animated(portraits, name, motion, frames, size=128):
    picture, landmarks = portraits[name]
    spec = ClipSpec((MotionCue(motion),)) if motion else ClipSpec(())
    return render_clip(picture, landmarks, spec, frames, size)


@pytest.fixture(scope="module")
def videos(portraits, tmp_path_factory):
    """Two shots joined, a copy of it, a still, one without caption, a damaged one, an empty wall, two faces at once."""
    root = tmp_path_factory.mktemp("videos")
    (root / "park").mkdir()

    def write(name, frames, caption):
        write_video(GeneratedVideo(frames, FPS, {}), root / f"{name}.mp4")
        (root / f"{name}.json").unlink()
        if caption:
            (root / f"{name}.txt").write_text(caption)

    man, woman = animated(portraits, "man_1", "shake", CUT), animated(portraits, "woman_1", "nod", 12)
    joined = np.concatenate([man, woman])
    write("a_joined", joined, "A person moves the head.")
    darker = (joined[:CUT].astype(np.float32) * 0.9).astype(np.uint8)
    write("b_copy", darker, "A man\nshakes his head.")
    write("park/female_still", animated(portraits, "woman_2", "", 1).repeat(12, axis=0), "A woman keeps still.")
    write("park/uncaptioned", man, "")
    write("park/tree", woman, "A tree.")
    write("park/wall", np.full((12, 128, 128, 3), 120, np.uint8), "A man hides.")
    write("park/two", np.concatenate([man, animated(portraits, "woman_1", "nod", CUT)], axis=2), "A man and a woman.")
    data = (root / "a_joined.mp4").read_bytes()
    (root / "park" / "z_damaged.mp4").write_bytes(data[: len(data) // 2])
    (root / "park" / "z_damaged.txt").write_text("A man.")
    return root


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory, tools):
    out = tmp_path_factory.mktemp("whole") / "clips.jsonl"
    return out, build_clip_manifest(videos, *tools, out, ORIGIN, RULES)


def test_cut_is_found_at_its_frame(portraits):
    shots = (("man_1", "shake"), ("woman_1", "nod"), ("man_2", "shake"))
    parts = [animated(portraits, name, motion, CUT) for name, motion in shots]
    cuts = CutDetector()
    assert [n for n, frame in enumerate(np.concatenate(parts)) if cuts.begins_shot(frame)] == [0, CUT, 2 * CUT]
    # A pan that begins slowly changes more in the end than many a cut does, and is none.
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    cuts = CutDetector()
    pan = [np.roll(picture, place, axis=1) for place in (0, 1, 2, 4, 6, 9, 12, 16, 20, 25, 30, 36, 42)]
    changes = [float(np.abs(b.astype(int) - a).mean()) / 255 for a, b in itertools.pairwise(pan)]
    assert max(changes) > 0.15
    assert [cuts.begins_shot(frame) for frame in pan] == [True] + [False] * 12


def test_shots_become_clips_of_one_person(whole):
    first, second = read_clips(whole[0])
    assert (first.path, first.start_frame, first.end_frame) == ("a_joined.mp4", 0, CUT)
    assert (second.path, second.start_frame, second.end_frame) == ("a_joined.mp4", CUT, 25)
    for clip in (first, second):
        assert clip.caption == "A person img moves the head." and clip.fps == FPS and clip.split == first.split
        assert len(clip.faces) == 4 and clip.faces[0].frame == clip.start_frame
        assert clip.box[2] - clip.box[0] == pytest.approx(clip.box[3] - clip.box[1], abs=0.02)
        # Frame 0 of an animation is framed by the head template: the window is about the whole frame.
        assert 115 < clip.box[2] - clip.box[0] < 150 and abs((clip.box[0] + clip.box[2]) / 2 - 64) < 8
    assert first.motion > second.motion > RULES.min_motion
    assert first.person_id != second.person_id


def test_everything_else_is_dropped_with_its_reason(whole):
    report = whole[1]
    assert report.kept == 2
    assert report.dropped == {
        "caption names no person": 1,
        "near-duplicate": 1,
        "no caption": 1,
        "no face": 1,
        "no motion": 1,
        "several faces": 1,
        "unreadable": 1,
    }
    log = [json.loads(line) for line in whole[0].with_name("clips.jsonl.log").read_text().splitlines()]
    results = {line["name"]: line["result"] for line in log[1:]}
    assert results["park/female_still.mp4"]["dropped"] == {"no motion": 1}
    assert results["park/two.mp4"]["dropped"] == {"several faces": 1}
    assert "z_damaged.mp4" in results["park/z_damaged.mp4"]["error"]


def test_rules_decide(videos, portraits, tmp_path, tools):
    root = tmp_path / "one"
    root.mkdir()
    for name in ("a_joined.mp4", "a_joined.txt"):
        shutil.copy(videos / name, root)
    for rules, reason in (
        (ClipRules(min_s=3.0), "too short"),
        (ClipRules(min_s=1.0, min_eye_distance_px=60.0), "face too small"),
        (ClipRules(min_s=1.0, max_motion=0.05), "too much motion"),
        (ClipRules(min_s=1.0, min_fps=12.0), "slow frame rate"),
    ):
        out = tmp_path / f"{reason}.jsonl"
        report = build_clip_manifest(root, *tools, out, ORIGIN, rules)
        assert (report.kept, set(report.dropped)) == (0, {reason})
        assert read_clips(out) == ()
    with pytest.raises(ConfigError, match="begun with another rules"):
        build_clip_manifest(root, *tools, out, ORIGIN, RULES)
    with pytest.raises(ConfigError, match="leave no clip"):
        ClipRules(min_s=5.0, max_s=2.0)


def test_only_almost_equal_clips_are_duplicates(whole):
    first, second = read_clips(whole[0])
    assert drop_duplicates([first, second, first]) == [first, second]


def test_killed_importer_resumes_to_the_same_bytes(videos, whole, tmp_path, repository, tools):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys
            from pathlib import Path
            from magicmirror.data.clip_selection import ClipRules
            from magicmirror.data.embedding import BatchEmbedder
            from magicmirror.data.manifest import Origin
            from magicmirror.data.video_import import build_clip_manifest
            from magicmirror.faces.dlib_search import DlibFaceSearch

            def dying(done, of):
                if done == 1:
                    with open(sys.argv[2] + ".log", "a") as log:
                        log.write('{"name": "b_co')
                    os.kill(os.getpid(), signal.SIGKILL)

            rules = ClipRules(min_s=1.0, looks_per_s=8.0, max_faces=4)
            build_clip_manifest(Path(sys.argv[1]), DlibFaceSearch(), BatchEmbedder(), Path(sys.argv[2]),
                                Origin("examples", "see LICENSE.md"), rules, on_video=dying)
            """
        )
    )
    out = tmp_path / "clips.jsonl"
    environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, str(script), str(videos), str(out)]
    killed = subprocess.run(arguments, env=environment, capture_output=True, check=False, timeout=200)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not out.exists()
    assert build_clip_manifest(videos, *tools, out, ORIGIN, RULES) == whole[1]
    for name in ("clips.jsonl", "clips.jsonl.log"):
        assert out.with_name(name).read_bytes() == whole[0].with_name(name).read_bytes()
