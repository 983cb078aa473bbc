"""What outlives a page and a process: records, results of one visitor, shutdown, and the end of a killed process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from magicmirror.errors import ConfigError, JobNotFound, PromptError
from magicmirror.serving.engine import events
from magicmirror.serving.fake_engine import FakeEngine, FakeJob
from magicmirror.serving.journal import GONE_MESSAGE, INTERRUPTED_MESSAGE
from magicmirror.serving.mark import PROVENANCE, draw_mark
from magicmirror.serving.orders import compare_order, film_order, takes_order
from magicmirror.serving.queued_engine import Policy
from magicmirror.serving.storage import ResultStorage


def end(engine, job_id):
    *_, status = events(engine, job_id)
    return status


def test_history_is_of_one_session_newest_first(storage, request_for, closing):
    engine = closing(FakeEngine(storage))
    jobs = [engine.submit(request_for(seed), "ann") for seed in range(2)]
    end(engine, engine.submit(request_for(), "bob"))
    assert [entry.status.job_id for entry in engine.history("ann")] == jobs[::-1]
    assert [entry.result.settings["seed"] for entry in engine.history("ann")] == [1, 0]
    assert engine.history("nobody") == ()
    with pytest.raises(JobNotFound):
        engine.recover("bob", jobs[0])
    for strange in ("", "../x", "a\0b", "*", "x" * 5000):
        with pytest.raises(JobNotFound):
            engine.recover("ann", strange)


def test_a_waiting_and_a_running_job_are_in_the_history(storage, request_for, closing):
    gate = threading.Event()
    engine = closing(FakeEngine(storage, [FakeJob(gate=gate)]))
    first, second = engine.submit(request_for(), "ann"), engine.submit(request_for(), "ann")
    while engine.status(first).state != "running":
        time.sleep(0.01)
    assert [entry.status.state for entry in engine.history("ann")] == ["queued", "running"]
    gate.set()
    end(engine, second)


def test_results_are_found_by_the_next_process_with_all_their_figures(storage, request_for, closing):
    engine = closing(FakeEngine(storage, [FakeJob(likeness=0.91), FakeJob(likeness=0.96), FakeJob(likeness=None)]))
    job_id = engine.submit(takes_order(request_for(), 3), "ann")
    end(engine, job_id)
    before = engine.result(job_id)
    engine.close()
    later = closing(FakeEngine(ResultStorage(storage.root)))
    after = later.recover("ann", job_id).result
    assert after == before and after.ranking[0] == 1 and after.takes[2].likeness == (None,) * 17
    before.takes[0].video_path.unlink()
    gone = later.recover("ann", job_id)
    assert gone.result is None and gone.status.message == GONE_MESSAGE


def test_a_damaged_record_is_left_out(storage, request_for, closing):
    engine = closing(FakeEngine(storage))
    job_id = engine.submit(request_for(), "ann")
    end(engine, job_id)
    for number, content in enumerate(("", "[]", "{}", '{"job_id": 3}')):
        storage.record_path("ann", f"damaged{number}").write_text(content)
    assert [entry.status.job_id for entry in engine.history("ann")] == [job_id]
    FakeEngine(ResultStorage(storage.root)).close()


def test_forget_stops_and_removes_what_belongs_to_the_session(storage, request_for, closing):
    engine = closing(FakeEngine(storage, [FakeJob(), FakeJob(steps=1000, step_s=0.05)]))
    done, running = engine.submit(request_for(), "ann"), engine.submit(request_for(), "ann")
    other = engine.submit(request_for(), "bob")
    end(engine, done)
    while engine.status(running).step < 1:
        time.sleep(0.01)
    engine.forget("bob", done)
    assert engine.recover("ann", done).result is not None
    engine.forget("ann")
    assert end(engine, running).state == "cancelled" and end(engine, other).state == "done"
    assert engine.history("ann") == () and len(engine.history("bob")) == 1


class Writing:
    """Holds a job where its file is about to be written."""

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, frames):
        self.begun.set()
        assert self.go_on.wait(30)
        return frames


@pytest.mark.parametrize("takes", [1, 2])
def test_forget_leaves_nothing_of_a_job_that_is_just_being_written(storage, request_for, closing, takes):
    writing = Writing()
    engine = closing(FakeEngine(storage, draw_mark=writing))
    job_id = engine.submit(takes_order(request_for(), takes), "ann")
    assert writing.begun.wait(30)
    engine.forget("ann", job_id)
    writing.go_on.set()
    assert end(engine, job_id).state == "cancelled" and engine.history("ann") == ()
    assert not [path for path in storage.root.rglob("*") if job_id in path.name]
    assert end(engine, engine.submit(request_for(), "ann")).state == "done"


def test_forget_at_any_moment_leaves_nothing(storage, request_for, closing):
    engine = closing(FakeEngine(storage, default=FakeJob(steps=1, step_s=0.0)))
    for moment in range(30):
        job_id = engine.submit(request_for(), "ann")
        time.sleep(0.004 * moment)
        engine.forget("ann")
        assert end(engine, job_id).ended
        assert not [path for path in storage.root.rglob("*") if job_id in path.name]
    assert engine.history("ann") == ()


def test_nothing_is_kept_of_an_order_that_was_stopped_half_way(storage, request_for, closing):
    engine = closing(FakeEngine(storage, [FakeJob(), FakeJob(steps=1000, step_s=0.05)]))
    job_id = engine.submit(film_order(request_for(), ["a man", "a woman"]), "ann")
    while engine.status(job_id).part < 2 or engine.status(job_id).step < 1:
        time.sleep(0.01)
    assert engine.status(job_id).eta_s is None or engine.status(job_id).eta_s > 0
    engine.cancel(job_id)
    assert end(engine, job_id).state == "cancelled"
    assert [path.suffix for path in storage.session_folder("ann").iterdir()] == [".job"]


def test_the_preview_is_there_while_sampling_and_gone_afterwards(storage, request_for, closing):
    engine = closing(FakeEngine(storage, [FakeJob(steps=3, step_s=0.05)]))
    seen = list(events(engine, engine.submit(request_for())))
    pictures = [status.preview for status in seen if status.stage == "denoising"]
    assert pictures and all(picture.shape == (128, 128, 3) for picture in pictures)
    assert seen[-1].preview is None


def test_the_forecast_counts_what_waits(storage, request_for, closing):
    engine = closing(FakeEngine(storage, [FakeJob(steps=4), FakeJob(gate=threading.Event())]))
    assert engine.forecast(request_for()).queue_position == 0
    end(engine, engine.submit(request_for()))
    one = engine.forecast(request_for())
    assert one.measured and one.wait_s == 0
    assert engine.forecast(compare_order(request_for())).seconds == pytest.approx(3 * one.seconds)
    jobs = [engine.submit(request_for()) for _ in range(2)]
    crowded = engine.forecast(request_for())
    assert crowded.queue_position >= 2 and crowded.wait_s > one.seconds
    for job_id in jobs:
        engine.cancel(job_id)


def test_the_policy_holds_for_every_part(storage, request_for, closing):
    policy = Policy(lambda prompt: "No." if "woman" in prompt else None, max_takes=2)
    engine = closing(FakeEngine(storage, policy=policy))
    with pytest.raises(ConfigError, match="At most 2 takes"):
        engine.submit(takes_order(request_for(), 3))
    with pytest.raises(PromptError, match=r"No\."):
        engine.submit(film_order(request_for(), ["a man", "a woman"]))
    assert engine.health().queue_length == 0


def test_marked_and_provenance_stated(storage, request_for, closing):
    engine = closing(FakeEngine(storage, draw_mark=lambda frames: draw_mark(frames, "AI")))
    job_id = engine.submit(request_for())
    end(engine, job_id)
    settings = engine.result(job_id).settings
    assert settings["visible_mark"] is True and PROVENANCE.items() <= settings.items()


def test_shutdown_lets_a_short_job_finish_and_marks_what_waits(storage, request_for):
    engine = FakeEngine(storage, [FakeJob(steps=5, step_s=0.1)], policy=Policy(shutdown_grace_s=20))
    running, waiting = engine.submit(request_for(), "ann"), engine.submit(request_for(), "ann")
    while engine.status(running).step < 1:
        time.sleep(0.01)
    engine.close()
    assert engine.status(running).state == "done" and engine.status(waiting).state == "cancelled"
    states = {path.stem[-22:]: json.loads(path.read_text())["state"] for path in storage.records()}
    assert states == {running: "done", waiting: "cancelled"}


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_not_even_an_exit_inside_a_job_ends_the_worker(storage, request_for, closing, error):
    engine = closing(FakeEngine(storage, [FakeJob(error=error)]))
    assert end(engine, engine.submit(request_for())).state == "failed"
    assert end(engine, engine.submit(request_for())).state == "done" and engine.health().ready


KILLED = """
import sys, time, numpy as np
from pathlib import Path
from magicmirror.media import complete_files, sidecar_path
from magicmirror.errors import VideoError
from magicmirror.serving.fake_engine import FakeEngine, FakeJob
from magicmirror.serving.orders import takes_order
from magicmirror.serving.storage import ResultStorage
from magicmirror.types import FaceBox, FaceReference, GenerationRequest

