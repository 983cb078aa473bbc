"""The values of one job: where it stands, what it produced, and the record that the board keeps of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from magicmirror.faces.similarity import mean_likeness
from magicmirror.serving.likeness import LikenessLevel
from magicmirror.types import GenerationRequest

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
JobStage = Literal["waiting", "loading", "denoising", "measuring", "writing", "ended"]

ENDED_STATES: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True)
class JobStatus:
    """Where one job stands; a new value replaces the old one at every change.

    Args:
        job_id: Unguessable name of the job; whoever knows it may watch and cancel the job.
        state: One of five; the last three are final.
        stage: What a running job is doing.
        queue_position: 1 for the job that runs next; 0 once the job runs or has ended.
        step: Denoising steps done.
        total: Denoising steps in all; 0 while unknown.
        eta_s: Seconds until the video is there, estimated from this machine's own speed; ``None`` while unknown.
        message: Plain text for the person who asked, without paths or tracebacks: the reason of a failure.
        result_path: The mp4 of a job that is done.
        version: Grows by at least one with every change; see ``Engine.wait``.
    """

    job_id: str
    state: JobState
    stage: JobStage = "waiting"
    queue_position: int = 0
    step: int = 0
    total: int = 0
    eta_s: float | None = None
    message: str = ""
    result_path: Path | None = None
    version: int = 0

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in ENDED_STATES


@dataclass(frozen=True)
class JobResult:
    """The files of a finished job.

    Args:
        video_path: H.264 mp4.
        settings_path: JSON sidecar with all of ``settings``.
        settings: Everything that made the video, plus ``likeness`` and ``timings_s``.
        likeness: Per-frame cosine similarity to the reference in [-1, 1]; ``None`` where no face was found.
        level: What that likeness amounts to.
    """

    video_path: Path
    settings_path: Path
    settings: dict[str, Any]
    likeness: tuple[float | None, ...] = ()
    level: LikenessLevel = "unseen"

    @property
    def mean_likeness(self) -> float | None:
        """Average over the frames with a face; ``None`` when no frame has one."""
        return mean_likeness(self.likeness)


@dataclass
class JobRecord:
    """What the board keeps of one job; only the board changes it, under its lock.

    Args:
        session: Owner; results go to this session's folder.
        request: What to make. Dropped as soon as the job ends: it holds the reference faces.
        status: The present value.
        result: Set when the job is done.
        stop: Set when the job has to end; the denoising loop looks at it before every step.
    """

    session: str
    request: GenerationRequest | None
    status: JobStatus
    result: JobResult | None = None
    stop: threading.Event = field(default_factory=threading.Event)
