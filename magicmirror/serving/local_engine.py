"""The engine that runs the model in this process: one worker thread owns the pipeline while the process lives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from magicmirror.media import load_image
from magicmirror.models.presets import model_preset
from magicmirror.pipeline.memory_options import MemoryOptions
from magicmirror.pipeline.model_size import requested_work
from magicmirror.pipeline.profiles import find_profile
from magicmirror.pipeline.speed_options import SpeedOptions
from magicmirror.pipeline.time_forecast import guess_seconds, step_flop
from magicmirror.serving.engine import EngineHealth, Photo
from magicmirror.serving.jobs import Forecast, Take
from magicmirror.serving.mark import mark_from
from magicmirror.serving.orders import Work
from magicmirror.serving.production import VideoMaker
from magicmirror.serving.progress import JobProgress
from magicmirror.serving.queued_engine import Policy, QueuedEngine
from magicmirror.serving.reasons import public_reason
from magicmirror.serving.speed import Cost
from magicmirror.serving.storage import ResultStorage
from magicmirror.serving.worker import settle_memory
from magicmirror.settings import Settings
from magicmirror.types import FaceReference, GenerationRequest

EXAMPLES_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "examples"

log = logging.getLogger(__name__)


class LocalEngine(QueuedEngine):
    """One pipeline, loaded once, in one thread.

    Args:
        maker: Makes the videos.
        storage: Where results go.
        capacity: Jobs that may wait.
        max_upload_bytes: Largest accepted picture.
        warm_up: Load the weights at once rather than with the first job.
        policy: Of ``QueuedEngine``.
    """

    def __init__(
        self,
        maker: VideoMaker,
        storage: ResultStorage,
        capacity: int = 8,
        max_upload_bytes: int = 20 * 1024 * 1024,
        warm_up: bool = False,
        policy: Policy | None = None,
    ) -> None:
        self._maker = maker
        self._max_upload_bytes = max_upload_bytes
        self._load_error = ""
        super().__init__(storage, capacity, maker.profile.name, self._warm_up if warm_up else None, policy)

    @classmethod
    def from_settings(cls, settings: Settings) -> LocalEngine:
        """Build the engine that the settings describe and start loading its weights.

        Raises:
            ConfigError: When a setting cannot work.
        """
        storage = ResultStorage(settings.output_dir, settings.retention_hours * 3600, settings.max_storage_bytes)
        maker = VideoMaker(
            find_profile(settings.profile, settings),
            settings.device,
            settings.threads,
            draw_mark=mark_from(settings),
            preview_pictures=sorted(EXAMPLES_FOLDER.glob("*.jpg"))[:6] if settings.live_preview else (),
            preview_cache=storage.root,
            gpu_seconds=settings.gpu_seconds,
            memory=MemoryOptions.named(settings.memory, settings.quantisation),
            speed=SpeedOptions.named(settings.compile, settings.attention, settings.step_cache),
        )
        policy = Policy.from_settings(settings)
        return cls(maker, storage, settings.queue_size, settings.max_upload_bytes, warm_up=True, policy=policy)

    def analyze(self, photo: Photo) -> tuple[FaceReference, ...]:
        """See ``Engine.analyze``."""
        image = photo if isinstance(photo, np.ndarray) else load_image(photo, self._max_upload_bytes)
        return self._maker.analyzer.analyze(image)

    def forecast(self, request: Work) -> Forecast:
        """See ``Engine.forecast``; once the model is loaded, with how it uses the memory."""
        return replace(super().forecast(request), memory=self._maker.memory_line)

    def check(self, request: GenerationRequest) -> None:
        """Refuse what the profile cannot make, before it waits in the queue."""
        self._maker.check(request)

    def cost(self, request: GenerationRequest) -> Cost:
        """See ``QueuedEngine.cost``."""
        work = requested_work(self._maker.profile.resolve(request))
        device, profile = self.device or self._maker.wanted_device, self._maker.profile
        preset = model_preset(profile.preset)
        return Cost(
            f"{self.profile_name} on {device}{self._maker.speed_name}",
            work.num_frames,
            work.height_px,
            work.width_px,
            work.guided,
            work.steps,
            step_flop(preset, work),
            guess_seconds(preset, work, device, profile.vae_tiling),
        )

    def make_video(
        self, request: GenerationRequest, path: Path, progress: JobProgress, should_stop: Callable[[], bool]
    ) -> Take:
        """See ``QueuedEngine.make_video``."""
        take = self._maker.make(request, path, progress, should_stop, progress.show, progress.note)
        self._load_error = ""
        return take

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
            self._load_error = public_reason(error)
            raise
        settle_memory()
