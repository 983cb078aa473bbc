"""An engine without a model: scripted timings and failures, a real small mp4. For tests of the page and the API."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from magicmirror.errors import JobCancelled
from magicmirror.media import load_image, read_settings, sidecar_path, write_video
from magicmirror.serving.engine import Photo
from magicmirror.serving.jobs import JobResult
from magicmirror.serving.likeness import likeness_level
from magicmirror.serving.queued_engine import QueuedEngine
from magicmirror.serving.storage import ResultStorage
from magicmirror.serving.worker import Report
from magicmirror.types import FaceBox, FaceReference, GeneratedVideo, GenerationRequest, UInt8Array

SIZE_PX = 128
NUM_FRAMES = 17
FPS = 8
CROP_PX = 128
EMBEDDING_SIZE = 128


@dataclass(frozen=True)
class FakeJob:
    """How one job goes.

    Args:
        steps: Denoising steps, unless the request names a number.
        step_s: Seconds per step.
        load_s: Seconds of loading before the first step.
        error: Raised after half of the steps.
        likeness: Similarity of every frame.
        gate: The job waits before its first step until this is set (or until it is cancelled).
    """

    steps: int = 4
    step_s: float = 0.02
    load_s: float = 0.0
    error: Exception | None = None
    likeness: float | None = 0.95
    gate: threading.Event | None = None


class FakeEngine(QueuedEngine):
    """Same protocol, queue and worker as the real one.

    Args:
        storage: Where results go.
        script: How the first jobs go, in order of running; all later ones go like ``default``.
        default: A job that the script does not name.
        capacity: Jobs that may wait.
    """

    def __init__(
        self,
        storage: ResultStorage,
        script: Iterable[FakeJob] = (),
        default: FakeJob | None = None,
        capacity: int = 8,
    ) -> None:
        self._script = deque(script)
        self._default = default or FakeJob()
        super().__init__(storage, capacity, profile_name="fake")

    def analyze(self, photo: Photo) -> tuple[FaceReference, ...]:
        """Find one face per square of the picture: two in a picture twice as wide as high, none in a plain one."""
        image = photo if isinstance(photo, np.ndarray) else load_image(photo)
        if image.min() == image.max():
            return ()
        height, width = image.shape[:2]
        count = max(1, round(width / height))
        return tuple(_fake_face(image, index * width // count, (index + 1) * width // count) for index in range(count))

    def make_video(
        self, request: GenerationRequest, path: Path, report: Report, should_stop: Callable[[], bool]
    ) -> JobResult:
        """Go through the script's next job and write a moving picture that depends on the seed."""
        job = self._script.popleft() if self._script else self._default
        report("loading")
        _pause(job.load_s, should_stop)
        while job.gate is not None and not job.gate.wait(0.01):
            _pause(0.0, should_stop)
        total = request.num_inference_steps or job.steps
        for step in range(1, total + 1):
            _pause(job.step_s, should_stop)
            if job.error is not None and step > total // 2:
                raise job.error
            report("denoising", step, total)
        report("writing")
        write_video(
            GeneratedVideo(
                frames=_fake_frames(request),
                fps=FPS,
                settings=_fake_settings(request, total),
                likeness=(job.likeness,) * NUM_FRAMES,
                timings_s={"denoise": total * job.step_s},
            ),
            path,
        )
        curve = (job.likeness,) * NUM_FRAMES
        level = likeness_level(curve, EMBEDDING_SIZE)
        return JobResult(path, sidecar_path(path), read_settings(sidecar_path(path)), curve, level)


def _pause(seconds: float, should_stop: Callable[[], bool]) -> None:
    """Sleep in short naps, so that a stop is seen at once."""
    end = time.monotonic() + seconds
    while True:
        if should_stop():
            raise JobCancelled("The job was stopped on request.")
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 0.01))


def _fake_face(image: UInt8Array, left: int, right: int) -> FaceReference:
    """Describe the square in the middle of a strip of the picture as if it were a face."""
    side = min(right - left, image.shape[0])
    top, start = (image.shape[0] - side) // 2, left + (right - left - side) // 2
    rows = top + np.arange(CROP_PX) * side // CROP_PX
    columns = start + np.arange(CROP_PX) * side // CROP_PX
    crop = image[rows][:, columns]
    embedding = np.random.default_rng(int(crop.sum())).standard_normal(EMBEDDING_SIZE).astype(np.float32)
    eyes = np.array([[0.7, 0.45], [0.6, 0.45], [0.3, 0.45], [0.4, 0.45], [0.5, 0.62]], dtype=np.float32)
    return FaceReference(
        box=FaceBox(float(start), float(top), float(start + side), float(top + side)),
        landmarks=eyes * side + np.array([start, top], dtype=np.float32),
        landmark_scheme="dlib5",
        crop=np.ascontiguousarray(crop),
        embedding=embedding,
        score=1.0,
        quality=min(1.0, side / 256),
        photo_sha256=f"{int(image.sum()):064x}",
    )


def _fake_frames(request: GenerationRequest) -> UInt8Array:
    """Return (17, 128, 128, 3) uint8 RGB: the reference's crop, drifting over a colour drawn from the seed."""
    colour = np.random.default_rng(request.seed).integers(64, 192, 3, dtype=np.uint8)
    frames = np.broadcast_to(colour, (NUM_FRAMES, SIZE_PX, SIZE_PX, 3)).copy()
    face = request.references[0].crop[::2, ::2]
    side = face.shape[0]
    for index in range(NUM_FRAMES):
        left = index * (SIZE_PX - side) // (NUM_FRAMES - 1)
        frames[index, 32 : 32 + side, left : left + side] = face
    return frames


def _fake_settings(request: GenerationRequest, steps: int) -> dict[str, object]:
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "num_inference_steps": steps,
        "guidance_scale": request.guidance_scale,
        "identity_scale": request.identity_scale,
        "profile": "fake",
        "references": [face.photo_sha256 for face in request.references],
    }
