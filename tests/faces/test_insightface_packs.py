"""Packs on disk: nested, half there, by hand, downloaded from a server of our own, killed, and without a network."""

from __future__ import annotations

import http.server
import io
import signal
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.faces import insightface_packs
from magicmirror.faces.insightface_packs import PACK_FILES, ensure_pack, onnx_folder, pack_root
from tests.faces.insightface_pack import write_pack

FILES = ["det_10g.onnx", "genderage.onnx", "w600k_r50.onnx"]


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    """A folder with the files of the small pack."""
    return write_pack(tmp_path_factory.mktemp("pack"))


def archive(pack: Path, inside: str = "") -> bytes:
    """Return a zip of a pack, below a folder ``inside`` of the archive, with what macOS adds to archives."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in sorted(pack.iterdir()):
            opened.write(path, inside + path.name)
            opened.writestr(f"__MACOSX/{inside}._{path.name}", b"resource fork")
    return data.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def release_page(answers: dict[str, tuple[int, int, bytes]], monkeypatch, tmp_path: Path, stall: bool = False):
    """Stand in for insightface's release page.

    Args:
        answers: Path -> status, announced length and body; other paths are 404.
        monkeypatch: Lets downloads run and points them here.
        tmp_path: For the file that points insightface here.
        stall: Whether to keep the connection open after the body, as a server that hangs does.

    Yields:
        The list of paths that were asked for.
    """
    asked: list[str] = []
    closing = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, length, body = answers.get(self.path, (404, 9, b"Not Found"))
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
            if stall:
                closing.wait(60)

        def log_message(self, *args) -> None:
            """Print nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_insightface_at(f"http://127.0.0.1:{server.server_port}/", monkeypatch, tmp_path)
    try:
        yield asked
    finally:
        closing.set()
        server.shutdown()
        server.server_close()


