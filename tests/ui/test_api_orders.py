"""The API beyond a single video: takes, comparison, film and retake, picture, forecast, history of one visitor."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from magicmirror.media import load_image, read_settings, read_video
from magicmirror.serving.fake_engine import FakeJob

ANN, BOB = "a" * 20, "b" * 20


@pytest.fixture
def photo(examples):
    return [handle_file(examples / "man_1.jpg")]


def test_takes_have_seeds_in_a_row_and_are_ranked(connect, photo):
    client, _ = connect([FakeJob(likeness=0.90), FakeJob(likeness=0.97), FakeJob(likeness=0.93)])
    status, video, settings, files = client.predict(photo, "a man smiles", seed=5, takes=3, api_name="/generate")
    assert [take["seed"] for take in status["takes"]] == [5, 6, 7] and status["parts"] == 3
    assert status["ranking"] == [1, 2, 0] and settings["seed"] == 6
    assert read_settings(video)["seed"] == 6 and [read_settings(file)["seed"] for file in files] == [5, 6, 7]


def test_a_film_joins_its_shots_and_one_is_taken_again(connect, photo):
    client, _ = connect()
    prompts = ["a man smiles", "a man nods", "a man looks up"]
    status, film, settings, shots = client.predict(photo, prompts, seed=1, api_name="/film")
    assert read_video(film)[0].shape == (51, 128, 128, 3) and len(shots) == 3
    assert [shot["prompt"] for shot in settings["film"]] == prompts
    again, film_again, _, shots_again = client.predict(
        status["job_id"], 1, photo, "a man nods twice", seed=77, api_name="/retake"
    )
    assert [take["seed"] for take in again["takes"]] == [1, 77, 3] and again["parts"] == 1
    before, after = (read_video(path)[0].astype(int) for path in (film, film_again))
    kept, new = np.r_[0:17, 34:51], np.r_[17:34]
    assert np.abs(before[kept] - after[kept]).mean() < 1 < 2 < np.abs(before[new] - after[new]).mean()
    assert read_settings(shots_again[1])["prompt"] == "a man nods twice"
    called = [entry["prompt"] for entry in client.predict(api_name="/history")]
    assert called == ["a man smiles / a man nods twice / a man looks up", "a man smiles / a man nods / a man looks up"]
    with pytest.raises(AppError, match="shots 0 to 2"):
        client.predict(status["job_id"], 3, photo, "a man nods", api_name="/retake")
    with pytest.raises(AppError, match="2 to 6 prompts"):
        client.predict(photo, ["a man smiles"], api_name="/film")


def test_a_picture_and_a_comparison(connect, photo):
    client, _ = connect()
    _, png, settings, _ = client.predict(photo, "a man smiles", seed=3, api_name="/image")
    assert load_image(png).shape == (128, 128, 3) and settings["seed"] == 3
    status, *_ = client.predict(photo, "a man smiles", seed=3, scales=[0, 1], api_name="/compare")
    assert [(take["seed"], take["identity_scale"]) for take in status["takes"]] == [(3, 0.0), (3, 1.0)]
    for wrong in ("x", [1], [0, "1"], [0, 5]):
        with pytest.raises(AppError, match=r"scales|identity"):
            client.predict(photo, "a man smiles", scales=wrong, api_name="/compare")


def test_the_forecast_is_a_guess_until_something_was_measured(connect, photo):
    client, _ = connect()
    guess = client.predict(steps=4, api_name="/forecast")
    assert guess["measured"] is False and guess["queue_position"] == 0
    client.predict(photo, "a man smiles", steps=4, api_name="/generate")
    one, three = (client.predict(count=count, steps=4, api_name="/forecast") for count in (1, 3))
    assert one["measured"] and 0 < one["seconds"] < 5 and three["seconds"] == pytest.approx(3 * one["seconds"])
    with pytest.raises(AppError, match="kind must be"):
        client.predict("video", api_name="/forecast")


def test_a_job_goes_on_without_its_client_and_only_its_visitor_finds_it(launch, photo):
    gate = threading.Event()
    url, engine = launch([FakeJob(gate=gate)])
    first = Client(url, verbose=False)
    job = first.submit(photo, "a man smiles", seed=9, visitor=ANN, api_name="/generate")
    while not job.outputs():
        time.sleep(0.02)
    job_id = job.outputs()[0][0]["job_id"]
    first.close()
    gate.set()
    second = Client(url, verbose=False)
    while second.predict(job_id, api_name="/status")["state"] != "done":
        time.sleep(0.05)
    status, video, settings, _ = second.predict(job_id, visitor=ANN, api_name="/recover")
    assert status["state"] == "done" and settings["seed"] == 9 == read_settings(video)["seed"]
    assert [entry["job_id"] for entry in second.predict(visitor=ANN, api_name="/history")] == [job_id]
    assert second.predict(visitor=BOB, api_name="/history") == second.predict(api_name="/history") == []
    with pytest.raises(AppError, match="not known"):
        second.predict(job_id, visitor=BOB, api_name="/recover")
    assert second.predict(job_id, visitor=BOB, api_name="/forget") == []
    assert second.predict(visitor=ANN, api_name="/history")
    assert second.predict(job_id, visitor=ANN, api_name="/forget") == []
    assert not list(engine.storage.root.rglob("magicmirror-*"))
    second.close()
