"""The engine that runs the model in this process: one worker thread owns the pipeline while the process lives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from magicmirror.media import load_image
from magicmirror.pipeline.profiles import find_profile
from magicmirror.serving.engine import EngineHealth, Photo
from magicmirror.serving.jobs import JobResult
from magicmirror.serving.production import VideoMaker
from magicmirror.serving.queued_engine import QueuedEngine
from magicmirror.serving.storage import ResultStorage
from magicmirror.serving.worker import Report
from magicmirror.settings import Settings
from magicmirror.types import FaceReference, GenerationRequest

log = logging.getLogger(__name__)


class LocalEngine(QueuedEngine):
    """One pipeline, loaded once, in one thread.

    Args:
        maker: Makes the videos.
        storage: Where results go.
        capacity: Jobs that may wait.
        max_upload_bytes: Largest accepted picture.
        warm_up: Load the weights at once rather than with the first job.
    """

    def __init__(
        self,
        maker: VideoMaker,
        storage: ResultStorage,
        capacity: int = 8,
        max_upload_bytes: int = 20 * 1024 * 1024,
        warm_up: bool = False,
    ) -> None:
        self._maker = maker
        self._max_upload_bytes = max_upload_bytes
        self._load_error = ""
        super().__init__(storage, capacity, maker.profile.name, on_start=self._warm_up if warm_up else None)

    @classmethod
    def from_settings(cls, settings: Settings) -> LocalEngine:
        """Build the engine that the settings describe and start loading its weights.

        Raises:
            ConfigError: When a setting cannot work.
        """
        storage = ResultStorage(settings.output_dir, settings.retention_hours * 3600)
        maker = VideoMaker(find_profile(settings.profile, settings), settings.device, settings.threads)
        return cls(maker, storage, settings.queue_size, settings.max_upload_bytes, warm_up=True)

    def analyze(self, photo: Photo) -> tuple[FaceReference, ...]:
        """See ``Engine.analyze``."""
        image = photo if isinstance(photo, np.ndarray) else load_image(photo, self._max_upload_bytes)
        return self._maker.analyzer.analyze(image)

    def check(self, request: GenerationRequest) -> None:
        """Refuse what the profile cannot make, before it waits in the queue."""
        self._maker.check(request)

    def make_video(
        self, request: GenerationRequest, path: Path, report: Report, should_stop: Callable[[], bool]
    ) -> JobResult:
        """See ``QueuedEngine.make_video``."""
        result = self._maker.make(request, path, report, should_stop)
        self._load_error = ""
        return result

    def health(self) -> EngineHealth:
        """See ``Engine.health``; weights that could not be loaded are reported here."""
        health = super().health()
        if not self._load_error or self.model_loaded:
            return health
        return replace(health, ready=False, message=self._load_error)

    def close(self) -> None:
        """See ``Engine.close``."""
        super().close()
        self._maker.free()

    @property
    def device(self) -> str:
        """Where the model runs; empty before it is loaded."""
        return self._maker.device

    @property
    def model_loaded(self) -> bool:
        """Whether the weights are resident."""
        return self._maker.loaded

    def _warm_up(self) -> None:
        try:
            self._maker.load()
        except Exception as error:
            self._load_error = str(error)
            raise
