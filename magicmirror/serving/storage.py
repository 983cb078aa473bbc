"""Folders of results: one per session under the output folder, files named by job, removed by age.

Only videos and their settings are kept here. Reference photos and faces are never written to disk by the engine.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from pathlib import Path

from magicmirror.errors import ConfigError
from magicmirror.media import remove_stale_partials

log = logging.getLogger(__name__)

SESSION_PREFIX = "session-"


class ResultStorage:
    """Hands out paths for results and removes what is old.

    Args:
        root: Output folder; made when missing.
        max_age_s: Results older than this are removed by ``remove_expired``; 0 keeps them.

    Raises:
        ConfigError: When the folder cannot be made.
    """

    def __init__(self, root: Path, max_age_s: float = 24 * 3600.0) -> None:
        self.root = Path(root).resolve()
        self.max_age_s = max_age_s
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f'The output folder "{root}" cannot be made: {error.strerror}.') from error
        self._remove_partial()

    def video_path(self, session: str, job_id: str) -> Path:
        """Return where a job's mp4 goes; its folder exists afterwards."""
        folder = self.session_folder(session)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"magicmirror-{job_id}.mp4"

    def session_folder(self, session: str) -> Path:
        """Return a session's folder: a hash of its key, so that a key can hold anything and is not readable."""
        return self.root / (SESSION_PREFIX + hashlib.sha256(session.encode()).hexdigest()[:32])

    def remove_session(self, session: str) -> None:
        """Remove all results of a session."""
        shutil.rmtree(self.session_folder(session), ignore_errors=True)

    def remove_expired(self, now_s: float | None = None) -> int:
        """Remove results older than ``max_age_s`` and session folders left empty.

        Args:
            now_s: Time to compare with, seconds since the epoch; the clock's by default.

        Returns:
            How many files were removed.
        """
        if self.max_age_s <= 0:
            return 0
        oldest_s = (time.time() if now_s is None else now_s) - self.max_age_s
        removed = 0
        for folder in self.root.glob(SESSION_PREFIX + "*"):
            for path in folder.iterdir():
                if path.stat().st_mtime < oldest_s:
                    path.unlink(missing_ok=True)
                    removed += 1
            if not any(folder.iterdir()) and folder.stat().st_mtime < oldest_s:
                folder.rmdir()
        if removed:
            log.info("Removed %d expired files", removed)
        return removed

    def _remove_partial(self) -> None:
        """Remove what killed processes left half-written; files of running ones stay."""
        for folder in self.root.glob(SESSION_PREFIX + "*"):
            remove_stale_partials(folder, older_than_s=0.0)
