"""The API as a program on another machine sees it: names, results, refusals."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from magicmirror.faces.selection import photo_record
from magicmirror.media import read_settings, read_video, write_image
from magicmirror.serving.fake_engine import FakeJob


def test_the_endpoints_have_stable_names_and_parameters(connect):
    client, _ = connect()
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {
        "/analyze", "/generate", "/image", "/compare", "/film", "/retake", "/forecast", "/status", "/cancel",
        "/recover", "/history", "/forget", "/health",
    }  # fmt: skip
    parameters = endpoints["/generate"]["parameters"]
    names = [parameter["parameter_name"] for parameter in parameters]
    assert names == [
        "photos", "prompt", "negative_prompt", "seed", "steps", "guidance", "identity_scale", "faces",
        "takes", "visitor",
    ]  # fmt: skip
    needed = [parameter["parameter_name"] for parameter in parameters if not parameter["parameter_has_default"]]
    assert needed == ["photos", "prompt"]


def test_analyze_lists_the_faces_of_every_photo(connect, examples):
    client, _ = connect()
    answer = client.predict(
        [handle_file(examples / "two_people.jpg"), handle_file(examples / "man_1.jpg")], api_name="/analyze"
    )
    counts = [[face["index"] for face in photo["faces"]] for photo in answer["photos"]]
    assert counts == [[0, 1], [0]]
    left, top, right, bottom = answer["photos"][0]["faces"][1]["box_px"]
    assert 0 <= left < right and 0 <= top < bottom
    assert [photo["chosen"] for photo in answer["photos"]] == [None, 0]
    assert "2 faces of comparable size" in answer["photos"][0]["problem"] and not answer["photos"][1]["problem"]


def test_analyze_names_the_photo_of_somebody_else(connect, examples):
    client, _ = connect()
    photos = [handle_file(examples / f"{name}.jpg") for name in ("two_people", "man_1", "woman_1", "man_1")]
    (odd,) = client.predict(photos, api_name="/analyze")["mismatches"]  # the first photo awaits a choice
    assert odd["photo"] == 2 and odd["distance"] > odd["limit"] == 0.6


def test_generate_returns_video_and_settings(connect, examples):
    client, engine = connect()
    job = client.submit([handle_file(examples / "man_1.jpg")], "a man smiles", seed=0, steps=6, api_name="/generate")
    status, video, settings, files = job.result(timeout=60)
    assert len(files) == 1 and status["ranking"] == [0] and status["takes"][0]["level"] == "close"
    assert status["state"] == "done" and status["step"] == status["total"] == 6
    assert "result_path" not in status
    assert settings["seed"] == 0 and settings["num_inference_steps"] == 6
    assert read_video(video)[0].shape == (17, 128, 128, 3)
    assert read_settings(video)["prompt"] == "a man smiles"
    states = [output[0]["state"] for output in job.outputs()]
    assert states[-1] == "done" and set(states) <= {"queued", "running", "done"}
    assert client.predict(api_name="/health")["jobs_done"] == 1 == engine.health().jobs_done


def test_a_seed_left_out_is_drawn_and_told(connect, examples):
    client, _ = connect()
    photo = [handle_file(examples / "man_1.jpg")]
    seeds = {client.predict(photo, "a man smiles", api_name="/generate")[2]["seed"] for _ in range(2)}
    assert len(seeds) == 2


def test_the_second_face_can_be_chosen(connect, examples):
    client, _ = connect()
    photo = [handle_file(examples / "two_people.jpg")]
    with pytest.raises(AppError, match="2 faces"):
        client.predict(photo, "a man smiles", api_name="/generate")
    videos = [client.predict(photo, "a man smiles", seed=1, faces=[index], api_name="/generate")[1] for index in (0, 1)]
    first, second = (read_video(video)[0].astype(int) for video in videos)
    assert np.abs(first - second).mean() > 5


def test_a_job_is_cancelled_by_its_id(connect, examples):
    client, engine = connect([FakeJob(steps=1000, step_s=0.05)])
    job = client.submit([handle_file(examples / "man_1.jpg")], "a man smiles", api_name="/generate")
    while not (job.outputs() and job.outputs()[-1][0]["step"] > 1):
        time.sleep(0.05)
    job_id = job.outputs()[-1][0]["job_id"]
    assert client.predict(job_id, api_name="/cancel")["job_id"] == job_id
    status, *rest = job.result(timeout=10)
    assert status["state"] == "cancelled" and rest == [None, None, None]
    assert not engine.health().running
    with pytest.raises(AppError, match="not known"):
        client.predict("no such job", api_name="/cancel")


def test_a_failing_job_is_a_plain_error_and_the_next_one_runs(connect, examples):
    client, _ = connect([FakeJob(error=RuntimeError("in /secret/place"))])
    photo = [handle_file(examples / "man_1.jpg")]
    with pytest.raises(AppError, match="Something went wrong") as caught:
        client.predict(photo, "a man smiles", api_name="/generate")
    assert "secret" not in str(caught.value) and "Traceback" not in str(caught.value)
    assert client.predict(photo, "a man smiles", api_name="/generate")[0]["state"] == "done"


def test_a_full_queue_is_said_so(connect, examples):
    gate = threading.Event()
    client, engine = connect([FakeJob(gate=gate)], capacity=1)
    photo = [handle_file(examples / "man_1.jpg")]
    jobs = []
    for waiting in (0, 1):
        jobs.append(client.submit(photo, "a man smiles", api_name="/generate"))
        while not (engine.health().running and engine.health().queue_length == waiting):
            time.sleep(0.02)
    with pytest.raises(AppError, match="waiting places"):
        client.predict(photo, "a man smiles", api_name="/generate")
    gate.set()
    assert [job.result(timeout=30)[0]["state"] for job in jobs] == ["done", "done"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": "a man " * 1000}, "6000 characters"),
        ({"seed": -1}, "seed"),
        ({"steps": 0}, "steps"),
        ({"steps": 5000}, "steps"),
        ({"guidance": 0.5}, "guidance"),
        ({"identity_scale": 3}, "identity scale"),
        ({"faces": [7]}, "Face 7"),
        ({"faces": [0, 0]}, "one index for the photo"),
        ({"faces": "text"}, "one index for the photo"),
        ({"faces": ["x"]}, "one index for the photo"),
        ({"photos": []}, "photo"),
        ({"photos": "text"}, "have to be uploaded"),
        ({"photos": 3}, "have to be uploaded"),
        ({"prompt": 5}, "prompt must be a text"),
        ({"prompt": None}, "prompt must be a text"),
        ({"seed": "abc"}, "seed must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"steps": [1]}, "steps must be a whole number"),
        ({"guidance": {}}, "guidance must be a number"),
        ({"takes": 9}, "takes must lie in"),
        ({"visitor": "short"}, "at least 16 characters"),
    ],
)
def test_bad_input_is_refused_with_its_reason(bad_input_client, examples, changes, reason):
    arguments = {"photos": [handle_file(examples / "man_1.jpg")], "prompt": "a man smiles", **changes}
    with pytest.raises(AppError, match=reason):
        bad_input_client.predict(**arguments, api_name="/generate")


@pytest.fixture(scope="module")
def bad_input_client(tmp_path_factory):
    """One app for all refusals; none of them reaches the queue."""
    from magicmirror.serving.fake_engine import FakeEngine
    from magicmirror.serving.storage import ResultStorage
    from magicmirror.settings import Settings
    from magicmirror.ui.page import build_app

    folder = tmp_path_factory.mktemp("results")
    engine = FakeEngine(ResultStorage(folder))
    app = build_app(engine, Settings(output_dir=folder))
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True)
    client = Client(url, verbose=False)
    yield client
    assert engine.health().jobs_done == 0
    client.close()
    app.close()
    engine.close()


def test_a_file_that_is_no_picture_is_refused(connect, tmp_path):
    client, _ = connect()
    fake = tmp_path / "photo.jpg"
    fake.write_text("not a picture")
    with pytest.raises(AppError, match=r"^[^:]*not a picture"):
        client.predict([handle_file(fake)], "a man", api_name="/generate")
    (record,) = client.predict([handle_file(fake)], api_name="/analyze")["photos"]
    assert "not a picture" in record["problem"] and not record["faces"] and record["chosen"] is None
    plain = write_image(np.full((64, 64, 3), 128, np.uint8), tmp_path / "plain.png")
    answer = client.predict([handle_file(plain)], api_name="/analyze")
    assert answer == {"photos": [photo_record(())], "mismatches": []}
    with pytest.raises(AppError, match="No face"):
        client.predict([handle_file(plain)], "a man", api_name="/generate")


@pytest.mark.parametrize(
    ("second", "faces", "reason"),
    [
        ("two_people", None, "Photo 2: The photo shows 2 faces.*Choose one with faces"),
        ("cut", None, "Photo 2: .*ends"),
        ("man_1", [0, 5], "Photo 2: Face 5"),
        ("man_1", [4, 0], "Photo 1: Face 4"),
        ("man_1", [0], "one index for each of the 2 photos"),
    ],
)
def test_of_several_photos_the_bad_one_is_named(bad_input_client, examples, tmp_path, second, faces, reason):
    path = examples / f"{second}.jpg"
    if second == "cut":
        path = tmp_path / "cut.jpg"
        path.write_bytes((examples / "man_1.jpg").read_bytes()[:5000])
    photos = [handle_file(examples / "woman_2.jpg"), handle_file(path)]
    with pytest.raises(AppError, match=reason):
        bad_input_client.predict(photos, "a woman", faces=faces, api_name="/generate")
    records = bad_input_client.predict(photos, api_name="/analyze")["photos"]
    assert records[0]["chosen"] == 0 and not records[0]["problem"]
    assert bool(records[1]["problem"]) == (second != "man_1")


def test_several_faces_are_refused_with_the_argument_that_chooses_one(bad_input_client, examples):
    photos = [handle_file(examples / "two_people.jpg")]
    remedy = r"Choose one with faces \(a list with one index for each photo\), 0 to 1, the largest is 0, or crop"
    with pytest.raises(AppError, match=rf"^The photo shows 2 faces of comparable size\. {remedy}"):
        bad_input_client.predict(photos, "a woman", api_name="/generate")


def test_a_refusal_leaves_no_traceback_in_the_log(connect, examples, tmp_path, capfd):
    client, _ = connect()
    text = tmp_path / "photo.txt"
    text.write_text("text")
    for photo, prompt in ((text, "a man"), (examples / "man_1.jpg", "a man " * 1000)):
        with pytest.raises(AppError, match=r"The file is not a picture|6000 characters"):
            client.predict([handle_file(photo)], prompt, api_name="/generate")
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("photo", ["path", "dotted", "address", "own page", "bare text"])
def test_nothing_but_an_upload_is_a_photo(launch, examples, tmp_path, photo):
    """Asked over plain HTTP, as no client library would."""
    url, _ = launch()
    secret = tmp_path / "secret.jpg"
    secret.write_bytes((examples / "man_1.jpg").read_bytes())
    paths = {
        "path": str(secret),
        "dotted": str(tmp_path / "uploads" / ".." / "secret.jpg"),
        "address": "http://169.254.169.254/secret.jpg",
        "own page": url + "config",
    }
    value = {"path": paths[photo], "meta": {"_type": "gradio.FileData"}} if photo in paths else str(secret)
    events = _call(url, "analyze", {"data": [[value]]})
    assert "event: error" in events and "have to be uploaded" in events
    assert "secret" not in events and str(tmp_path) not in events


def test_too_few_values_are_told_so(launch):
    url, _ = launch()
    assert "number, order and types" in _call(url, "generate", {"data": ["x"]})


def test_an_upload_over_the_limit_is_refused_before_it_is_stored(launch, tmp_path):
    url, _ = launch()
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    body = head + b"x" * (21 * 1024 * 1024) + b"\r\n--b--\r\n"
    call = urllib.request.Request(f"{url}gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=b"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(call, timeout=30)
    assert caught.value.code == 413
    assert not any(path.stat().st_size > 1024 for path in (tmp_path / "uploads").rglob("*.jpg"))


def test_health_over_plain_http(launch):
    url, _ = launch()
    events = _call(url, "health", {"data": []})
    assert "event: complete" in events
    answer = json.loads(events.split("data: ")[-1])[0]
    assert answer["ready"] is True and answer["queue_length"] == 0 and answer["profile"] == "fake"


def test_a_plain_get_of_health_tells_whether_jobs_are_taken(launch):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from magicmirror.ui.launch import add_health_route

    _, engine = launch()
    server = FastAPI()
    add_health_route(server, engine)
    answer = TestClient(server).get("/health")
    assert answer.status_code == 200 and answer.json()["device"] == "cpu" and answer.json()["queue_length"] == 0
    engine.close()
    assert TestClient(server).get("/health").status_code == 503


def _call(url, name, body):
    """POST to an endpoint and read its events to the end."""
    call = urllib.request.Request(
        f"{url}gradio_api/call/{name}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    event_id = json.load(urllib.request.urlopen(call, timeout=10))["event_id"]
    return urllib.request.urlopen(f"{url}gradio_api/call/{name}/{event_id}", timeout=30).read().decode()


def test_a_login_is_asked_for_where_the_deployer_wants_one(launch, examples):
    url, _ = launch(login="ann:secret,bob:other")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url + "config", timeout=10)
    with pytest.raises(Exception, match=r"[Ll]ogin|credentials|auth"):
        Client(url, auth=("ann", "other"), verbose=False)
    client = Client(url, auth=("bob", "other"), verbose=False)
    assert len(client.predict([handle_file(examples / "man_1.jpg")], api_name="/analyze")["photos"]) == 1
    client.close()
