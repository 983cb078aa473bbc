"""The real engine with a small function in place of the model: loading, stopping, failing, measuring, closing."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest

from magicmirror.errors import ConfigError, JobCancelled, PromptError, WeightsError
from magicmirror.media import load_image, read_settings, read_video
from magicmirror.pipeline.profiles import find_profile
from magicmirror.serving.engine import events
from magicmirror.serving.local_engine import LocalEngine
from magicmirror.serving.production import VideoMaker
from magicmirror.settings import Settings
from magicmirror.types import GeneratedVideo, GenerationRequest
from tests.tiny_pipeline import build_reference

STEPS = 4


class Model:
    """Stands in for pipeline and its two calls: shows the reference's photo, slowly, and counts what is asked of it."""

    device = "cpu"

    def __init__(self, step_s=0.02):
        self.step_s = step_s
        self.loads = []
        self.threads = set()
        self.seeds = []
        self.steps_done = 0
        self.failure = None

    def load(self, profile, device):
        self.loads.append((profile.name, device))
        return self

    def generate(self, pipeline, profile, request, on_step, should_stop):
        assert pipeline is self
        self.threads.add(threading.current_thread().name)
        self.seeds.append(request.seed)
        total = profile.resolve(request).num_inference_steps
        for step in range(total):
            time.sleep(self.step_s)
            self.steps_done += 1
            on_step(step, total, None)
            if should_stop():
                raise JobCancelled("The job was stopped on request.")
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        frames = np.stack([np.roll(request.references[0].crop, index, axis=1) for index in range(3)])
        return GeneratedVideo(frames, 8, {"seed": request.seed}, timings_s={"total": 1.0})


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def engine(model, storage, face_analyzer, closing):
    maker = VideoMaker(
        find_profile("preview"), device="cpu", load=model.load, generate=model.generate, analyzer=face_analyzer
    )
    return closing(LocalEngine(maker, storage, capacity=2))


@pytest.fixture
def ask(engine, example_references):
    """Submit a job for the example face ``man_1``."""

    def submit(seed=0, prompt="a man smiles", steps=STEPS, **changes):
        reference = example_references["man_1"]
        return engine.submit(GenerationRequest(prompt, (reference,), seed, num_inference_steps=steps, **changes))

    return submit


def end(engine, job_id):
    *_, status = events(engine, job_id)
    return status


def wait_for_step(engine, job_id, step):
    while engine.status(job_id).step < step:
        engine.wait(job_id, engine.status(job_id).version, 5)


def test_the_model_is_loaded_once_and_stays_in_one_thread(engine, model, ask):
    assert not engine.health().model_loaded
    assert [end(engine, ask(seed)).state for seed in range(2)] == ["done"] * 2
    assert model.loads == [("preview", "cpu")] and len(model.threads) == 1
    assert threading.current_thread().name not in model.threads
    health = engine.health()
    assert (health.model_loaded, health.device, health.jobs_done, health.profile) == (True, "cpu", 2, "preview")


def test_what_is_loaded_is_not_looked_through_after_every_job(model, storage, face_analyzer, closing):
    gc.unfreeze()
    load = {"load": model.load, "generate": model.generate, "analyzer": face_analyzer}
    closing(LocalEngine(VideoMaker(find_profile("preview"), device="cpu", **load), storage, warm_up=True))
    try:
        until = time.monotonic() + 30
        while gc.get_freeze_count() < 50_000 and time.monotonic() < until:
            time.sleep(0.01)
        assert gc.get_freeze_count() >= 50_000 and len(model.loads) == 1
    finally:
        gc.unfreeze()


def test_a_done_job_has_video_settings_and_likeness(engine, ask):
    status = end(engine, job_id := ask(seed=5))
    result = engine.result(job_id)
    assert status.result_path == result.video_path and read_video(result.video_path)[0].shape == (3, 128, 128, 3)
    assert len(result.likeness) == 3 and result.mean_likeness > 0.95 and result.level == "close"
    assert read_settings(result.video_path)["seed"] == 5 == result.settings["seed"]
    assert result.settings["timings_s"].keys() == {"total", "likeness"}
    assert (status.step, status.total) == (STEPS, STEPS)


