"""From a folder of videos to real clips (paper, A.1, set D): cut, follow one face, filter, drop near-duplicates.

Every video is decoded once, from its first frame to its last; memory holds one shot, at eight reduced frames a second.
A video without a caption is not decoded at all. A damaged one is skipped, with the reason in the log.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from magicmirror.data.clip_selection import ClipRules, Look, Selection, select_clip
from magicmirror.data.embedding import AlignedEmbedder
from magicmirror.data.manifest import parse_record, video_paths, write_manifest
from magicmirror.data.near_duplicates import MAX_DIFFERING_BITS
from magicmirror.data.portrait_import import ImportReport
from magicmirror.data.records import (
    FrameFace,
    Origin,
    RealClipRecord,
    group_and_stratum,
    rounded_points,
    split_of,
)
from magicmirror.data.shots import CutDetector
from magicmirror.data.sidecar_captions import SidecarCaptions
from magicmirror.data.work_log import WorkLog
from magicmirror.errors import ConfigError, PromptError, VideoError
from magicmirror.faces.alignment import MIN_EYE_DISTANCE_PX, align_head, eye_distance_px
from magicmirror.faces.tracking import FaceFinder
from magicmirror.media import iterate_frames, read_properties
from magicmirror.types import UInt8Array

logger = logging.getLogger(__name__)

SMALL_SIDE_PX = 480
CROP_PX = 128
MAX_FACES = 4
"""Faces of a frame that are looked at; the largest."""
HOUR_S = 3600.0


def build_clip_manifest(
    folder: Path,
    finder: FaceFinder,
    embedder: AlignedEmbedder,
    out: Path,
    origin: Origin,
    rules: ClipRules | None = None,
    on_video: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Find the real clips of a folder and write their manifest.

    Finished videos are noted in ``<out>.log``, one line each; the same call goes on with the others, and the result
    does not depend on where an earlier call ended.

    Args:
        folder: Root of the videos.
        finder: Finds faces; its landmarks must be ``dlib5``.
        embedder: Embeds aligned heads.
        out: The manifest to write.
        origin: Source and licence of what ``captions.jsonl`` gives no other for.
        rules: What makes a clip.
        on_video: Called with (videos done, videos) after each.

    Returns:
        How many clips were kept; how many shots, or whole videos, were dropped, by reason.

    Raises:
        ConfigError: When the folder is missing, ``captions.jsonl`` is wrong, or the log was begun with other rules.
    """
    if not folder.is_dir():
        raise ConfigError(f'There is no folder "{folder}".')
    rules = rules or ClipRules()
    captions = SidecarCaptions(folder, origin)
    log = WorkLog(out.with_name(out.name + ".log"), {"rules": asdict(rules), "origin": asdict(origin)})
    paths = video_paths(folder)
    for number, path in enumerate(paths, start=1):
        if path not in log.results:
            log.add(path, _video_result(path, folder, finder, embedder, captions, rules))
        if on_video is not None:
            on_video(number, len(paths))
    found = [values for path in paths for values in log.results[path]["records"]]
    records = [parse_record(json.dumps(values), log.path.name, RealClipRecord) for values in found]
    kept = drop_duplicates(records)
    write_manifest(kept, out)
    reasons = Counter({"near-duplicate": len(records) - len(kept)})
    for path in paths:
        reasons.update(log.results[path]["dropped"])
    report = ImportReport(len(kept), {reason: count for reason, count in sorted(reasons.items()) if count})
    logger.info("%d clips of %d videos kept, dropped: %s", report.kept, len(paths), report.dropped or "none")
    return report


def drop_duplicates(records: list[RealClipRecord]) -> list[RealClipRecord]:
    """Keep the first of clips that are almost the same at their start, in their middle and at their end."""
    kept: list[RealClipRecord] = []
    hashes = np.zeros((len(records), 3, 32), dtype=np.uint8)
    for record in records:
        own = np.array([list(bytes.fromhex(each.zfill(64))) for each in record.fingerprints], dtype=np.uint8)
        bits = np.bitwise_count(hashes[: len(kept)] ^ own).sum(axis=-1)
        if not (bits <= MAX_DIFFERING_BITS).all(axis=-1).any():
            hashes[len(kept)] = own
            kept.append(record)
    return kept


