"""The values of one job: where it stands, what it produced, and the record that the board keeps of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from magicmirror.faces.similarity import mean_likeness
from magicmirror.serving.likeness import LikenessLevel
from magicmirror.types import UInt8Array

if TYPE_CHECKING:
    from magicmirror.serving.orders import Work

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
OrderKind = Literal["takes", "compare", "film", "image"]
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
        step: Denoising steps done, of the present part.
        total: Denoising steps of one part; 0 while unknown.
        eta_s: Seconds until all of the job is there, from this machine's own speed; ``None`` while unknown.
        message: Plain text for the person who asked, without paths or tracebacks: the reason of a failure, or what
            was done so that it did not fail.
        result_path: The file of a job that is done.
        version: Grows by at least one with every change; see ``Engine.wait``.
        part: Which take, strength or shot is being made, from 1; 0 before the first.
        parts: How many the job makes.
        preview: (H, W, 3) uint8 RGB, what a frame in the middle looks like so far; ``None`` when not sampling.
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
    part: int = 0
    parts: int = 1
    preview: UInt8Array | None = field(default=None, compare=False, repr=False)

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in ENDED_STATES


@dataclass(frozen=True)
class Take:
    """The files of one finished video or picture, and how good it is.

    Args:
        video_path: H.264 mp4; a PNG for a single picture.
        settings_path: JSON sidecar with all of ``settings``.
        settings: Everything that made the video, plus ``likeness`` and ``timings_s``.
        likeness: Per-frame cosine similarity to the reference in [-1, 1]; ``None`` where no face was found.
        level: What that likeness amounts to.
        motion: How much moves, see ``serving.motion``; ``None`` where it was not measured.
    """

    video_path: Path
    settings_path: Path
    settings: dict[str, Any]
    likeness: tuple[float | None, ...] = ()
    level: LikenessLevel = "unseen"
    motion: float | None = None

    @property
    def mean_likeness(self) -> float | None:
        """Average over the frames with a face; ``None`` when no frame has one."""
        return mean_likeness(self.likeness)


@dataclass(frozen=True)
class JobResult(Take):
    """What a finished job produced. Its own fields are those of the best take, or of the joined film.

    Args:
        kind: ``takes``, ``compare``, ``film`` or ``image``.
        takes: All parts in the order in which they were asked for: takes, strengths or shots.
        ranking: Indices of ``takes``, the best first, by likeness and motion; see ``serving.ranking``.
    """

    kind: OrderKind = "takes"
    takes: tuple[Take, ...] = ()
    ranking: tuple[int, ...] = ()


@dataclass(frozen=True)
class Forecast:
    """How long work would take on this machine.

    Args:
        seconds: For making it, without waiting.
        wait_s: Until it would start, for what runs and waits already.
        queue_position: Place that it would get; 0 when it would start at once.
        measured: Whether the speed was measured on this machine; otherwise it is a rough guess, to be shown as such.
        memory: How the model uses the device's memory and why, in one line; empty before it is loaded, and on a CPU.
    """

    seconds: float
    wait_s: float
    queue_position: int
    measured: bool
    memory: str = ""


@dataclass(frozen=True)
class HistoryEntry:
    """One job of one visitor, also after its page was closed or the server was started anew.

    Args:
        status: Where it stands, or how it ended.
        kind: As in ``JobResult``.
        prompt: What was asked for; of a film the prompts of all shots, joined.
        created_s: When it was asked for, seconds since the epoch.
        result: Set when it is done and its files are still there.
    """

    status: JobStatus
    kind: OrderKind
    prompt: str
    created_s: float
    result: JobResult | None = None


@dataclass
class JobRecord:
    """What the board keeps of one job; only the board changes it, under its lock.

    Args:
        session: Owner; results go to this session's folder.
        request: What to make. Dropped as soon as the job ends: it holds the reference faces.
        status: The present value.
        result: Set when the job is done.
        stop: Set when the job has to end; the denoising loop looks at it before every step.
        forgotten: Whether nothing of it may be left, although it has not ended yet.
    """

    session: str
    request: Work | None
    status: JobStatus
    result: JobResult | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    forgotten: bool = False
