"""From a request to a finished file: generate, measure the likeness, write. One path for page, API and command line."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicmirror.errors import JobCancelled
from magicmirror.faces.analyzer import FaceAnalyzer, create_face_analyzer
from magicmirror.media import read_settings, sidecar_path
from magicmirror.pipeline.model_size import requested_work
from magicmirror.pipeline.out_of_memory import is_out_of_memory
from magicmirror.serving.chip_embedder import ChipEmbedder
from magicmirror.serving.jobs import Take
from magicmirror.serving.likeness import likeness_level, measure_likeness
from magicmirror.serving.live_preview import CleanEstimate, LatentPreview, load_or_fit
from magicmirror.serving.mark import PROVENANCE, DrawMark
from magicmirror.serving.motion import measure_motion
from magicmirror.serving.output import write_output
from magicmirror.serving.progress import Report
from magicmirror.serving.prompt_guide import PromptGuide
from magicmirror.serving.zero_gpu import Emit, as_stream, consume, is_zero_gpu, on_gpu
from magicmirror.types import GeneratedVideo, GenerationRequest, UInt8Array

if TYPE_CHECKING:
    from magicmirror.pipeline.memory_forecast import MemoryPlan
    from magicmirror.pipeline.memory_options import MemoryOptions
    from magicmirror.pipeline.profiles import Profile
    from magicmirror.pipeline.speed_options import SpeedOptions

log = logging.getLogger(__name__)

OnStep = Callable[[int, int, Any], None]
"""``(step from 0, steps in all, latents)``."""
Show = Callable[[UInt8Array], None]
"""Gets (H, W, 3) uint8 RGB."""
LoadPipeline = Callable[["Profile", str], Any]
Generate = Callable[[Any, "Profile", GenerationRequest, OnStep, Callable[[], bool]], GeneratedVideo]


class VideoMaker:
    """Holds one loaded pipeline and makes files with it. ``make`` belongs to one thread; the rest to any.

    Args:
        profile: Weights, sizes and defaults.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        threads: CPU threads of the model; 0 lets torch decide.
        load: ``load(profile, device) -> pipeline``; by default ``pipeline.loading.load_pipeline``.
        generate: ``generate(pipeline, profile, request, on_step, should_stop) -> video``; by default
            ``pipeline.loading.generate``. It raises ``JobCancelled`` after ``should_stop()``.
        analyzer: Finds faces; by default the profile's.
        draw_mark: Puts the visible mark on the frames, after the likeness was measured; ``None`` leaves them alone.
        preview_pictures: Pictures to fit the live preview with; empty for none.
        preview_cache: Folder in which its fit is kept.
        gpu_seconds: Longest time of one video on a ZeroGPU Space; of no effect elsewhere.
        memory: How the networks share the device's memory; ``None`` chooses by what is free.
        speed: Compilation, attention kernel and step cache; ``None`` asks for nothing.
    """

    def __init__(
        self,
        profile: Profile,
        device: str = "auto",
        threads: int = 0,
        load: LoadPipeline | None = None,
        generate: Generate | None = None,
        analyzer: FaceAnalyzer | None = None,
        draw_mark: DrawMark | None = None,
        preview_pictures: Sequence[Path] = (),
        preview_cache: Path | None = None,
        gpu_seconds: int = 120,
        memory: MemoryOptions | None = None,
        speed: SpeedOptions | None = None,
    ) -> None:
        self.profile = profile
        options: dict[str, Any] = {"embed_chips": ChipEmbedder()} if profile.analyzer == "dlib" else {}
        self.analyzer = analyzer or create_face_analyzer(profile.analyzer, crop_size_px=profile.crop_size_px, **options)
        self._guide = PromptGuide(profile)
        self._device = device
        self._threads = threads
        self._speed = speed
        self._load = load or partial(_load_pipeline, memory=memory, speed=speed)
        self._generate = generate or _generate
        self._lent = on_gpu(self._stream, gpu_seconds) if is_zero_gpu() else None
        self._draw_mark = draw_mark
        self._preview_pictures = tuple(preview_pictures)
        self._preview_cache = preview_cache
        self._preview: LatentPreview | None = None
        self._pipeline: Any = None
        self._lock = threading.Lock()

    @property
    def loaded(self) -> bool:
        """Whether the weights are resident."""
        return self._pipeline is not None

    @property
    def device(self) -> str:
        """Where the model runs; empty before it is loaded."""
        if not self.loaded:
            return ""
        # Offloaded networks wait on the CPU and work elsewhere.
        pipeline = self._pipeline
        return str(getattr(pipeline, "_execution_device", getattr(pipeline, "device", "")))

    @property
    def _memory_plan(self) -> MemoryPlan | None:
        return getattr(self._pipeline, "memory_plan", None)

    @property
    def memory_line(self) -> str:
        """How the model uses its device's memory and why; empty before it is loaded, and on a CPU."""
        plan = self._memory_plan
        return "" if plan is None or self.device == "cpu" else plan.reason

    @property
    def speed_name(self) -> str:
        """What makes the model slower or faster than its weights on its device, with a space before each word."""
        plan, speed = self._memory_plan, self._speed
        return ("" if plan is None else plan.short_name) + ("" if speed is None else speed.short_name)

    @property
    def wanted_device(self) -> str:
        """What was asked for; the device may be another after loading where it is ``auto``."""
        return self._device

    def load(self) -> Any:
        """Load the pipeline once and return it.

        Raises:
            WeightsError: When weights are missing or wrong.
        """
        with self._lock:
            if self._pipeline is None:
                started = time.monotonic()
                if self._threads:
                    _set_threads(self._threads)
                pipeline = self._load(self.profile, self._device)
                if self._preview_pictures:
                    self._preview = load_or_fit(pipeline, self._preview_pictures, self._preview_cache)
                self._pipeline = pipeline
                log.info("Profile %s loaded in %.1f s", self.profile.name, time.monotonic() - started)
            return self._pipeline

    def check(self, request: GenerationRequest) -> None:
        """Refuse a request that cannot work, in milliseconds and without the model.

        Raises:
            ConfigError: When the profile cannot make this size, or a model that is loaded has no memory for it.
            PromptError: When the prompt names no person, or is known to be too long.
        """
        resolved = self.profile.resolve(request)
        budget, plan = getattr(self._pipeline, "memory_budget", None), self._memory_plan
        if budget is not None and plan is not None:
            budget.lowered(plan, requested_work(resolved))
        if request.identity_scale > 0:
            self._guide.check(request.prompt)

    def make(
        self,
        request: GenerationRequest,
        path: Path,
        report: Report,
        should_stop: Callable[[], bool],
        show: Show | None = None,
        note: Callable[[str], None] | None = None,
    ) -> Take:
        """Make one video, or for a name ending in ``.png`` one picture, and its sidecar.

        Args:
            request: What to make.
            path: Where the mp4, GIF or PNG goes; nothing is there unless all of it succeeds.
            report: Called at every change of stage and step.
            should_stop: Whether to end.
            show: Gets a small picture of the video before each step is reported, where there is a live preview.
            note: Gets a line for people when the memory did not suffice and the video is made anew with less.

        Raises:
            JobCancelled: After ``should_stop()``.
            MagicMirrorError: As the pipeline says.
        """
        report("loading")
        pipeline = self.load()
        _check_stop(should_stop)
        draw = self._preview_drawer(pipeline, show)

        def on_step(step: int, total: int, latents: Any) -> None:
            if draw is not None and latents is not None:
                draw(step, total, latents)
            report("denoising", step + 1, total)

        video = self._sample_within_memory(request, on_step, should_stop, note)
        _check_stop(should_stop)
        report("measuring")
        started = time.monotonic()
        likeness = measure_likeness(video.frames, request.references, self.analyzer, should_stop)
        timings_s = {**video.timings_s, "likeness": time.monotonic() - started}
        motion = measure_motion(video.frames, video.fps)
        report("writing")
        _check_stop(should_stop)
        frames = self._draw_mark(video.frames) if self._draw_mark is not None else video.frames
        settings = {**video.settings, **PROVENANCE, "visible_mark": self._draw_mark is not None}
        write_output(GeneratedVideo(frames, video.fps, settings, likeness, timings_s), path)
        return Take(
            video_path=path,
            settings_path=sidecar_path(path),
            settings=read_settings(sidecar_path(path)),
            likeness=likeness,
            level=likeness_level(likeness, self.analyzer.embedding_size),
            motion=motion,
        )

    def _sample_within_memory(
        self,
        request: GenerationRequest,
        on_step: OnStep,
        should_stop: Callable[[], bool],
        note: Callable[[str], None] | None,
    ) -> GeneratedVideo:
        """Run the pipeline, and once more with a plan that needs less memory where it ran out of it."""
        try:
            return self._sample(request, on_step, should_stop)
        except Exception as error:
            plan = _step_down(self._pipeline) if is_out_of_memory(error) and self._memory_plan is not None else None
            if plan is None:
                raise
        # Only here, because the error holds on to what filled the memory.
        log.warning("Out of memory; once more with the memory policy %s", plan.policy)
        _check_stop(should_stop)
        if note is not None:
            note(plan.reason)
        return self._sample(request, on_step, should_stop)

    def _sample(self, request: GenerationRequest, on_step: OnStep, should_stop: Callable[[], bool]) -> GeneratedVideo:
        """Run the pipeline here, or on a ZeroGPU Space where a GPU is lent for the call."""
        if self._lent is None:
            return self._generate(self._pipeline, self.profile, request, on_step, should_stop)

        def on_event(event: Any) -> None:
            on_step(*event)

        video: GeneratedVideo = consume(self._lent(request), on_event, should_stop)
        return video

    def _stream(self, request: GenerationRequest) -> Iterator[tuple[str, Any]]:
        """Make a video as a stream of steps, in the process that has the GPU; latents come out on the CPU."""

        def call(emit: Emit) -> GeneratedVideo:
            def on_step(step: int, total: int, latents: Any) -> None:
                emit((step, total, None if latents is None else latents.detach().float().cpu()))

            return self._generate(self._pipeline, self.profile, request, on_step, lambda: False)

        yield from as_stream(call)

    def _preview_drawer(self, pipeline: Any, show: Show | None) -> OnStep | None:
        """Return what turns latents into a small picture and hands it to ``show``."""
        preview = self._preview
        if show is None or preview is None:
            return None
        estimate = CleanEstimate(pipeline.scheduler)

        def draw(step: int, total: int, latents: Any) -> None:
            clean = estimate.update(latents[0].float().cpu().numpy(), step, total)
            if clean is not None:
                show(preview.render(clean[len(clean) // 2]))

        return draw

    def free(self) -> None:
        """Forget the pipeline, so that its memory can be given back."""
        with self._lock:
            self._pipeline = None
            self._preview = None


def _check_stop(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise JobCancelled("The job was stopped on request.")


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _load_pipeline(profile: Profile, device: str, memory: MemoryOptions | None, speed: SpeedOptions | None) -> Any:
    from magicmirror.pipeline.loading import load_pipeline

    return load_pipeline(profile, device, memory=memory, speed=speed)


def _step_down(pipeline: Any) -> MemoryPlan | None:
    from magicmirror.pipeline.placement import step_down

    return step_down(pipeline)


def _generate(
    pipeline: Any,
    profile: Profile,
    request: GenerationRequest,
    on_step: OnStep,
    should_stop: Callable[[], bool],
) -> GeneratedVideo:
    from magicmirror.pipeline.loading import generate

    return generate(pipeline, profile, request, on_step, should_stop)