class Half(FakeEngine):
    def make_video(self, request, path, progress, should_stop):
        if request.seed == 1:
            with complete_files((path, sidecar_path(path)), VideoError) as (partial, _):
                partial.write_bytes(b"half a video")
                print("half", flush=True)
                time.sleep(60)
        return super().make_video(request, path, progress, should_stop)

face = FaceReference(FaceBox(0, 0, 9, 9), np.zeros((5, 2), np.float32), "dlib5", np.zeros((64, 64, 3), np.uint8),
                     np.ones(128, np.float32), 1.0)
engine = Half(ResultStorage(Path(sys.argv[1])))
print(engine.submit(takes_order(GenerationRequest("a man", (face,), 0), 2), "ann"), flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_no_files_and_its_jobs_say_what_happened(tmp_path, closing, repository):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    job_id = process.stdout.readline().strip()
    assert process.stdout.readline() == "half\n"
    left = [path.name for path in tmp_path.rglob("*.mp4")]
    assert len(left) == 2 and sum(name.startswith(".") for name in left) == 1  # the first take, and half of the second
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    engine = closing(FakeEngine(ResultStorage(tmp_path)))
    (entry,) = engine.history("ann")
    assert (entry.status.job_id, entry.status.state) == (job_id, "failed")
    assert entry.status.message == INTERRUPTED_MESSAGE and entry.result is None
    assert [path.suffix for path in tmp_path.glob("session-*/*")] == [".job"]
    assert engine.health().ready
