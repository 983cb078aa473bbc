"""Photos of a visitor: which face is meant, and that all of it is forgotten."""

from __future__ import annotations

import pytest

from magicmirror.errors import FaceError, NoFaceFound, SeveralFaces
from magicmirror.serving.fake_engine import FakeEngine
from magicmirror.serving.storage import ResultStorage
from magicmirror.ui.photos import AnalysedPhoto, analyse_photo, chosen_faces, pick_face
from magicmirror.ui.visitors import Visitors


@pytest.fixture
def photos(example_references):
    man, woman = example_references["man_1"], example_references["woman_1"]
    return (AnalysedPhoto((man,), chosen=0), AnalysedPhoto((man, woman)))


def test_a_choice_is_needed_where_several_faces_compare(photos):
    with pytest.raises(SeveralFaces, match="Photo 2"):
        chosen_faces(photos)
    picked = pick_face(photos, 1, 1)
    assert [face is expected for face, expected in zip(
        chosen_faces(picked), (photos[0].faces[0], photos[1].faces[1]), strict=True
    )] == [True, True]  # fmt: skip
    assert photos[1].undecided and not picked[1].undecided


def test_a_photo_without_face_is_left_out_unless_it_is_the_only_one(photos):
    empty = AnalysedPhoto(problem="No face.")
    assert chosen_faces((photos[0], empty)) == (photos[0].faces[0],)
    with pytest.raises(NoFaceFound):
        chosen_faces((empty,))
    with pytest.raises(FaceError, match="photo first"):
        chosen_faces(())


@pytest.mark.parametrize(("photo", "face"), [(2, 0), (0, 1), (-1, 0), (0, -1)])
def test_a_face_that_is_not_there_cannot_be_picked(photos, photo, face):
    with pytest.raises(FaceError, match="no such face"):
        pick_face(photos, photo, face)


def test_analysis_turns_every_outcome_into_something_to_show(tmp_path, examples):
    engine = FakeEngine(ResultStorage(tmp_path / "results"))
    try:
        assert analyse_photo(engine, examples / "man_1.jpg").chosen == 0
        assert analyse_photo(engine, examples / "two_people.jpg").undecided
        (tmp_path / "text.jpg").write_text("text")
        assert "not a picture" in analyse_photo(engine, tmp_path / "text.jpg").problem
    finally:
        engine.close()


def test_leaving_forgets_faces_and_deletes_own_uploads_only(tmp_path, photos):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    mine, shared, elsewhere = uploads / "mine.jpg", uploads / "shared.jpg", tmp_path / "example.jpg"
    for path in (mine, shared, elsewhere):
        path.write_bytes(b"x")
    visitors = Visitors(uploads)
    visitors.set_photos("a", photos, [mine, shared, elsewhere])
    visitors.set_photos("b", photos, [shared])
    visitors.set_job("a", "job")
    visitors.forget("a")
    visitors.forget("never seen")
    assert visitors.photos("a") == () and visitors.job("a") is None and visitors.photos("b") == photos
    assert not mine.exists() and shared.exists() and elsewhere.exists()
    visitors.forget("b")
    assert not shared.exists()


def test_the_visitor_unseen_for_longest_makes_room(tmp_path, photos):
    visitors = Visitors(tmp_path, capacity=2)
    for session in ("a", "b"):
        visitors.set_photos(session, photos)
    visitors.photos("a")
    visitors.set_photos("c", photos)
    assert [bool(visitors.photos(session)) for session in ("a", "c")] == [True, True]
    assert visitors.photos("b") == ()


def test_results_belong_to_the_browser_and_without_one_to_the_page(tmp_path):
    visitors = Visitors(tmp_path)
    assert visitors.owner("page") == "page"
    visitors.set_owner("page", "secret of the browser")
    visitors.set_job("page", "job", 2)
    visitors.set_running("page", "other")
    assert visitors.owner("page") == "secret of the browser" and visitors.owner("another page") == "another page"
    assert (visitors.job("page"), visitors.take("page"), visitors.running("page")) == ("job", 2, "other")
    visitors.set_job("page", "next")
    assert visitors.take("page") is None and visitors.take("another page") is None


def test_only_uploads_are_deleted(tmp_path):
    uploads, elsewhere = tmp_path / "uploads", tmp_path / "video.mp4"
    uploads.mkdir()
    upload = uploads / "video.mp4"
    for path in (upload, elsewhere):
        path.write_bytes(b"x")
    visitors = Visitors(uploads)
    for path in (upload, elsewhere, uploads / ".." / "video.mp4", uploads / "gone.mp4"):
        visitors.delete_upload(path)
    assert not upload.exists() and elsewhere.exists()


def test_an_upload_that_an_open_page_shows_is_not_deleted(tmp_path, photos):
    upload = tmp_path / "mine.jpg"
    upload.write_bytes(b"x")
    visitors = Visitors(tmp_path)
    visitors.set_photos("page", photos, [upload])
    visitors.delete_unused(upload)
    assert upload.exists()
    visitors.set_photos("page", (), ())
    visitors.forget("page")
    assert not upload.exists()
    upload.write_bytes(b"x")
    visitors.delete_unused(upload)
    assert not upload.exists()


def test_what_was_asked_counts_until_something_changes(tmp_path, photos):
    visitors = Visitors(tmp_path)
    assert not visitors.still_asks("page", "a wave")
    visitors.set_photos("page", photos)
    visitors.set_asked("page", "a wave")
    assert visitors.still_asks("page", "a wave") and not visitors.still_asks("another page", "a wave")
    assert visitors.still_asks("page", "a wave")
    assert not visitors.still_asks("page", "a smile")
    assert not visitors.still_asks("page", "a wave")  # a refusal is over, though all is as it was again
    visitors.set_asked("page", "a wave")
    visitors.set_photos("page", (*photos,)[:1])
    assert not visitors.still_asks("page", "a wave")
