"""PhotoMaker-V2's encoder: what was converted is read only as it was written, and a wrong file is said to be wrong."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from magicmirror.errors import WeightsError
from magicmirror.pipeline.identity_encoder import load_identity_encoder
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from tests.own_disk import run_on_a_disk_of_its_own
from tests.tiny_published import TINY, publish, same_weights


@pytest.fixture
def published(fresh_pipeline, tmp_path):
    return publish(tmp_path, fresh_pipeline)


def load(base, encoder, adapter, **changes):
    return MagicMirrorPipeline.from_pretrained(base, adapter=adapter, identity_encoder=encoder, preset=TINY, **changes)


def test_a_converted_encoder_that_changed_is_made_anew(published, fresh_pipeline, tmp_path, caplog):
    base, encoder, adapter = published
    load(base, encoder, adapter, cache_dir=tmp_path)
    (kept,) = (tmp_path / "magicmirror").glob("*.safetensors")
    whole = kept.read_bytes()
    tensors = load_file(kept)
    tensors.pop(sorted(tensors)[0])
    flipped = whole[:-1] + bytes([whole[-1] ^ 0x40])
    for content in (flipped, save(tensors)):
        kept.write_bytes(content)
        caplog.clear()
        assert same_weights(load(base, encoder, adapter, cache_dir=tmp_path), fresh_pipeline)
        assert kept.read_bytes() != content and "its SHA-256 is another" in caplog.text
    caplog.clear()
    kept.with_suffix(".sha256").unlink()
    assert same_weights(load(base, encoder, adapter, cache_dir=tmp_path), fresh_pipeline)
    assert kept.with_suffix(".sha256").is_file() and "is not known" in caplog.text


def test_a_cache_that_one_may_not_enter_is_none(published, fresh_pipeline, tmp_path, monkeypatch):
    """By hand: the superuser may enter any folder."""
    is_file = Path.is_file

    def refusing(path):
        if "photomaker-v2-id-encoder" in path.name:
            raise PermissionError(13, "Permission denied")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refusing)
    assert same_weights(load(*published, cache_dir=tmp_path), fresh_pipeline)


FULL_DISK = """
import json, os, sys
from pathlib import Path
from magicmirror.pipeline.identity_encoder import load_identity_encoder
from tests.media.refused_writer import fill_disk
from tests.tiny_published import TINY
disk, encoder, reports = Path(sys.argv[1]), Path(sys.argv[2]), []
for room in map(int, sys.argv[3:]):
    fill_disk(disk / "filler", room)
    tower, perceiver = load_identity_encoder(encoder, TINY, disk / "magicmirror")
    left = sorted(os.listdir(disk / "magicmirror")) if (disk / "magicmirror").is_dir() else []
    total = float(sum(value.double().sum() for value in perceiver.state_dict().values()))
    reports.append({"left": left, "sum": total})
    (disk / "filler").unlink()
print(json.dumps(reports))
"""


def test_a_disk_that_fills_up_during_the_conversion_costs_the_cache_alone(published, tmp_path, repository):
    """On a file system of its own; the converted file takes 80 KB."""
    (tmp_path / "disk").mkdir()
    encoder, disk = published[1] / "photomaker-v2.bin", tmp_path / "disk"
    done = run_on_a_disk_of_its_own(disk, "1m", repository, "-c", FULL_DISK, disk, encoder, 0, 4096, 24576)
    assert done.returncode == 0, done.stderr
    expected = load_identity_encoder(encoder, TINY)[1].state_dict().values()
    report = {"left": [], "sum": float(sum(value.double().sum() for value in expected))}
    assert json.loads(done.stdout) == [report] * 3
    assert done.stderr.count("cannot be kept (") == 3 and "Traceback" not in done.stderr


def _with_code(path):
    torch.save({"id_encoder": Path("/x")}, path)


def _changed(change):
    def make(path):
        content = torch.load(path)
        change(content["id_encoder"])
        torch.save(content, path)

    return make


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_text("<html>" * 50), "it is damaged, or another kind of file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-500]), "it is damaged, or another kind of file"),
        (lambda path: torch.save([1], path), "it is damaged, or another kind of file"),
        (lambda path: path.write_bytes(b""), "it is empty"),
        (_with_code, "it holds more than tensors, and none of that is run"),
        (Path.unlink, "No such file or directory"),
        (
            _changed(lambda state: state.pop(next(name for name in state if name.startswith("qformer")))),
            r"1 missing \(as ",
        ),
        (_changed(lambda state: state.update({"qformer_perceiver.z": torch.zeros(1)})), r"1 unknown \(as z\)"),
    ],
)
@pytest.mark.parametrize("cached", [True, False])
def test_an_encoder_that_is_none_is_refused_in_our_own_words(published, tmp_path, damage, reason, cached):
    path = tmp_path / "photomaker-v2.bin"
    shutil.copy(published[1] / path.name, path)
    damage(path)
    with pytest.raises(WeightsError, match=reason) as refused:
        load_identity_encoder(path, TINY, tmp_path / "cache" if cached else None)
    text = str(refused.value)
    assert str(path) in text and 'of "TencentARC/PhotoMaker-V2"; copy' in text
    assert "weights_only" not in text and "\n" not in text and "\x1b" not in text
