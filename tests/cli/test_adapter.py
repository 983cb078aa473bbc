"""``adapter``: the shipped model's, taken out, looked into, and refused where it is none."""

import json

from magicmirror.cli.main import main


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
