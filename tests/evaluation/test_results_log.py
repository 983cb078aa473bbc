import json

import pytest

from magicmirror.errors import ConfigError
from magicmirror.evaluation.results_log import ResultsLog

SETTINGS = {"steps": 4, "shape": (1, 2)}


def test_records_are_there_again(tmp_path):
    path = tmp_path / "log.jsonl"
    log = ResultsLog(path, SETTINGS)
    log.append({"name": "a", "value": 0.1})
    log.append({"name": "b", "value": None})
    assert ResultsLog(path, SETTINGS).records == [{"name": "a", "value": 0.1}, {"name": "b", "value": None}]


@pytest.mark.parametrize("kept", range(1, 12))
def test_torn_last_line_is_cut_off(tmp_path, kept):
    path = tmp_path / "log.jsonl"
    ResultsLog(path, SETTINGS).append({"name": "a"})
    complete = path.read_bytes()
    path.write_bytes(complete + b'{"name": "b"}\n'[:kept])
    log = ResultsLog(path, SETTINGS)
    assert log.records == [{"name": "a"}]
    assert path.read_bytes() == complete
    log.append({"name": "c"})
    assert [record["name"] for record in ResultsLog(path, SETTINGS).records] == ["a", "c"]


def test_torn_first_line_starts_again(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"settings": {"st')
    assert ResultsLog(path, SETTINGS).records == []
    assert json.loads(path.read_text()) == {"settings": {"steps": 4, "shape": [1, 2]}}


def test_other_settings_are_refused_and_named(tmp_path):
    path = tmp_path / "log.jsonl"
    ResultsLog(path, SETTINGS).append({"name": "a"})
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"steps: 4, now 5"):
        ResultsLog(path, {**SETTINGS, "steps": 5})
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not json\n", b"[1]\n", b'{"name": "a"}\n'])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        ResultsLog(path, SETTINGS)
    assert path.read_bytes() == content
