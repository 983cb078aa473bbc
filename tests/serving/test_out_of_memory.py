"""A job that runs out of memory is made once more with a plan that needs less."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from magicmirror.errors import ConfigError
from magicmirror.pipeline import placement
from magicmirror.pipeline.loading import generate
from magicmirror.pipeline.memory_forecast import forecast_bytes
from magicmirror.pipeline.out_of_memory import is_out_of_memory
from magicmirror.pipeline.profiles import find_profile
from magicmirror.serving.engine import events
from magicmirror.serving.local_engine import LocalEngine
from magicmirror.serving.production import VideoMaker
from magicmirror.serving.reasons import OUT_OF_MEMORY_MESSAGE, public_reason
from magicmirror.types import GenerationRequest, VideoShape
from tests.tiny_pipeline import build_pipeline, build_reference

PROFILE = replace(find_profile("preview"), shape=VideoShape(9, 32, 32, 8), sizes_px=((32, 32),), num_inference_steps=2)
CPU = torch.device("cpu")


class Machine:
    """Real tiny networks; the first ``failures`` calls run out of memory after their first step."""

    def __init__(self, failures):
        self.pipeline = build_pipeline(embedding_size=128)
        self.failures = failures
        self.policies = []
        self.frames = []

    def load(self, profile, device):
        return placement.place(self.pipeline, profile, CPU)

    def generate(self, pipeline, profile, request, on_step, should_stop):
        self.policies.append(pipeline.memory_plan.policy)

        def failing(*step):
            on_step(*step)
            if self.failures:
                self.failures -= 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

        video = generate(pipeline, profile, request, failing, should_stop)
        self.frames.append(video.frames)
        return video


def step_down_here(pipeline):
    """``step_down`` with the CPU in the place of the GPU."""
    plan = pipeline.memory_plan.below()
    if plan is not None and plan.policy != "sequential":  # which needs two devices
        placement.apply_plan(pipeline, plan, CPU)
        return plan
    return None


@pytest.fixture
def job(storage, face_analyzer, closing):
    """An engine on a machine, and a job that has ended on it."""

    def run(failures):
        machine = Machine(failures)
        maker = VideoMaker(PROFILE, "cpu", load=machine.load, generate=machine.generate, analyzer=face_analyzer)
        engine = closing(LocalEngine(maker, storage))
        request = GenerationRequest("a man smiles", (build_reference(1, embedding_size=128),), seed=3)
        job_id = engine.submit(request)
        seen = list(events(engine, job_id))
        return machine, engine, seen, job_id

    return run


def test_the_second_try_takes_less_memory_and_gives_the_same(job, monkeypatch):
    monkeypatch.setattr(placement, "step_down", step_down_here)
    machine, engine, seen, job_id = job(failures=1)
    assert seen[-1].state == "done" and machine.policies == ["resident", "model"]
    assert engine.result(job_id).settings["memory"] == {"policy": "model", "quantisation": "none"}
    assert "model: only the network at work is on the device, because the memory did not suffice" in seen[-1].message
    exact = generate(
        build_pipeline(embedding_size=128),
        PROFILE,
        GenerationRequest("a man smiles", (build_reference(1, embedding_size=128),), seed=3),
    ).frames
    assert (machine.frames[0] == exact).all()
    again = engine.submit(GenerationRequest("a man smiles", (build_reference(1, embedding_size=128),), seed=4))
    *_, status = events(engine, again)
    assert status.state == "done" and machine.policies == ["resident", "model", "model"]


def test_one_retry_only(job, monkeypatch):
    monkeypatch.setattr(placement, "step_down", step_down_here)
    machine, engine, seen, _ = job(failures=2)
    assert (seen[-1].state, seen[-1].message) == ("failed", OUT_OF_MEMORY_MESSAGE)
    assert machine.policies == ["resident", "model"]
    assert engine.health().ready


def test_a_cpu_has_nothing_to_step_down_to(job):
    machine, _, seen, _ = job(failures=1)
    assert (seen[-1].state, seen[-1].message) == ("failed", OUT_OF_MEMORY_MESSAGE)
    assert machine.policies == ["resident"]


def test_a_video_without_memory_is_refused_before_it_waits(storage, face_analyzer, closing):
    machine = Machine(failures=0)
    longer = replace(PROFILE, max_frames=161)
    maker = VideoMaker(longer, "cpu", load=machine.load, generate=machine.generate, analyzer=face_analyzer)
    engine = closing(LocalEngine(maker, storage))
    pipeline = maker.load()
    usual = pipeline.memory_budget.usual
    need = forecast_bytes(pipeline.memory_budget.size, usual, pipeline.memory_plan)
    pipeline.memory_budget = replace(pipeline.memory_budget, free=int(need / 0.95) + 1)
    request = GenerationRequest("a man smiles", (build_reference(1, embedding_size=128),), seed=3, num_frames=161)
    with pytest.raises(ConfigError, match=r"161 frames .* the usual number is 9"):
        engine.submit(request)
    with pytest.raises(ConfigError, match="161 frames"):
        generate(pipeline, longer, request)
    *_, status = events(engine, engine.submit(replace(request, num_frames=9)))
    assert status.state == "done"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_recognised(error, expected):
    assert is_out_of_memory(error) == expected
    assert (public_reason(error) == OUT_OF_MEMORY_MESSAGE) == expected
