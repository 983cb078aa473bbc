"""A hard picture gets its documented answer, and the same one from Python, command line, API and page."""

from __future__ import annotations

import json

import pytest

from magicmirror.cli.main import main
from magicmirror.errors import NoFaceFound, SeveralFaces
from magicmirror.faces.selection import choose_face, photo_record
from magicmirror.media import load_image, write_image
from magicmirror.pipeline.profiles import find_profile
from magicmirror.serving.local_engine import LocalEngine
from magicmirror.serving.production import VideoMaker
from magicmirror.serving.storage import ResultStorage
from magicmirror.settings import Settings
from magicmirror.ui.api import Api
from magicmirror.ui.photos import analyse_photo
from magicmirror.ui.visitors import Visitors
from tests.hard_pictures import ANSWERS, hard_picture


@pytest.fixture(scope="module")
def engine(tmp_path_factory, face_analyzer):
    """The real engine; no test of this file needs its weights."""
    maker = VideoMaker(find_profile("preview", Settings()), analyzer=face_analyzer)
    with_storage = LocalEngine(maker, ResultStorage(tmp_path_factory.mktemp("results"), 3600))
    yield with_storage
    with_storage.close()


@pytest.mark.parametrize("name", ANSWERS)
def test_the_answer_is_documented_and_the_same_everywhere(
    name, capsys, examples, engine, face_analyzer, tmp_path, repository, run_coroutine
) -> None:
    path = write_image(hard_picture(name, examples), tmp_path / f"{name}.png")
    count, chosen = ANSWERS[name]
    faces = face_analyzer.analyze(load_image(path))
    record = photo_record(faces)
    assert (len(faces), record["chosen"]) == (count, chosen)
    if chosen is None:
        with pytest.raises(SeveralFaces if count else NoFaceFound) as caught:
            choose_face(faces)
        assert record["problem"] == str(caught.value)

    assert run_coroutine(Api(engine, Visitors(tmp_path)).analyze([str(path)]))["photos"] == [record]

    on_page = analyse_photo(engine, path)
    assert (len(on_page.faces), on_page.chosen, on_page.undecided) == (count, chosen, count > 0 and chosen is None)
    assert on_page.problem == ("" if count else record["problem"])

    status = main(["faces", str(path), "--json"])
    printed = capsys.readouterr()
    if count:
        assert status == 0 and json.loads(printed.out) == record
    else:
        assert status == 2 and printed.out == ""
        assert record["problem"] in printed.err and printed.err.count("\n") == 1

    documented = (repository / "docs" / "faces.md").read_text(encoding="utf-8")
    answer = f"{count} face{'' if count == 1 else 's'}, " + ("taken" if chosen == 0 else "none taken")
    assert any(f"`{name}`" in line and answer in line for line in documented.splitlines())
