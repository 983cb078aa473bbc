"""What of a photo and of a result stays on the machine after the API was asked, and what is gone."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

import pytest
from gradio_client import Client, handle_file

from magicmirror.ui import uploads

VISITOR = "visitor-secret-0123456789"


@pytest.fixture
def bare(launch, monkeypatch):
    """``(url, client)``; files are answered by their address and not fetched."""
    monkeypatch.setattr(uploads, "UPLOAD_GRACE_S", 0.5)
    url, _ = launch()
    client = Client(url, verbose=False, download_files=False)
    yield url, client
    client.close()


@pytest.mark.parametrize("kind", ["generate", "image"])
def test_forget_leaves_no_copy_of_a_result(bare, examples, tmp_path, kind):
    _, client = bare
    photo = [handle_file(examples / "man_3.jpg")]
    status, file, _, files = client.predict(photo, "a man nods", visitor=VISITOR, api_name=f"/{kind}")
    addresses = [file["url"], *(each["url"] for each in files)]
    assert all(len(urllib.request.urlopen(address, timeout=10).read()) > 1000 for address in addresses)
    assert client.predict(status["job_id"], visitor=VISITOR, api_name="/forget") == []
    for address in addresses:
        with pytest.raises(urllib.error.HTTPError, match=r"40[34]"):
            urllib.request.urlopen(address, timeout=10)
    assert not [path for path in tmp_path.rglob("*") if status["job_id"] in path.name]


def test_a_photo_is_deleted_soon_after_its_last_call(bare, examples, tmp_path):
    _, client = bare
    photo = [handle_file(examples / "man_3.jpg")]
    client.predict(photo, api_name="/analyze")
    assert _uploaded(tmp_path)  # a client over plain HTTP may go on with the same upload
    client.predict(photo, "a man nods", api_name="/generate")
    _wait(lambda: not _uploaded(tmp_path))


def test_a_photo_goes_also_when_the_call_is_refused(bare, examples, tmp_path):
    _, client = bare
    with pytest.raises(Exception, match="takes must lie"):
        client.predict([handle_file(examples / "man_3.jpg")], "a man", takes=99, api_name="/generate")
    _wait(lambda: not _uploaded(tmp_path))


def test_a_photo_that_was_sent_again_meanwhile_stays(bare, examples, tmp_path):
    _, client = bare
    photo = [handle_file(examples / "man_3.jpg")]
    begun = time.monotonic()
    while time.monotonic() - begun < 1.5:  # three times the grace; a file deleted too early would be an error
        jobs = [client.submit(photo, api_name="/analyze") for _ in range(3)]
        assert all(job.result(timeout=30)["photos"][0]["chosen"] == 0 for job in jobs)
    _wait(lambda: not _uploaded(tmp_path))


def _uploaded(folder):
    """Every file, also those that Gradio makes on its own."""
    return [path for path in (folder / "uploads").rglob("*") if path.is_file()]


def _wait(reached, timeout_s=10.0):
    end = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.1)
