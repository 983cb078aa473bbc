"""Two processes that share a run do what one does with the same batch, and only the first writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from magicmirror.training.checkpoint import checkpoints
from tests.training.shared_run import STEPS, make_trainer


@pytest.fixture(scope="module")
def shared(repository, shards, tmp_path_factory):
    """Folder of a run of two processes over gloo."""
    folder = tmp_path_factory.mktemp("processes")
    script = Path(__file__).with_name("shared_run.py")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(script), str(folder), str(shards)],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def reports(shared):
    return [json.loads((shared / f"report-{index}.json").read_text()) for index in range(2)]


def test_two_processes_equal_one(shared, reports, shards, tmp_path):
    alone = make_trainer(tmp_path, shards)
    rows = []
    alone.trained.register_forward_pre_hook(lambda module, arguments: rows.append(len(arguments[0]["latents"])))
    losses = [alone.train_step() for _ in range(STEPS)]
    alone.save()
    assert reports[0]["losses"] == reports[1]["losses"] and reports[0]["rows"] == reports[1]["rows"]
    assert rows == [2 * half for half in reports[0]["rows"]]
    assert {2, 4} == set(rows)  # clips and stills
    for ours, expected in zip(reports[0]["losses"], losses, strict=True):
        assert ours == pytest.approx(expected, abs=1e-6)
    newest = [checkpoints(folder / "checkpoints")[-1] for folder in (shared / "shared", tmp_path)]
    for name in ("model", "average"):
        one, two = (load_file(path / f"{name}.safetensors") for path in newest)
        assert one.keys() == two.keys() and len(one) > 100
        assert max((one[key] - two[key]).abs().max().item() for key in one) < 1e-9


def test_only_the_first_process_writes(shared, reports):
    assert [path.name for path in checkpoints(shared / "shared" / "checkpoints")] == [f"step-{STEPS:08d}"]
    assert not (shared / "shared" / "curves").exists()  # train_step alone draws no curves
    assert [report["resumed"] for report in reports] == [STEPS, STEPS]


def test_the_wall_time_ends_both_at_one_step(shared, reports):
    assert [report["short"] for report in reports] == [0, 0]
    assert [path.name for path in checkpoints(shared / "short" / "checkpoints")] == ["step-00000000"]
    assert len(list((shared / "short" / "curves").iterdir())) == 1


def test_a_number_that_is_none_stops_both_and_its_batch_is_saved(shared, reports):
    first, second = (report["diverged"] for report in reports)
    assert "step 2 is not finite" in first and "another process" in first
    assert "diverged-step-2-process-1.pt" in second
    assert os.listdir(shared / "diverged") == ["diverged-step-2-process-1.pt"]