def point_insightface_at(url: str, monkeypatch, tmp_path: Path) -> None:
    """Let the process that downloads take insightface's packs from another address."""
    site = tmp_path / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(
        f"import insightface.utils.storage as storage\nstorage.MODEL_ZOO_RELEASE_DOWNLOAD_URL = {url!r}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def answer(body: bytes, status: int = 200) -> tuple[int, int, bytes]:
    return (status, len(body), body)


def assert_nothing_was_kept(root: Path, name: str = "buffalo_l") -> None:
    assert names(root / "models") == [f".{name}.lock"]


def test_a_flat_pack_is_taken_where_it_is(tmp_path) -> None:
    folder = write_pack(tmp_path / "models" / "buffalo_l")
    assert ensure_pack("buffalo_l", tmp_path) == folder
    assert names(tmp_path / "models") == ["buffalo_l"]


@pytest.mark.parametrize("inside", ["buffalo_l", "antelope/buffalo_l"])
def test_a_pack_unpacked_by_hand_one_folder_too_deep_is_found(inside, tmp_path) -> None:
    place = tmp_path / "models" / "buffalo_l"
    folder = write_pack(place / inside)
    resources = place / "__MACOSX" / inside
    resources.mkdir(parents=True)
    (resources / "._det_10g.onnx").write_bytes(b"resource fork")
    (resources / "det_10g.onnx").write_bytes(b"resource fork")
    assert ensure_pack("buffalo_l", tmp_path) == folder
    assert names(folder) == FILES


def test_two_packs_in_one_place_are_refused(tmp_path) -> None:
    place = tmp_path / "models" / "buffalo_l"
    write_pack(place / "first")
    write_pack(place / "second")
    assert onnx_folder(place) is None
    with pytest.raises(WeightsError, match=r"does not hold the \.onnx files of one pack") as caught:
        ensure_pack("buffalo_l", tmp_path)
    assert f'"{place}"' in caught.value.message
    assert names(place) == ["first", "second"]


def test_an_incomplete_pack_names_what_is_missing(tmp_path) -> None:
    folder = write_pack(tmp_path / "models" / "buffalo_l")
    (folder / "w600k_r50.onnx").unlink()
    with pytest.raises(WeightsError, match=r"incomplete: w600k_r50\.onnx missing") as caught:
        ensure_pack("buffalo_l", tmp_path)
    assert f'Delete the folder "{folder}"' in caught.value.remedy


@pytest.mark.parametrize("inside", ["", "buffalo_l/"])
def test_an_archive_put_there_by_hand_is_unpacked_flat(inside, pack, tmp_path) -> None:
    models = tmp_path / "models"
    (models / "buffalo_l").mkdir(parents=True)  # empty, as a killed insightface leaves it
    (models / "buffalo_l.zip").write_bytes(archive(pack, inside))
    assert ensure_pack("buffalo_l", tmp_path) == models / "buffalo_l"
    assert set(FILES) <= set(names(models / "buffalo_l"))
    assert [path.read_bytes() for path in (models / "buffalo_l" / file for file in FILES)] == [
        (pack / file).read_bytes() for file in FILES
    ]
    assert names(models) == [".buffalo_l.lock", "buffalo_l", "buffalo_l.zip"]


@pytest.mark.parametrize("damage", ["half", "bit", "text"])
def test_a_damaged_archive_is_named(damage, pack, tmp_path) -> None:
    whole = archive(pack)
    flipped = bytearray(whole)
    flipped[2000] ^= 0xFF
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "buffalo_l.zip"
    path.write_bytes({"half": whole[: len(whole) // 2], "bit": bytes(flipped), "text": b"<html></html>"}[damage])
    with pytest.raises(WeightsError, match="damaged or only half there") as caught:
        ensure_pack("buffalo_l", tmp_path)
    assert f'"{path}"' in caught.value.message and caught.value.remedy.startswith("Delete it")
    assert names(tmp_path / "models") == [".buffalo_l.lock", "buffalo_l.zip"]


def test_an_archive_of_something_else_is_named(tmp_path) -> None:
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "buffalo_l.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("readme.txt", "nothing")
    with pytest.raises(WeightsError, match=r"does not hold the \.onnx files") as caught:
        ensure_pack("buffalo_l", tmp_path)
    assert f'"{path}"' in caught.value.message
    assert not (tmp_path / "models" / "buffalo_l").exists()


def test_a_download_that_nests_a_folder_becomes_flat(pack, tmp_path, monkeypatch, capfd) -> None:
    body = archive(pack, "buffalo_l/")
    root = tmp_path / "root"
    with release_page({"/buffalo_l.zip": answer(body)}, monkeypatch, tmp_path) as asked:
        assert ensure_pack("buffalo_l", root) == root / "models" / "buffalo_l"
        assert ensure_pack("buffalo_l", root) == root / "models" / "buffalo_l"
    assert asked == ["/buffalo_l.zip"]
    assert names(root / "models" / "buffalo_l") == FILES
    assert names(root / "models") == [".buffalo_l.lock", "buffalo_l"]
    assert capfd.readouterr() == ("", "")


def test_many_at_once_download_once(pack, tmp_path, monkeypatch) -> None:
    root = tmp_path / "root"
    page = release_page({"/buffalo_l.zip": answer(archive(pack))}, monkeypatch, tmp_path)
    with page as asked, ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: ensure_pack("buffalo_l", root), range(4)))
    assert folders == [root / "models" / "buffalo_l"] * 4
    assert asked == ["/buffalo_l.zip"]


@pytest.mark.parametrize("fault", ["missing", "page", "cut"])
def test_a_failed_download_keeps_nothing_and_says_what_to_do(fault, pack, tmp_path, monkeypatch, capfd) -> None:
    body = archive(pack)
    answers = {
        "missing": {},
        "page": {"/buffalo_l.zip": answer(b"<html>Please log in</html>")},
        "cut": {"/buffalo_l.zip": (200, len(body), body[: len(body) // 2])},
    }[fault]
    root = tmp_path / "root"
    with release_page(answers, monkeypatch, tmp_path), pytest.raises(WeightsError) as caught:
        ensure_pack("buffalo_l", root)
    reason = {"missing": "Failed downloading url", "page": "not a zip file", "cut": "IncompleteRead"}[fault]
    assert reason in caught.value.message
    assert_by_hand(caught.value, root)
    assert_nothing_was_kept(root)
    assert capfd.readouterr() == ("", "")


def assert_by_hand(error: WeightsError, root: Path) -> None:
    """The exact folder, the exact files, where to take them from, and the licence."""
    assert f'the folder "{root / "models" / "buffalo_l"}" holds det_10g.onnx and w600k_r50.onnx' in error.remedy
    assert '"buffalo_l.zip"' in error.remedy and "deepinsight/insightface on GitHub" in error.remedy
    assert "non-commercial" in error.remedy


def test_without_a_network_the_remedy_is_the_same(tmp_path, monkeypatch) -> None:
    closed = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    port = closed.server_port
    closed.server_close()
    point_insightface_at(f"http://127.0.0.1:{port}/", monkeypatch, tmp_path)
    root = tmp_path / "root"
    with pytest.raises(WeightsError, match="could not be downloaded") as caught:
        ensure_pack("buffalo_l", root)
    assert caught.value.message.endswith(": 127.0.0.1 cannot be reached.")
    assert_by_hand(caught.value, root)
    assert_nothing_was_kept(root)


def test_offline_mode_asks_nobody(tmp_path, monkeypatch) -> None:
    root = tmp_path / "root"
    with release_page({}, monkeypatch, tmp_path) as asked:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set") as caught:
            ensure_pack("buffalo_l", root)
    assert asked == []
    assert_by_hand(caught.value, root)


def test_a_silent_server_is_given_up(pack, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(insightface_packs, "STALL_LIMIT_S", 3.0)
    body = archive(pack)
    root = tmp_path / "root"
    half = {"/buffalo_l.zip": (200, len(body), body[: len(body) // 2])}
    started = time.monotonic()
    with release_page(half, monkeypatch, tmp_path, stall=True), pytest.raises(WeightsError, match="nothing came for 3"):
        ensure_pack("buffalo_l", root)
    assert time.monotonic() - started < 30
    assert_nothing_was_kept(root)


def test_a_killed_download_is_started_anew(pack, tmp_path, monkeypatch, repository) -> None:
    body = archive(pack)
    root = tmp_path / "root"
    code = (
        "from pathlib import Path\n"
        "from huggingface_hub import constants\n"
        "constants.HF_HUB_OFFLINE = False\n"
        "from magicmirror.faces.insightface_packs import ensure_pack\n"
        f"ensure_pack('buffalo_l', Path({str(root)!r}))\n"
    )
    half = {"/buffalo_l.zip": (200, len(body), body[: len(body) // 2])}
    with release_page(half, monkeypatch, tmp_path, stall=True) as asked:
        victim = subprocess.Popen([sys.executable, "-c", code], cwd=repository)
        deadline = time.monotonic() + 60
        while not asked and time.monotonic() < deadline:
            time.sleep(0.05)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        (left,) = (root / "models").glob(".buffalo_l.*.partial")
        assert not (root / "models" / "buffalo_l").exists()
        # The same folder, while the orphaned download still hangs on the first server.
        with release_page({"/buffalo_l.zip": answer(body)}, monkeypatch, tmp_path):
            assert set(FILES) <= set(names(ensure_pack("buffalo_l", root)))
        assert not left.exists()
        assert names(root / "models") == [".buffalo_l.lock", "buffalo_l"]


def test_a_root_that_cannot_be_written_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WeightsError, match="cannot be written") as caught:
        ensure_pack("buffalo_l", tmp_path / "file")
    assert str(tmp_path / "file") in caught.value.message and "MAGICMIRROR_FACE_PACKS" in caught.value.remedy


@pytest.mark.parametrize("name", ["", "..", "../buffalo_l", "a/b", ".hidden", "a b"])
def test_names_that_are_paths_are_refused(name, tmp_path) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a pack"):
        ensure_pack(name, tmp_path)
    assert names(tmp_path) == []


def test_where_packs_live(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MAGICMIRROR_FACE_PACKS", raising=False)
    assert pack_root() == tmp_path / ".insightface"
    monkeypatch.setenv("MAGICMIRROR_FACE_PACKS", "~/packs")
    assert pack_root() == tmp_path / "packs"
    assert pack_root(tmp_path / "given") == tmp_path / "given"


def test_every_known_pack_is_in_the_documentation(repository) -> None:
    text = (repository / "docs" / "faces.md").read_text(encoding="utf-8")
    for name, files in PACK_FILES.items():
        assert f"`{name}`" in text
        assert all(f"`{file}`" in text for file in files)
    assert "non-commercial" in text
