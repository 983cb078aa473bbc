"""Two real processes: a client of the API in one, the server in another; and a server that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from gradio_client import Client, handle_file

SERVER = """
import sys
from magicmirror.serving.fake_engine import FakeEngine, FakeJob
from magicmirror.serving.storage import ResultStorage
from magicmirror.settings import Settings
from magicmirror.ui.launch import serve
from magicmirror.ui.page import build_app

settings = Settings.from_environment()
engine = FakeEngine(ResultStorage(settings.output_dir), default=FakeJob(step_s=float(sys.argv[1])))
serve(build_app(engine, settings), engine, settings)
"""

CLIENT = """
import json, sys
from gradio_client import Client, handle_file

url, photo = sys.argv[1:]
client = Client(url, verbose=False)
answers = {"faces": len(client.predict([handle_file(photo)], api_name="/analyze")["photos"][0]["faces"])}
status, video, settings, files = client.predict([handle_file(photo)], "a man smiles", seed=3, api_name="/generate")
answers["made"] = [status["state"], settings["seed"], video.endswith(".mp4")]
job = client.submit([handle_file(photo)], "a man smiles", steps=500, api_name="/generate")
while not job.outputs():
    pass
client.predict(job.outputs()[0][0]["job_id"], api_name="/cancel")
answers["stopped"] = job.result()[0]["state"]
refused = {
    "long prompt": {"prompt": "a man " * 2000},
    "server page": {"photos": [handle_file(url + "config")]},
    "missing": {"photos": None},
    "wrong type": {"steps": {"a": 1}},
}
for name, changes in refused.items():
    try:
        client.predict(**{"photos": [handle_file(photo)], "prompt": "a man", **changes}, api_name="/generate")
        answers[name] = "accepted"
    except Exception as error:
        answers[name] = str(error)
print(json.dumps(answers))
"""


@pytest.fixture
def start(serve_process):
    """``start(step_s) -> (process, url)``: the page and the API on a fake engine, in a process of its own."""
    return lambda step_s=0.02: serve_process("-c", SERVER, str(step_s))


def test_a_client_in_another_process_is_served_and_refused(start, examples, repository):
    _, url = start()
    client = subprocess.run(
        [sys.executable, "-c", CLIENT, url, str(examples / "man_1.jpg")],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    answers = json.loads(client.stdout)
    assert answers["faces"] == 1 and answers["made"] == ["done", 3, True] and answers["stopped"] == "cancelled"
    assert "12000 characters" in answers["long prompt"] and "whole number" in answers["wrong type"]
    assert "have to be uploaded" in answers["server page"] and "photo" in answers["missing"]
    assert not any(str(repository) in str(answer) or "Traceback" in str(answer) for answer in answers.values())


def test_a_killed_server_starts_again_and_says_what_became_of_the_job(start, examples, tmp_path):
    process, url = start(step_s=0.2)
    client = Client(url, verbose=False)
    photo, visitor = [handle_file(examples / "man_1.jpg")], "v" * 20
    job = client.submit(photo, "a man smiles", steps=500, takes=2, visitor=visitor, api_name="/generate")
    while not (job.outputs() and job.outputs()[-1][0]["step"] > 1):
        time.sleep(0.05)
    job_id = job.outputs()[-1][0]["job_id"]
    process.send_signal(signal.SIGKILL)
    process.wait()

    _, url = start()
    again = Client(url, verbose=False)
    status, *files = again.predict(job_id, visitor=visitor, api_name="/recover")
    assert status["state"] == "failed" and "server was stopped" in status["message"] and files == [None, None, None]
    assert again.predict(photo, "a man smiles", api_name="/generate")[0]["state"] == "done"
    assert not [path for path in (tmp_path / "results").rglob("*") if "partial" in path.name]


def test_sigterm_marks_the_job_and_ends_in_good_order(start, examples, tmp_path):
    process, url = start(step_s=0.2)
    client = Client(url, verbose=False)
    job = client.submit(
        [handle_file(examples / "man_1.jpg")], "a man smiles", steps=500, visitor="v" * 20, api_name="/generate"
    )
    while not (job.outputs() and job.outputs()[-1][0]["step"] > 0):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    (record,) = (tmp_path / "results").rglob("*.job")
    assert json.loads(record.read_text())["state"] == "cancelled"
