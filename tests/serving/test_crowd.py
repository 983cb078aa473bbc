"""Many clients at once, and many jobs one after the other."""

from __future__ import annotations

import gc
import itertools
import threading
import tracemalloc
from collections import Counter

import pytest

from magicmirror.errors import QueueFull
from magicmirror.serving.engine import events
from magicmirror.serving.fake_engine import FakeEngine, FakeJob

CLIENTS = 50


def test_fifty_clients_each_get_exactly_one_end_and_their_own_video(storage, request_for, closing):
    engine = closing(FakeEngine(storage, default=FakeJob(steps=2, step_s=0.005), capacity=12))
    start, all_ends, mixed = threading.Barrier(CLIENTS), [], []

    def client(number):
        start.wait()
        for attempt in range(2):
            try:
                job_id = engine.submit(request_for(1000 * attempt + number), f"client {number}")
            except QueueFull:
                all_ends.append("refused")
                continue
            # Who gets in is chance, so it is every fifth job that is cancelled and not every fifth client's.
            if next(accepted) % 5 == 0:
                engine.cancel(job_id)
            *_, status = events(engine, job_id, patience_s=5)
            all_ends.append(status.state)
            if status.state == "done":
                result = engine.result(job_id)
                own = storage.session_folder(f"client {number}")
                if result.settings["seed"] != 1000 * attempt + number or result.video_path.parent != own:
                    mixed.append(number)

    accepted = itertools.count(1)
    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    ends = Counter(all_ends)
    assert len(all_ends) == 2 * CLIENTS and set(ends) <= {"done", "refused", "cancelled"}
    assert ends["done"] > 0 and ends["refused"] > 0 and ends["cancelled"] > 0 and not mixed
    health = engine.health()
    assert health.jobs_done == ends["done"] and health.queue_length == 0 and not health.running
    recorded = Counter(entry.status.state for number in range(CLIENTS) for entry in engine.history(f"client {number}"))
    assert recorded == Counter({state: count for state, count in ends.items() if state != "refused"})


@pytest.mark.parametrize(("jobs", "warm"), [(300, 220), pytest.param(1000, 300, marks=pytest.mark.slow)])
def test_memory_stays_flat_over_many_jobs(storage, request_for, closing, jobs, warm):
    """The board keeps 200 ended jobs; from there on nothing may grow."""
    engine = closing(FakeEngine(storage, default=FakeJob(steps=1, step_s=0.0), write=False))

    def run(count):
        for seed in range(count):
            *_, status = events(engine, engine.submit(request_for(seed), f"session {seed % 7}"))
            assert status.state == "done"

    gc.collect()
    gc.freeze()  # what other tests have left is not looked through again after every few jobs
    run(warm)
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        run(jobs - warm)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    # Jobs from before tracing started are replaced by traced ones: up to 200 records of some 3 kB.
    assert after - before < 1_500_000
    assert threading.active_count() < 20
