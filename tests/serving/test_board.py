"""The board: bounded queue, positions, exactly one end for every job, memory that stays flat."""

from __future__ import annotations

import threading

import pytest

from magicmirror.errors import ConfigError, JobNotFound, QueueFull, ServingError
from magicmirror.serving.board import JobBoard
from magicmirror.serving.jobs import JobResult


def test_positions_move_up_when_a_job_is_taken_or_cancelled(request_for):
    board = JobBoard(capacity=3)
    first, second, third = (board.add(request_for(seed), "s").job_id for seed in range(3))
    assert [board.status(job).queue_position for job in (first, second, third)] == [1, 2, 3]

    assert board.take(0).status.job_id == first
    assert [board.status(job).queue_position for job in (first, second, third)] == [0, 1, 2]

    assert board.cancel(second).state == "cancelled"
    assert board.status(third).queue_position == 1


def test_a_full_queue_refuses_and_has_room_again_after_a_cancel(request_for):
    board = JobBoard(capacity=2)
    first = board.add(request_for(), "s").job_id
    board.add(request_for(), "s")
    with pytest.raises(QueueFull, match=r"All 2 waiting places"):
        board.add(request_for(), "s")
    board.cancel(first)
    assert board.add(request_for(), "s").queue_position == 2


def test_an_ended_job_keeps_its_end_and_drops_the_reference_faces(request_for, tmp_path):
    board = JobBoard()
    job_id = board.add(request_for(), "s").job_id
    record = board.take(0)
    result = JobResult(tmp_path / "a.mp4", tmp_path / "a.json", {}, (0.5, None, 1.0))
    board.finish(job_id, "done", result=result)
    board.update(job_id, step=3)
    assert board.cancel(job_id).state == "done"
    assert board.status(job_id).step == 0 and board.status(job_id).result_path == tmp_path / "a.mp4"
    assert board.result(job_id).mean_likeness == 0.75
    assert record.request is None


def test_a_job_without_result_says_why(request_for):
    board = JobBoard()
    job_id = board.add(request_for(), "s").job_id
    board.take(0)
    board.finish(job_id, "failed", "The reason.")
    with pytest.raises(ServingError, match=r"failed.*The reason\."):
        board.result(job_id)
    with pytest.raises(JobNotFound):
        board.status("other")


def test_only_the_newest_ended_jobs_are_kept(request_for):
    board = JobBoard(capacity=1, keep_ended=3)
    jobs = []
    for seed in range(5):
        jobs.append(board.add(request_for(seed), "s").job_id)
        board.take(0)
        board.finish(jobs[-1], "done")
    for job_id in jobs[:2]:
        with pytest.raises(JobNotFound):
            board.status(job_id)
    assert [board.status(job_id).state for job_id in jobs[2:]] == ["done"] * 3


def test_wait_returns_on_news_and_not_before(request_for):
    board = JobBoard()
    status = board.add(request_for(), "s")
    assert board.wait(status.job_id, status.version, 0.01).version == status.version
    waiter = threading.Timer(0.05, lambda: board.take(0))
    waiter.start()
    assert board.wait(status.job_id, status.version, 10).state == "running"
    waiter.join()


def test_close_ends_waiting_jobs_and_stops_the_running_one(request_for):
    board = JobBoard()
    running, waiting = (board.add(request_for(), "s").job_id for _ in range(2))
    record = board.take(0)
    board.close()
    assert record.stop.is_set() and board.status(running).state == "running"
    assert board.status(waiting).state == "cancelled" and "shut down" in board.status(waiting).message
    with pytest.raises(ServingError, match="shutting down"):
        board.add(request_for(), "s")
    assert board.take(10) is None


def test_limits_below_one_are_refused():
    with pytest.raises(ConfigError):
        JobBoard(capacity=0)


def test_many_threads_lose_and_mix_no_job(request_for):  # noqa: C901
    board = JobBoard(capacity=5, keep_ended=1000)
    accepted, refused, stop = [], [], threading.Event()

    def client(number):
        for index in range(20):
            try:
                accepted.append(board.add(request_for(number * 100 + index), str(number)).job_id)
            except QueueFull:
                refused.append(index)

    def worker():
        while not stop.is_set():
            record = board.take(0.01)
            if record is not None:
                board.finish(record.status.job_id, "done", message=f"{record.request.seed} {record.session}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    runner = threading.Thread(target=worker)
    runner.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job_id in accepted:
        while not board.status(job_id).ended:
            board.wait(job_id, board.status(job_id).version, 1)
    stop.set()
    runner.join()
    seeds = [int(board.status(job_id).message.split()[0]) for job_id in accepted]
    assert len(accepted) + len(refused) == 160
    assert len(set(accepted)) == len(accepted) and len(set(seeds)) == len(seeds)
    assert all(board.status(job_id).state == "done" for job_id in accepted)
