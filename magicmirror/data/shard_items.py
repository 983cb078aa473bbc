"""What one record gives to a shard: training frames with captions, and the person's reference crops.

All that is random follows from the record's path and the seed. The three kinds of record:

=================  ==================================================  ===========================================
record             frames                                              crops besides the target's own
=================  ==================================================  ===========================================
portrait           stills and clips rendered from it                   other views, rendered from it
identity pairs     the target, one still                               the other pictures; views of them, or of the
                                                                       target (sets A, B), where there are too few
real clip          a stretch of the video, one clip                    other frames, first those outside the stretch
=================  ==================================================  ===========================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from magicmirror.data.animation import reference_view, render_clip
from magicmirror.data.captions import sample_clip_spec, sample_image_spec, sample_person_word
from magicmirror.data.face_area import eyes_between, eyes_in_window
from magicmirror.data.framing import FRAMINGS, Framing, bordered_photo, cut_window, frame_window, head_window
from magicmirror.data.motion import ClipSpec
from magicmirror.data.records import FrameFace, IdentityPairRecord, PortraitRecord, RealClipRecord, Record
from magicmirror.errors import ConfigError, VideoError
from magicmirror.faces.alignment import align_head
from magicmirror.media import iterate_frames, load_image
from magicmirror.types import UInt8Array

Kind = Literal["image", "clip"]


@dataclass(frozen=True)
class PrecomputeConfig:
    """What is made of every record; "portrait" stands for the person of any record.

    Args:
        images_per_portrait: Stills at rest, with a style; of portraits.
        clips_per_portrait: Clips; of portraits.
        views_per_portrait: Reference views R besides the target itself; of all records.
        portraits_per_shard: Records of one shard.
        seed: Of motions, styles, captions and views.
        num_frames: Pixel frames of a clip.
        size_px: Height of a frame.
        clip_batch: Clips encoded at once.
        image_batch: Stills encoded at once.
        bf16: Encode in bfloat16 autocast, where the device multiplies it itself.
        width_px: Width of a frame; 0 is square. Portraits are animated in squares only.
        fps: Frames per second of a clip that is taken from a video.
        framing: Which window of pictures and videos a frame shows, see ``framing.frame_window``.
        crop_px: Side of a reference, which is what the vision tower takes; 0 is the height of a frame.
        recogniser: Whose embeddings the references get, a kind of ``faces.analyzer``. It is a note for whoever goes
            on with the folder; the embedder is given beside it.

    Raises:
        ConfigError: When a number cannot work.
    """

    images_per_portrait: int = 4
    clips_per_portrait: int = 6
    views_per_portrait: int = 6
    portraits_per_shard: int = 32
    seed: int = 0
    num_frames: int = 17
    size_px: int = 128
    clip_batch: int = 4
    image_batch: int = 16
    bf16: bool = True
    width_px: int = 0
    fps: int = 8
    framing: Framing = "head"
    crop_px: int = 0
    recogniser: str = "dlib"

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        for name in ("portraits_per_shard", "num_frames", "clip_batch", "image_batch", "views_per_portrait", "fps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}.")
        if min(self.images_per_portrait, self.clips_per_portrait, self.seed) < 0:
            raise ConfigError("images_per_portrait, clips_per_portrait and seed must not be negative.")
        if self.num_frames % 4 != 1:
            raise ConfigError(f"num_frames must be 4 n + 1 for the VAE, got {self.num_frames}.")
        for side in self.frame_size:
            if side < 16 or side % 16:
                raise ConfigError(f"Sides of a frame must be multiples of 16 px (VAE and patches), got {side}.")
        if self.crop_px < 0 or 0 < self.crop_px < 16:
            raise ConfigError(f"A side of a crop must be at least 16 px, got {self.crop_px}.")
        if self.framing not in FRAMINGS:
            raise ConfigError(f"framing must be one of {', '.join(FRAMINGS)}, got {self.framing!r}.")

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of a frame in px."""
        return self.size_px, self.width_px or self.size_px

    @property
    def crop_side_px(self) -> int:
        """Side of a reference in px."""
        return self.crop_px or self.size_px

    @property
    def duration_s(self) -> float:
        """Time from the first frame of a clip to its last."""
        return (self.num_frames - 1) / self.fps


