"""What the page remembers of each visitor, in memory only, and how it is forgotten."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from magicmirror.ui.photos import AnalysedPhoto

MAX_VISITORS = 500


@dataclass
class Visitor:
    """One open page.

    Args:
        photos: Analysed photos with the reference faces.
        files: Uploaded files and their copies, to be deleted when the page is closed.
        originals: Copy that is shown in a photo's place -> the photo.
        owner: Secret of the visitor's browser; its results belong to it, and survive the page.
        running: The job that the page follows.
        job_id: The job that the page shows: the one that ended last, or one that was opened again.
        take: Which take or shot of it is looked at; ``None`` for the job's own video.
        restored: The prompt that came back with settings; ``None`` before.
        asked: What "Generate" was pressed with the last time: form and consent, and the photos then.
    """

    photos: tuple[AnalysedPhoto, ...] = ()
    files: set[Path] = field(default_factory=set)
    originals: dict[Path, Path] = field(default_factory=dict)
    owner: str = ""
    running: str | None = None
    job_id: str | None = None
    take: int | None = None
    restored: str | None = None
    asked: tuple[object, tuple[AnalysedPhoto, ...]] | None = None


class Visitors:
    """All open pages by session key; faces and uploaded files go when a page is closed.

    Args:
        upload_folder: Only files in here are ever deleted.
        capacity: When more visitors than this are known, the one unseen for longest is forgotten.
    """

    def __init__(self, upload_folder: Path, capacity: int = MAX_VISITORS) -> None:
        self.upload_folder = upload_folder.resolve()
        self._capacity = capacity
        self._lock = threading.Lock()
        self._visitors: OrderedDict[str, Visitor] = OrderedDict()

    def photos(self, session: str) -> tuple[AnalysedPhoto, ...]:
        """Return a visitor's photos."""
        with self._lock:
            return self._visit(session).photos

    def set_photos(self, session: str, photos: Sequence[AnalysedPhoto], files: Sequence[Path] = ()) -> None:
        """Replace a visitor's photos and note the files they came in."""
        with self._lock:
            visitor = self._visit(session)
            visitor.photos = tuple(photos)
            visitor.files.update(file.resolve() for file in files)

    def add_copy(self, session: str, copy: Path, photo: Path) -> None:
        """Note a file that is shown in the place of a photo."""
        with self._lock:
            visitor = self._visit(session)
            visitor.files.add(copy.resolve())
            visitor.originals[copy.resolve()] = photo

    def original(self, session: str, shown: Path) -> Path:
        """Return the photo that a shown file is a copy of, or the file itself."""
        with self._lock:
            return self._visit(session).originals.get(shown.resolve(), shown)

    def job(self, session: str) -> str | None:
        """Return the id of the job that a visitor looks at."""
        with self._lock:
            return self._visit(session).job_id

    def set_job(self, session: str, job_id: str | None, take: int | None = None) -> None:
        """Note the job, and the take of it, that a visitor looks at."""
        with self._lock:
            visitor = self._visit(session)
            visitor.job_id, visitor.take = job_id, take

    def running(self, session: str) -> str | None:
        """Return the id of the job that a visitor's page follows."""
        with self._lock:
            return self._visit(session).running

    def set_running(self, session: str, job_id: str | None) -> None:
        """Note the job that a visitor's page follows."""
        with self._lock:
            self._visit(session).running = job_id

    def take(self, session: str) -> int | None:
        """Return which take of the job a visitor looks at."""
        with self._lock:
            return self._visit(session).take

    def restored(self, session: str) -> str | None:
        """Return the prompt that came back with the settings of an earlier result."""
        with self._lock:
            return self._visit(session).restored

    def set_restored(self, session: str, prompt: str) -> None:
        """Note the prompt that comes back with the settings of an earlier result."""
        with self._lock:
            self._visit(session).restored = prompt

    def set_asked(self, session: str, asked: object) -> None:
        """Note with what "Generate" was pressed, besides the photos."""
        with self._lock:
            visitor = self._visit(session)
            visitor.asked = asked, visitor.photos

    def still_asks(self, session: str, asked: object) -> bool:
        """Whether nothing has changed since "Generate" was pressed; the first change ends that, whatever follows."""
        with self._lock:
            visitor = self._visit(session)
            if visitor.asked is None or visitor.asked[0] != asked or visitor.asked[1] is not visitor.photos:
                visitor.asked = None
            return visitor.asked is not None

    def owner(self, session: str) -> str:
        """Return the secret of a visitor's browser; the page's own key where the browser keeps none."""
        with self._lock:
            return self._visit(session).owner or session

    def set_owner(self, session: str, owner: str) -> None:
        """Note which browser a page belongs to."""
        with self._lock:
            self._visit(session).owner = owner

    def forget(self, session: str) -> None:
        """Drop a visitor's faces and delete the uploaded files that nobody else uses."""
        with self._lock:
            self._forget(session)

    def delete_upload(self, file: Path) -> None:
        """Delete an uploaded file at once; files elsewhere stay."""
        if file.resolve().is_relative_to(self.upload_folder):
            file.unlink(missing_ok=True)

    def delete_unused(self, file: Path) -> None:
        """Delete an uploaded file unless an open page shows it."""
        with self._lock:
            if not any(file.resolve() in visitor.files for visitor in self._visitors.values()):
                self.delete_upload(file)

    def _visit(self, session: str) -> Visitor:
        visitor = self._visitors.setdefault(session, Visitor())
        self._visitors.move_to_end(session)
        while len(self._visitors) > self._capacity:
            self._forget(next(iter(self._visitors)))
        return visitor

    def _forget(self, session: str) -> None:
        visitor = self._visitors.pop(session, None)
        if visitor is None:
            return
        in_use = set().union(*(other.files for other in self._visitors.values()))
        for file in visitor.files - in_use:
            self.delete_upload(file)
