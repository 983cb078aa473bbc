"""Identity pairs: other pictures of one person, no copies, nobody else, and self-reference for single pictures."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest

from magicmirror.data.animation import reference_view
from magicmirror.data.manifest import Origin, read_pairs
from magicmirror.data.pair_import import PairRules, build_pair_manifest
from magicmirror.errors import ConfigError
from magicmirror.faces.alignment import align_head
from magicmirror.media import load_image, write_image

ORIGIN = Origin("examples", "see LICENSE.md")


@pytest.fixture(scope="module")
def people(examples, portraits, tmp_path_factory):
    """A woman with three pictures, a copy and somebody else's; a man with one; one with a caption; nobody's folder."""
    root = tmp_path_factory.mktemp("people")
    for name in ("female_ann", "male_bob", "empty"):
        (root / name).mkdir()
    shutil.copy(examples / "woman_1.jpg", root / "female_ann" / "a.jpg")
    picture = load_image(examples / "woman_1.jpg")
    light = np.clip(picture.astype(np.float32) * 0.9 + 8, 0, 255).astype(np.uint8)
    write_image(cv2.resize(light, (240, 240), interpolation=cv2.INTER_AREA), root / "female_ann" / "b_copy.jpg")
    rng = np.random.default_rng(3)
    for name in ("c", "d"):
        write_image(reference_view(*portraits["woman_1"], rng, 256), root / "female_ann" / f"{name}.png")
    shutil.copy(examples / "man_1.jpg", root / "female_ann" / "e_brother.jpg")
    shutil.copy(examples / "man_2.jpg", root / "male_bob" / "only.jpg")
    shutil.copy(examples / "two_people.jpg", root / "male_bob" / "friends.jpg")
    shutil.copy(examples / "older_man_1.jpg", root / "carl.jpg")
    root.joinpath("carl.txt").write_text("An old man\nsits by a window.")
    (root / "empty" / "broken.jpg").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def whole(people, tmp_path_factory, tools):
    out = tmp_path_factory.mktemp("whole") / "pairs.jsonl"
    return out, build_pair_manifest(people, *tools, out, ORIGIN)


def test_pairs_are_other_pictures_of_the_same_person(whole, people, tools):
    records = {record.path: record for record in read_pairs(whole[0])}
    assert list(records) == [
        "carl.jpg",
        "female_ann/a.jpg",
        "female_ann/c.png",
        "female_ann/d.png",
        "male_bob/only.jpg",
    ]
    # What the recogniser says of the files themselves, in the order of the names that follow.
    names = ("a.jpg", "c.png", "d.png")
    crops = []
    for name in names:
        picture = load_image(people / "female_ann" / name)
        crops.append(align_head(picture, tools[0].find(picture)[0].landmarks, "dlib5", 128))
    embeddings = tools[1].embed_aligned(np.stack(crops))
    for number, name in enumerate(names):
        order = [(number + step) % 3 for step in (1, 2)]
        distances = {names[other]: np.linalg.norm(embeddings[number] - embeddings[other]) for other in order}
        expected = {f"female_ann/{other}": far for other, far in distances.items() if far <= 0.45}
        record = records[f"female_ann/{name}"]
        assert {reference.path: reference.distance for reference in record.references} == pytest.approx(
            expected, abs=1e-3
        )
        assert [reference.path for reference in record.references] == list(expected)
        assert all(0.05 < reference.distance <= 0.45 for reference in record.references)
        assert (record.paper_set, record.group, record.stratum) == ("C", "woman", "female")
        assert record.caption == "A photo of a woman img."
    assert len(records["female_ann/a.jpg"].references) == 2
    assert len({records[f"female_ann/{name}"].split for name in ("a.jpg", "c.png", "d.png")}) == 1


def test_dropped_pictures_are_counted_by_reason(whole):
    assert whole[1].kept == 5
    assert whole[1].dropped == {"near-duplicate": 1, "not the same person": 1, "several faces": 1, "unreadable": 1}
    log = [json.loads(line) for line in whole[0].with_name("pairs.jsonl.log").read_text().splitlines()]
    ann = next(line["result"] for line in log[1:] if line["name"] == "female_ann")
    assert ann["dropped"] == {
        "female_ann/b_copy.jpg": "near-duplicate",
        "female_ann/e_brother.jpg": "not the same person",
    }


def test_single_pictures_are_their_own_reference(whole):
    records = {record.path: record for record in read_pairs(whole[0])}
    bob, carl = records["male_bob/only.jpg"], records["carl.jpg"]
    assert (bob.paper_set, bob.references) == ("B", ())
    assert bob.caption == "A squared ID photo of a man img, with pure black on two sides."
    assert (carl.paper_set, carl.references) == ("A", ())
    assert carl.caption == "An old man img sits by a window."
    assert (bob.source, bob.licence) == ("examples", "see LICENSE.md")


def test_threshold_and_number_of_references_are_the_given_ones(people, whole, tmp_path, tools):
    pairs = read_pairs(whole[0])
    distances = sorted({r.distance for record in pairs for r in record.references})
    rules = PairRules(max_distance=distances[0] + 1e-4, max_references=1)
    report = build_pair_manifest(people, *tools, tmp_path / "p.jsonl", ORIGIN, rules)
    kept = [record for record in read_pairs(tmp_path / "p.jsonl") if record.paper_set == "C"]
    assert len(kept) == 2 and report.dropped["not the same person"] == 2
    assert {reference.distance for record in kept for reference in record.references} == {distances[0]}
    with pytest.raises(ConfigError, match="begun with another rules"):
        build_pair_manifest(people, *tools, tmp_path / "p.jsonl", ORIGIN)
    with pytest.raises(ConfigError, match="out of range"):
        PairRules(max_distance=0.0)


def test_killed_importer_resumes_to_the_same_bytes(people, whole, tmp_path, repository, tools):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys
            from pathlib import Path
            from magicmirror.data.embedding import BatchEmbedder
            from magicmirror.data.manifest import Origin
            from magicmirror.data.pair_import import build_pair_manifest
            from magicmirror.faces.dlib_search import DlibFaceSearch

            def dying(done, of):
                if done == 3:
                    with open(sys.argv[2] + ".log", "a") as log:
                        log.write('{"name": "male_b')
                    os.kill(os.getpid(), signal.SIGKILL)

            build_pair_manifest(Path(sys.argv[1]), DlibFaceSearch(), BatchEmbedder(), Path(sys.argv[2]),
                                Origin("examples", "see LICENSE.md"), on_person=dying)
            """
        )
    )
    out = tmp_path / "pairs.jsonl"
    environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, str(script), str(people), str(out)]
    killed = subprocess.run(arguments, env=environment, capture_output=True, check=False, timeout=200)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not out.exists()
    assert build_pair_manifest(people, *tools, out, ORIGIN) == whole[1]
    assert out.read_bytes() == whole[0].read_bytes()
    log = out.with_name("pairs.jsonl.log")
    assert log.read_bytes() == whole[0].with_name("pairs.jsonl.log").read_bytes()


