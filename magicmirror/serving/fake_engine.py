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
from magicmirror.media import load_image, read_settings, sidecar_path
from magicmirror.serving.engine import Photo
from magicmirror.serving.jobs import Take
from magicmirror.serving.likeness import likeness_level
from magicmirror.serving.mark import PROVENANCE, DrawMark
from magicmirror.serving.motion import measure_motion
from magicmirror.serving.output import write_output
from magicmirror.serving.progress import JobProgress
from magicmirror.serving.queued_engine import Policy, QueuedEngine
from magicmirror.serving.speed import Cost
from magicmirror.serving.storage import ResultStorage
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
        error: Raised after half of the steps, of every part.
        likeness: Similarity of every frame.
        gate: The job waits before its first step until this is set (or until it is cancelled).
    """

    steps: int = 4
    step_s: float = 0.02
    load_s: float = 0.0
    error: BaseException | None = None
    likeness: float | None = 0.95
    gate: threading.Event | None = None


class FakeEngine(QueuedEngine):
    """Same protocol, queue and worker as the real one.

    Args:
        storage: Where results go.
        script: How the first jobs go, in order of running; all later ones go like ``default``.
        default: A job that the script does not name.
        capacity: Jobs that may wait.
        policy: What is allowed.
        draw_mark: Puts the visible mark on the frames.
        write: Whether jobs write their files; without them a thousand jobs take seconds, and there is no result.
    """

    def __init__(
        self,
        storage: ResultStorage,
        script: Iterable[FakeJob] = (),
        default: FakeJob | None = None,
        capacity: int = 8,
        policy: Policy | None = None,
        draw_mark: DrawMark | None = None,
        write: bool = True,
    ) -> None:
        self._draw_mark = draw_mark
        self._write = write
        self._script = deque(script)
        self._default = default or FakeJob()
        super().__init__(storage, capacity, "fake", policy=policy)

    def analyze(self, photo: Photo) -> tuple[FaceReference, ...]:
        """Find one face per square of the picture: two in a picture twice as wide as high, none in a plain one."""
        image = photo if isinstance(photo, np.ndarray) else load_image(photo)
        if image.min() == image.max():
            return ()
        height, width = image.shape[:2]
        count = max(1, round(width / height))
        return tuple(_fake_face(image, index * width // count, (index + 1) * width // count) for index in range(count))

    def cost(self, request: GenerationRequest) -> Cost:
        """See ``QueuedEngine.cost``."""
        steps = request.num_inference_steps or self._default.steps
        frames = request.num_frames or NUM_FRAMES
        return Cost("fake on cpu", frames, SIZE_PX, SIZE_PX, True, steps, step_flop=frames, guess_s=(0.1, 1.0))

    def make_video(
        self, request: GenerationRequest, path: Path, progress: JobProgress, should_stop: Callable[[], bool]
    ) -> Take:
        """Go through the script's next job and write a moving picture that depends on the seed."""
        job = self._script.popleft() if self._script else self._default
        progress("loading")
        _pause(job.load_s, should_stop)
        while job.gate is not None and not job.gate.wait(0.01):
            _pause(0.0, should_stop)
        frames = _fake_frames(request)
        total = request.num_inference_steps or job.steps
        for step in range(1, total + 1):
            _pause(job.step_s, should_stop)
            if job.error is not None and step > total // 2:
                raise job.error
            progress.show(_noisy(frames[len(frames) // 2], step / total))
            progress("denoising", step, total)
        progress("writing")
        curve = (job.likeness,) * len(frames)
        settings = {**_fake_settings(request, total), **PROVENANCE, "visible_mark": self._draw_mark is not None}
        motion = measure_motion(frames, FPS) if self._write else None
        if self._write:
            marked = self._draw_mark(frames) if self._draw_mark is not None else frames
            write_output(GeneratedVideo(marked, FPS, settings, curve, {"denoise": total * job.step_s}), path)
            settings = read_settings(sidecar_path(path))
        return Take(path, sidecar_path(path), settings, curve, likeness_level(curve, EMBEDDING_SIZE), motion)


def _noisy(frame: UInt8Array, share: float) -> UInt8Array:
    """Mix a frame with noise, as a live preview that becomes clear."""
    noise = np.random.default_rng(0).integers(0, 256, frame.shape)
    return np.asarray(share * frame + (1.0 - share) * noise, dtype=np.uint8)


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
    """Return (F, 128, 128, 3) uint8 RGB, 17 frames unless the request names a number.

    They show the reference's crop, drifting over a colour drawn from the seed.
    """
    colour = np.random.default_rng(request.seed).integers(64, 192, 3, dtype=np.uint8)
    count = request.num_frames or NUM_FRAMES
    frames = np.broadcast_to(colour, (count, SIZE_PX, SIZE_PX, 3)).copy()
    face = request.references[0].crop[::2, ::2]
    side = face.shape[0]
    for index in range(count):
        left = index * (SIZE_PX - side) // max(count - 1, 1)
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