def test_a_running_job_stops_within_one_step(engine, model, ask):
    model.step_s = 0.1
    job_id = ask(steps=500)
    wait_for_step(engine, job_id, 2)
    engine.cancel(job_id)
    steps_then = model.steps_done
    assert end(engine, job_id).state == "cancelled"
    assert model.steps_done <= steps_then + 1
    assert end(engine, ask()).state == "done"


def test_a_waiting_job_is_cancelled_and_never_runs(engine, model, ask):
    model.step_s = 0.1
    first, second = ask(seed=1), ask(seed=2)
    engine.cancel(second)
    assert end(engine, first).state == "done" and engine.status(second).state == "cancelled"
    assert model.seeds == [1]


def test_a_failing_job_is_logged_and_the_next_one_runs(engine, model, ask, caplog):
    model.failure = RuntimeError("tensor trouble in a/secret/file.py")
    status = end(engine, ask())
    assert status.state == "failed" and "secret" not in status.message and status.job_id in status.message
    assert any(record.exc_info and "tensor trouble" in str(record.exc_info[1]) for record in caplog.records)
    assert end(engine, ask()).state == "done" and len(model.loads) == 1


def test_bad_requests_never_enter_the_queue(engine, model, ask):
    with pytest.raises(PromptError, match="person"):
        ask(prompt="a house by the sea")
    with pytest.raises(ConfigError, match="nearest"):
        ask(num_frames=16)
    assert model.seeds == [] and engine.health().queue_length == 0
    assert end(engine, ask(prompt="a house by the sea", identity_scale=0.0)).state == "done"


def test_weights_that_cannot_be_loaded_are_reported_and_tried_again(
    model, storage, face_analyzer, closing, example_references
):
    attempts = []

    def load(profile, device):
        attempts.append(device)
        if len(attempts) < 3:
            raise WeightsError("The weights are missing.", "Get them.")
        return model

    maker = VideoMaker(find_profile("preview"), load=load, generate=model.generate, analyzer=face_analyzer)
    engine = closing(LocalEngine(maker, storage, warm_up=True))
    request = GenerationRequest("a man", (example_references["man_1"],), 0, num_inference_steps=1)
    first = end(engine, engine.submit(request))
    assert (first.state, first.message) == ("failed", "The weights are missing. Get them.")
    assert engine.health().message == first.message and not engine.health().ready
    assert end(engine, engine.submit(request)).state == "done"
    assert engine.health().ready and engine.health().message == ""


def test_close_ends_running_and_waiting_jobs(engine, model, ask):
    model.step_s = 0.05
    running, waiting = ask(steps=500), ask()
    wait_for_step(engine, running, 1)
    engine.close()
    assert engine.status(running).state == engine.status(waiting).state == "cancelled"
    assert not engine.health().model_loaded


def test_two_people_are_two_faces(engine, examples):
    assert len(engine.analyze(examples / "two_people.jpg")) == 2
    assert len(engine.analyze(load_image(examples / "man_1.jpg"))) == 1


def test_settings_become_an_engine(tmp_path, closing):
    settings = Settings(output_dir=tmp_path / "out", queue_size=3, model_path=tmp_path / "nothing")
    engine = closing(LocalEngine.from_settings(settings))
    assert engine.health().queue_capacity == 3 and (tmp_path / "out").is_dir()


def test_a_kernel_that_is_not_installed_is_said_before_weights_are_looked_for(tmp_path, closing):
    asked = {"attention": "flash", "step_cache": "first-block"}
    engine = closing(LocalEngine.from_settings(Settings(output_dir=tmp_path, model_path=tmp_path / "nothing", **asked)))
    waited = time.monotonic() + 60
    while engine.health().ready and time.monotonic() < waited:
        time.sleep(0.05)
    assert 'The attention kernel "flash" cannot be used on cpu' in engine.health().message
    request = GenerationRequest("a man smiles", (build_reference(1, embedding_size=128),), seed=3)
    assert engine.cost(request).model == "preview on auto flash first-block:0.1"
