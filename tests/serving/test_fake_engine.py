"""The fake engine, and with it the worker that every engine shares."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from magicmirror.errors import ImageError, PromptError, QueueFull, ServingError
from magicmirror.media import read_settings, read_video, write_image
from magicmirror.serving.engine import Engine, events
from magicmirror.serving.fake_engine import FakeEngine, FakeJob
from magicmirror.serving.reasons import OUT_OF_MEMORY_MESSAGE


class OutOfMemoryError(RuntimeError):
    """Named as torch names it."""


def last(engine: Engine, job_id: str):
    *_, status = events(engine, job_id)
    return status


def test_a_job_runs_through_its_states_to_a_real_video(storage, request_for, closing):
    engine = closing(FakeEngine(storage, [FakeJob(steps=3)]))
    seen = list(events(engine, job_id := engine.submit(request_for(seed=7), "me")))
    assert seen[-1].state == "done" and seen[-1].result_path.is_relative_to(storage.session_folder("me"))
    versions = [status.version for status in seen]
    assert versions == sorted(set(versions))
    result = engine.result(job_id)
    frames, fps = read_video(result.video_path)
    assert frames.shape == (17, 128, 128, 3) and fps == 8
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 5
    assert read_settings(result.video_path)["seed"] == 7 == result.settings["seed"]
    assert result.settings_path.is_file() and result.mean_likeness == pytest.approx(0.95)


def test_progress_counts_every_step(storage, request_for, closing):
    engine = closing(FakeEngine(storage, [FakeJob(steps=5, step_s=0.05)]))
    seen = list(events(engine, engine.submit(request_for())))
    steps = [status.step for status in seen if status.total]
    assert steps[:4] == [1, 2, 3, 4] and set(steps[4:]) == {5}
    assert all(status.total == 5 for status in seen[-3:])
    etas = [status.eta_s for status in seen if status.stage == "denoising"]
    assert etas[0] is None and all(0 <= eta < 1 for eta in etas[1:])


def test_a_failing_job_says_why_and_the_next_one_runs(storage, request_for, closing, caplog):
    script = [
        FakeJob(error=RuntimeError("secret detail in /some/path")),
        FakeJob(error=PromptError("No person.", "Name one.")),
        FakeJob(error=MemoryError()),
        FakeJob(error=OutOfMemoryError("CUDA out of memory")),
        FakeJob(),
    ]
    engine = closing(FakeEngine(storage, script))
    ends = [last(engine, job_id) for job_id in [engine.submit(request_for(seed)) for seed in range(5)]]
    assert [end.state for end in ends] == ["failed"] * 4 + ["done"]
    assert "secret" not in ends[0].message and "/some/path" not in ends[0].message and ends[0].job_id in ends[0].message
    assert ends[1].message == "No person. Name one."
    assert ends[2].message == ends[3].message == OUT_OF_MEMORY_MESSAGE
    traces = [record for record in caplog.records if record.exc_info and "secret detail" in str(record.exc_info[1])]
    assert len(traces) == 1 and ends[0].job_id in traces[0].getMessage()
    (refused,) = [record for record in caplog.records if "No person." in record.getMessage()]
    assert ends[1].job_id in refused.getMessage() and not refused.exc_info
    assert engine.health().jobs_done == 1


def test_a_running_job_stops_within_a_step_and_frees_the_worker(storage, request_for, closing):
    engine = closing(FakeEngine(storage, [FakeJob(steps=1000, step_s=0.05)]))
    running, waiting = engine.submit(request_for(0)), engine.submit(request_for(1))
    while engine.status(running).step < 2:
        engine.wait(running, engine.status(running).version)
    asked = engine.cancel(running)
    ended = last(engine, running)
    assert ended.state == "cancelled" and ended.step <= asked.step + 1
    assert last(engine, waiting).state == "done"
    with pytest.raises(ServingError, match="cancelled"):
        engine.result(running)
    kept = sorted(path.suffix for path in storage.root.glob("*/*"))
    assert kept == [".job", ".job", ".json", ".mp4"]  # of the first job only its record


def test_a_waiting_job_is_cancelled_without_running(storage, request_for, closing):
    gate = threading.Event()
    engine = closing(FakeEngine(storage, [FakeJob(gate=gate)]))
    running, waiting = engine.submit(request_for(0)), engine.submit(request_for(1))
    assert engine.cancel(waiting).state == "cancelled"
    gate.set()
    assert last(engine, running).state == "done"
    assert engine.health().jobs_done == 1


def test_the_queue_is_bounded(storage, request_for, closing):
    gate = threading.Event()
    engine = closing(FakeEngine(storage, [FakeJob(gate=gate)], capacity=2))
    running = engine.submit(request_for())
    while engine.status(running).state == "queued":
        engine.wait(running, engine.status(running).version)
    waiting = [engine.submit(request_for(seed)) for seed in (1, 2)]
    with pytest.raises(QueueFull):
        engine.submit(request_for(3))
    health = engine.health()
    assert (health.queue_length, health.queue_capacity, health.running, health.ready) == (2, 2, True, True)
    gate.set()
    assert [last(engine, job_id).state for job_id in (running, *waiting)] == ["done"] * 3


def test_close_ends_everything_and_may_be_repeated(storage, request_for):
    engine = FakeEngine(storage, [FakeJob(steps=1000, step_s=0.05)])
    running, waiting = engine.submit(request_for(0)), engine.submit(request_for(1))
    while engine.status(running).state == "queued":
        engine.wait(running, engine.status(running).version)
    engine.close()
    engine.close()
    assert engine.status(running).state == engine.status(waiting).state == "cancelled"
    assert not engine.health().ready
    with pytest.raises(ServingError):
        engine.submit(request_for(2))


def test_faces_follow_the_shape_of_the_photo(storage, tmp_path, closing):
    engine = closing(FakeEngine(storage))
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (100, 200, 3), dtype=np.uint8)
    assert len(engine.analyze(wide)) == 2 and len(engine.analyze(wide[:, :100])) == 1
    assert engine.analyze(np.zeros((64, 64, 3), np.uint8)) == ()
    assert len(engine.analyze(write_image(wide, tmp_path / "wide.png"))) == 2
    (tmp_path / "not.png").write_text("text")
    with pytest.raises(ImageError):
        engine.analyze(tmp_path / "not.png")
