"""The ZeroGPU decorator: nothing elsewhere; with the host's package a stream that a stop ends within a step."""

from __future__ import annotations

import sys
import threading
import types

import pytest

from magicmirror.errors import JobCancelled, ServingError
from magicmirror.pipeline.profiles import find_profile
from magicmirror.serving import zero_gpu
from magicmirror.serving.production import VideoMaker
from magicmirror.serving.zero_gpu import as_stream, consume, on_gpu, prepare

THERE = {"SPACES_ZERO_GPU": "true"}


def test_elsewhere_the_function_is_the_same_and_nothing_is_imported():
    assert on_gpu(as_stream, 60, {}) is as_stream
    prepare({})
    assert "spaces" not in sys.modules


def test_on_such_a_space_the_duration_reaches_the_hosts_decorator(monkeypatch):
    host = types.SimpleNamespace(GPU=lambda duration: lambda function: (duration, function))
    monkeypatch.setitem(sys.modules, "spaces", host)
    prepare(THERE)
    assert on_gpu(as_stream, 60, THERE) == (60, as_stream)


def test_a_stream_gives_events_then_the_result():
    def call(emit):
        for step in range(3):
            emit(step)
        return "video"

    assert list(as_stream(call)) == [("event", 0), ("event", 1), ("event", 2), ("result", "video")]


def test_an_error_of_the_call_comes_out_of_the_stream():
    def call(emit):
        emit(1)
        raise MemoryError

    with pytest.raises(MemoryError):
        list(as_stream(call))


def test_a_stop_ends_the_call_within_one_step():
    steps, ended = [], threading.Event()

    def call(emit):
        try:
            for step in range(1000):
                steps.append(step)
                emit(step)
        finally:
            ended.set()

    with pytest.raises(JobCancelled):
        consume(as_stream(call), lambda event: None, lambda: len(steps) >= 3)
    assert ended.wait(5) and len(steps) <= 5


def test_a_stream_that_ends_early_is_an_error():
    with pytest.raises(ServingError, match="without a result"):
        consume(iter([("event", 1)]), lambda event: None, lambda: False)


def test_the_maker_samples_through_the_lent_gpu(monkeypatch, request_for, face_analyzer, tmp_path):
    import numpy as np

    from magicmirror.types import GeneratedVideo

    calls = []

    def gpu(duration):
        return lambda function: lambda *arguments: calls.append(duration) or function(*arguments)

    monkeypatch.setitem(sys.modules, "spaces", types.SimpleNamespace(GPU=gpu))
    monkeypatch.setenv(zero_gpu.SWITCH, "1")

    def generate(pipeline, profile, request, on_step, should_stop):
        for step in range(2):
            on_step(step, 2, None)
        return GeneratedVideo(np.zeros((3, 32, 32, 3), np.uint8), 8, {"seed": request.seed})

    maker = VideoMaker(
        find_profile("preview"),
        load=lambda profile, device: object(),
        generate=generate,
        analyzer=face_analyzer,
        gpu_seconds=33,
    )
    seen = []
    take = maker.make(request_for(4), tmp_path / "a.mp4", lambda *where: seen.append(where), lambda: False)
    assert calls == [33] and take.settings["seed"] == 4
    assert [where for where in seen if where[0] == "denoising"] == [("denoising", 1, 2), ("denoising", 2, 2)]