def _video_result(
    path: str, folder: Path, finder: FaceFinder, embedder: AlignedEmbedder, captions: SidecarCaptions, rules: ClipRules
) -> dict[str, Any]:
    """Return the records of a video, what was dropped of it, and what was wrong with it."""
    dropped: Counter[str] = Counter()
    try:
        caption = captions.caption(path)
        if caption is None:
            return {"records": [], "dropped": {"no caption": 1}, "error": ""}
        records = []
        for chosen in _selections(folder / path, finder, embedder, rules):
            if isinstance(chosen, str):
                dropped[chosen] += 1
            else:
                fps = float(read_properties(folder / path).fps)
                records.append(_record(path, caption, captions.origin_of(path), fps, chosen))
    except PromptError as error:
        return {"records": [], "dropped": {"caption names no person": 1}, "error": str(error)}
    except VideoError as error:
        logger.warning("%s is skipped: %s", path, error)
        return {"records": [], "dropped": {"unreadable": 1}, "error": str(error)}
    return {"records": [asdict(record) for record in records], "dropped": dict(sorted(dropped.items())), "error": ""}


def _selections(
    video: Path, finder: FaceFinder, embedder: AlignedEmbedder, rules: ClipRules
) -> Iterator[Selection | str]:
    """Yield the clip of each shot, or the reason why it gives none.

    Raises:
        VideoError: When the video cannot be read.
    """
    fps = float(read_properties(video).fps)
    if fps < rules.min_fps:
        yield "slow frame rate"
        return
    step = max(1, round(fps / rules.looks_per_s))
    cuts = CutDetector()
    looks: list[Look] = []
    start = number = 0
    for number, frame in enumerate(iterate_frames(video, timeout_s=HOUR_S)):
        if cuts.begins_shot(frame) or number - start >= rules.max_s * fps:
            if number:
                yield select_clip(looks, number, fps, embedder, rules)
            start, looks = number, []
        if (number - start) % step == 0:
            looks.append(_look(number, frame, finder))
    yield select_clip(looks, number + 1, fps, embedder, rules)


def _look(number: int, frame: UInt8Array, finder: FaceFinder) -> Look:
    """Find the faces of a frame, and keep what later steps need of it."""
    import cv2

    frame = np.ascontiguousarray(frame)
    found = (face for face in finder.find(frame, thorough=False))
    usable = [face for face in found if eye_distance_px(face.landmarks, "dlib5") >= MIN_EYE_DISTANCE_PX]
    faces = tuple(sorted(usable, key=lambda face: face.box.area, reverse=True)[:MAX_FACES])
    scale = min(1.0, SMALL_SIDE_PX / max(frame.shape[:2]))
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    small = frame.copy() if scale == 1.0 else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    crops = tuple(align_head(frame, face.landmarks, "dlib5", CROP_PX) for face in faces)
    return Look(number, faces, crops, np.asarray(small, dtype=np.uint8), scale)


def _record(path: str, caption: str, origin: Origin, fps: float, chosen: Selection) -> RealClipRecord:
    name = Path(path)
    group, stratum = group_and_stratum(name.stem, name.parts[0] if len(name.parts) > 1 else "videos")
    return RealClipRecord(
        path=path,
        source=origin.source,
        licence=origin.licence,
        person_id=f"{path}#{chosen.start_frame}",
        group=group,
        stratum=stratum,
        split=split_of(name.name),
        start_frame=chosen.start_frame,
        end_frame=chosen.end_frame,
        fps=fps,
        box=chosen.box,
        caption=caption,
        motion=chosen.motion,
        fingerprints=chosen.fingerprints,
        faces=tuple(FrameFace(frame, rounded_points(face.landmarks)) for frame, face in chosen.faces),
    )