@dataclass(frozen=True, eq=False)
class Take:
    """Frames to encode.

    Args:
        kind: A still or a clip.
        frames: (F, H, W, 3) uint8 RGB; F = 1 for a still.
        line: What the shard's text says of it; with ``caption``, ``person_id`` and ``stratum``.
    """

    kind: Kind
    frames: UInt8Array
    line: dict[str, Any]


@dataclass(frozen=True, eq=False)
class ShardItem:
    """What one record gives.

    Args:
        takes: Stills, then clips; made when they are asked for.
        crops: (1 + R, S, S, 3) uint8 RGB aligned heads, the target's own first.
    """

    takes: Iterator[Take]
    crops: UInt8Array


class ItemSampler:
    """Makes the items of a folder. Clips of one video are cheap in the order of their frames: it is decoded once.

    Args:
        root: Where the records' paths begin.
        config: What to make.
    """

    def __init__(self, root: Path, config: PrecomputeConfig) -> None:
        self.root = root
        self.config = config
        self._open: tuple[str, int, Iterator[UInt8Array]] | None = None

    def sample(self, record: Record) -> ShardItem:
        """Sample what a record gives.

        Raises:
            ImageError: When a picture cannot be read.
            VideoError: When a video cannot be read, or is shorter than its record.
            ConfigError: When a clip is shorter than the frames that are asked for, or portraits are not to be square.
        """
        if isinstance(record, PortraitRecord):
            return self._portrait(record)
        if isinstance(record, IdentityPairRecord):
            return self._pairs(record)
        return self._clip(record)

    def _portrait(self, record: PortraitRecord) -> ShardItem:
        config, size = self.config, self.config.size_px
        if config.frame_size != (size, size):
            raise ConfigError("Portraits are animated in square frames only.", "Leave out width_px.")
        rng = self._rng(record.path)
        picture = load_image(self.root / record.path)
        landmarks = record.landmark_array
        images = [
            sample_image_spec(rng, sample_person_word(rng, record.group)) for _ in range(config.images_per_portrait)
        ]
        clips = [sample_clip_spec(rng, sample_person_word(rng, record.group)) for _ in range(config.clips_per_portrait)]
        side = config.crop_side_px
        crops = [align_head(picture, landmarks, "dlib5", side)]
        crops += [reference_view(picture, landmarks, rng, side) for _ in range(config.views_per_portrait)]

        def takes() -> Iterator[Take]:
            jobs: list[tuple[Kind, int, ClipSpec]] = [("image", 1, spec) for spec in images]
            jobs += [("clip", config.num_frames, spec) for spec in clips]
            for kind, count, spec in jobs:
                yield Take(kind, render_clip(picture, landmarks, spec, count, size), _line(kind, record, asdict(spec)))

        return ShardItem(takes(), np.stack(crops))

    def _pairs(self, record: IdentityPairRecord) -> ShardItem:
        config, side = self.config, self.config.crop_side_px
        rng = self._rng(record.path)
        picture = load_image(self.root / record.path)
        box = head_window(record.landmark_array)
        if record.paper_set == "B":
            frame, window, left = bordered_photo(picture, box, *config.frame_size, config.framing)
        else:
            window = frame_window(box, (picture.shape[0], picture.shape[1]), config.frame_size, config.framing)
            frame, left = cut_window(picture, window, *config.frame_size), 0.0
        eyes = [eyes_in_window(record.landmark_array, window, left)]
        others = [(load_image(self.root / each.path), each.landmark_array) for each in record.references]
        others = others[: config.views_per_portrait]
        own = (picture, record.landmark_array)
        crops = [align_head(image, points, "dlib5", side) for image, points in (own, *others)]
        sources = others or [own]
        while len(crops) < 1 + config.views_per_portrait:
            crops.append(reference_view(*sources[len(crops) % len(sources)], rng, side))
        line = _line("image", record, {"caption": record.caption, "paper_set": record.paper_set, "eyes": eyes})
        return ShardItem(iter([Take("image", frame[None], line)]), np.stack(crops))

    def _clip(self, record: RealClipRecord) -> ShardItem:
        config = self.config
        wanted, start = self._stretch(record)
        faces = _reference_faces(record, wanted[0], wanted[-1], 1 + config.views_per_portrait)
        by_frame = {face.frame: face.landmark_array for face in faces}
        frames: dict[int, UInt8Array] = {}
        heads: dict[int, UInt8Array] = {}
        window = None
        for number, frame in self._frames(record, max(wanted[-1], *by_frame)):
            if window is None:
                size = (frame.shape[0], frame.shape[1])
                window = frame_window(record.box, size, config.frame_size, config.framing)
            if number in wanted:
                frames[number] = cut_window(frame, window, *config.frame_size)
            if number in by_frame:
                heads[number] = align_head(frame, by_frame[number], "dlib5", config.crop_side_px)
        crops = [heads[face.frame] for face in faces]
        clip = np.stack([frames[number] for number in wanted])
        assert window is not None  # the first frame gave one
        known = [(face.frame, eyes_in_window(face.landmark_array, window)) for face in record.faces]
        told = {"start_frame": start, "motion": record.motion, "eyes": eyes_between(known, wanted)}
        line = _line("clip", record, {"caption": record.caption, **told})
        return ShardItem(iter([Take("clip", clip, line)]), np.stack(crops))

    def _stretch(self, record: RealClipRecord) -> tuple[list[int], int]:
        """Choose the frames of a clip: a stretch that begins at random, at the frame rate of training."""
        step = record.fps / self.config.fps
        needed = round((self.config.num_frames - 1) * step) + 1
        spare = record.end_frame - record.start_frame - needed
        if spare < 0:
            raise ConfigError(
                f"{record.path!r} from frame {record.start_frame}: {needed} frames are needed, the clip has fewer.",
                "Ask for fewer frames, or import with a longer min_s.",
            )
        start = record.start_frame + int(self._rng(f"{record.path}#{record.start_frame}").integers(0, spare + 1))
        return [start + round(number * step) for number in range(self.config.num_frames)], start

    def _frames(self, record: RealClipRecord, last: int) -> Iterator[tuple[int, UInt8Array]]:
        """Yield (number, frame) of a record, up to ``last``; the open video is used as far as it has come."""
        if self._open is None or self._open[0] != record.path or self._open[1] > record.start_frame:
            self._open = record.path, 0, iterate_frames(self.root / record.path, timeout_s=3600.0)
        _, number, frames = self._open
        while number <= last:
            try:
                frame = next(frames)
            except StopIteration:
                raise VideoError(
                    f"{record.path!r} ends at frame {number}, before frame {last} of its record.", "Import it again."
                ) from None
            self._open = record.path, number + 1, frames
            if number >= record.start_frame:
                yield number, frame
            number += 1

    def _rng(self, name: str) -> np.random.Generator:
        digest = hashlib.sha256(name.encode()).digest()
        return np.random.default_rng([self.config.seed, int.from_bytes(digest[:8], "little")])


def _reference_faces(record: RealClipRecord, first: int, last: int, count: int) -> list[FrameFace]:
    """Return ``count`` faces: the one nearest to the start of the stretch, those outside of it, the rest, and again."""
    own = min(record.faces, key=lambda face: abs(face.frame - first))
    others = [face for face in record.faces if face is not own]
    others.sort(key=lambda face: (first <= face.frame <= last, -abs(face.frame - own.frame)))
    return [own, *(others[index % len(others)] for index in range(count - 1))]


def _line(kind: Kind, record: Record, values: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": kind,
        "portrait": record.path,
        "person_id": record.person_id,
        "stratum": record.stratum,
        **values,
    }