def test_wrong_captions_file_is_refused_with_its_line(people, tmp_path, tools):
    root = tmp_path / "copy"
    shutil.copytree(people / "male_bob", root / "male_bob")
    (root / "captions.jsonl").write_text('{"path": "male_bob/only.jpg", "caption": "A man."}\n{"path": "x"}\n')
    with pytest.raises(ConfigError, match=r'captions.jsonl, line 2: .*Write \{"path"'):
        build_pair_manifest(root, *tools, tmp_path / "p.jsonl", ORIGIN)
    line = {"path": "male_bob/only.jpg", "caption": "A tree.", "licence": "CC0 1.0", "source": "Jo"}
    (root / "captions.jsonl").write_text(json.dumps(line) + "\n")
    report = build_pair_manifest(root, *tools, tmp_path / "p.jsonl", ORIGIN)
    assert (report.kept, report.dropped) == (0, {"caption names no person": 1, "several faces": 1})
    (root / "captions.jsonl").write_text(json.dumps(line | {"caption": "A chef smiles."}) + "\n")
    build_pair_manifest(root, *tools, tmp_path / "q.jsonl", ORIGIN)
    (record,) = read_pairs(tmp_path / "q.jsonl")
    assert (record.caption, record.source, record.licence) == ("A chef img smiles.", "Jo", "CC0 1.0")
