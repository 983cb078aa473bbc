"""The real engine with the preview weights: a film, a comparison, and a server that is killed in the middle."""

from __future__ import annotations

import signal
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from magicmirror.media import read_video
from magicmirror.serving.engine import events
from magicmirror.serving.local_engine import LocalEngine
from magicmirror.serving.orders import compare_order, film_order
from magicmirror.settings import Settings
from magicmirror.types import GenerationRequest

FRAMES = 9


@pytest.fixture(autouse=True)
def preview(repository):
    """Skip where the preview weights are missing."""
    if not (repository / "assets/models/preview/model_index.json").is_file():
        pytest.skip("the preview weights are not in assets/models/preview")


def test_a_film_and_a_comparison_of_one_face(tmp_path, closing, example_references):
    engine = closing(LocalEngine.from_settings(Settings(output_dir=tmp_path, threads=1, live_preview=False)))
    face = example_references["woman_1"]
    request = GenerationRequest("a woman smiles", (face,), 3, num_inference_steps=2, num_frames=FRAMES)

    def make(order):
        job_id = engine.submit(order, "ann")
        *_, status = events(engine, job_id)
        assert status.state == "done", status.message
        return engine.result(job_id)

    film = make(film_order(request, ["a woman smiles", "a woman nods"]))
    frames, _ = read_video(film.video_path)
    assert film.kind == "film" and frames.shape == (2 * FRAMES, 128, 128, 3)
    assert [take.settings["prompt"] for take in film.takes] == ["a woman smiles", "a woman nods"]
    assert [take.settings["seed"] for take in film.takes] == [3, 4]

    compared = make(compare_order(request, [0.0, 1.5]))
    assert [take.settings["identity_scale"] for take in compared.takes] == [0.0, 1.5]
    without, strong = (read_video(take.video_path)[0].astype(int) for take in compared.takes)
    assert without.shape == strong.shape and np.abs(without - strong).mean() > 1.0


def test_a_server_killed_while_it_samples_starts_again_and_offers_nothing_half_made(serve_process, examples, tmp_path):
    from gradio_client import Client, handle_file

    process, url = serve_process("app.py")
    visitor = "v" * 20
    client = Client(url, verbose=False)
    photo = [handle_file(examples / "man_1.jpg")]
    job = client.submit(photo, "a man smiles", steps=500, visitor=visitor, api_name="/generate")
    while not (job.outputs() and job.outputs()[-1][0]["step"] > 1):
        time.sleep(0.05)
    job_id = job.outputs()[-1][0]["job_id"]
    process.send_signal(signal.SIGKILL)
    process.wait()

    _, url = serve_process("app.py")
    assert b"<gradio-app" in urllib.request.urlopen(url, timeout=60).read()
    again = Client(url, verbose=False)
    status, *files = again.predict(job_id, visitor=visitor, api_name="/recover")
    assert status["state"] == "failed" and "server was stopped" in status["message"] and files == [None, None, None]
    left = [path.name for path in (tmp_path / "results").rglob("*") if path.suffix in (".mp4", ".png", ".json")]
    assert not [name for name in left if name.startswith((".", "magicmirror-"))]
