"""Log lines and curves."""

import logging
import re
import sys

import pytest

from magicmirror.training.progress import Progress


def test_a_line_has_means_speed_share_of_data_and_time_to_go(caplog):
    progress = Progress(max_steps=1000, log_steps=2)
    progress.add({"loss": 1.0, "identity": 4.0}, samples=6, waited_s=0.5)
    progress.add({"loss": 3.0}, samples=2, waited_s=0.5)
    progress.pause(-2.0)  # as if both had taken two seconds
    assert not progress.due(3) and progress.due(4)
    with caplog.at_level(logging.INFO, "magicmirror"):
        progress.report(100, 1e-3)
    line = caplog.messages[0]
    found = re.fullmatch(
        r"step 100 of 1000: identity 4\.0000 loss 2\.0000 \| rate 1\.00e-03, ([\d.]+) steps/s, ([\d.]+) samples/s, "
        r"data (\d+) %, ([\d.]+) h to go",
        line,
    )
    assert found, line
    assert float(found[1]) == pytest.approx(1.0, abs=0.03) and float(found[2]) == pytest.approx(4.0, abs=0.1)
    assert float(found[3]) == pytest.approx(50, abs=2) and float(found[4]) == pytest.approx(900 / 3600, abs=0.06)
    assert progress.means == {"loss": 2.0, "identity": 4.0}  # until something comes after the line
    progress.add({"loss": 9.0}, 1, 0.0)
    assert progress.means == {"loss": 9.0}


def test_curves_can_be_read_back(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    progress = Progress(10, 1, tmp_path / "curves")
    for step in (1, 2):
        progress.add({"loss": 1.0 / step}, 4, 0.0)
        progress.report(step, 0.5)
    progress.close()
    seen = EventAccumulator(str(tmp_path / "curves")).Reload()
    assert [(point.step, point.value) for point in seen.Scalars("loss/loss")] == [(1, 1.0), (2, 0.5)]
    assert {"learning_rate", "speed/samples_per_s", "speed/data_share"} <= set(seen.Tags()["scalars"])


def test_other_processes_say_and_write_nothing(tmp_path, caplog):
    progress = Progress(10, 1, tmp_path / "curves", silent=True)
    progress.add({"loss": 1.0}, 1, 0.0)
    with caplog.at_level(logging.INFO, "magicmirror"):
        progress.report(1, 0.5)
    assert caplog.messages == [] and not (tmp_path / "curves").exists()


def test_without_tensorboard_the_run_goes_on_and_says_so(tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    progress = Progress(10, 1, tmp_path / "curves")
    assert "pip install tensorboard" in caplog.text
    progress.add({"loss": 1.0}, 1, 0.0)
    progress.report(1, 0.5)
    progress.close()
    assert not (tmp_path / "curves").exists()
