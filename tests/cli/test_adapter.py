"""``adapter``: the shipped model's, taken out, looked into, and refused where it is none."""

import json
import logging

import pytest

from magicmirror.cli.main import main
from tests.tiny_hub import TinyHub, use_hub


def test_export_and_inspect(repository, tmp_path, capsys):
    model, package = repository / "assets/models/preview", tmp_path / "package"
    assert main(["adapter", "export", str(model), str(package), "--license", "mit"]) == 0
    shown = capsys.readouterr().out
    assert "preset                       preview" in shown and f"written to {package}" in shown
    assert main(["adapter", "inspect", str(package), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["preset"] == "preview" and report["dtypes"] == ["F16"]
    assert f"{report['parts']['transformer']:,}" in shown and report["sha256"] in shown


def test_no_adapter_ends_in_one_line(tmp_path, capsys):
    for arguments in (["inspect", str(tmp_path)], ["export", str(tmp_path / "none"), str(tmp_path / "out")]):
        assert main(["adapter", *arguments]) == 1
        message = capsys.readouterr().err
        assert "no adapter" in message and message.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = TinyHub(tmp_path / "hub")
    use_hub(hub, monkeypatch, tmp_path / "cache")
    yield hub
    hub.stop()


def test_a_hub_that_refuses_is_one_line_although_it_is_asked_many_times(hub, capsys, monkeypatch):
    (hub.root / "me/adapter").mkdir(parents=True)
    (hub.root / "me/adapter/magicmirror_adapter.json").write_text("{}")
    hub.refused = {"magicmirror_adapter.json": 429}
    library, lines = logging.getLogger("huggingface_hub"), []
    monkeypatch.setattr(library, "level", logging.WARNING)
    monkeypatch.setattr(library, "handlers", [handler := logging.Handler()])
    handler.emit = lines.append
    assert main(["adapter", "inspect", "me/adapter"]) == 1
    assert len([path for _, path, _ in hub.requests if path.endswith("adapter.json")]) > 2
    message = capsys.readouterr().err
    assert not lines and message.count("\n") == 1 and "too many requests" in message
