"""All figures of one saved video, as plain data: one pass over its frames, one search for faces, one flow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from magicmirror.data.motion import ClipSpec
from magicmirror.evaluation.face_motion import fm_inter, fm_ref
from magicmirror.evaluation.face_track import FaceTrack, track_faces
from magicmirror.evaluation.identity_similarity import group_similarity
from magicmirror.evaluation.obedience import MOTION_LIMITS, STYLE_LIMITS, judge, motion_effects
from magicmirror.evaluation.optical_flow import flow_smoothness, is_dynamic, vbench_step
from magicmirror.evaluation.picture_quality import flicker, sharpness
from magicmirror.evaluation.style_effects import measure_look, measure_particles, reference_look, style_effects
from magicmirror.evaluation.text_score import TextScore
from magicmirror.faces.alignment import head_transform, transform_points
from magicmirror.faces.analyzer import FaceAnalyzer
from magicmirror.faces.similarity import cosine_similarity, likeness_decay, person_distance, same_person_limit
from magicmirror.media import read_video
from magicmirror.media.optical_flow import dense_flow, grey_frames, top_flow
from magicmirror.types import FaceReference, Float32Array, UInt8Array

FACE_FRAMES = 17
RECOGNISED_SHARE = 0.9


@dataclass(frozen=True, eq=False)
class Identity:
    """Whom a video should show.

    Args:
        reference: The face that the video was made from.
        group: (G, E) embeddings of other pictures of the person, ``None`` where there are none.
    """

    reference: FaceReference
    group: Float32Array | None


def measure_video(
    path: Path,
    identity: Identity,
    clip: ClipSpec,
    analyzer: FaceAnalyzer,
    *,
    face_frames: int = FACE_FRAMES,
    text_score: TextScore | None = None,
) -> dict[str, Any]:
    """Measure a saved video.

    Args:
        path: The file.
        identity: Whom it should show.
        clip: What it should show.
        analyzer: The one that analysed the reference.
        face_frames: In how many evenly spaced frames faces are searched, first and last included.
        text_score: See ``text_score.load_clip_score``.

    Returns:
        JSON-able figures by name, and ``embedding``: the mean of the faces', ``None`` without one.

    Raises:
        VideoError: When the file cannot be read.
    """
    frames, fps = read_video(path)
    sampled = frames[np.unique(np.linspace(0, len(frames) - 1, face_frames).round().astype(int))]
    track = track_faces(sampled, analyzer)
    return {
        "frames": len(sampled),
        "frames_with_face": int(track.found.sum()),
        "face_recognised": track.face_share >= RECOGNISED_SHARE,
        **identity_figures(track, identity),
        **motion_figures(track, identity.reference, (frames.shape[2], frames.shape[1])),
        **picture_figures(frames, fps),
        **obedience_figures(frames, sampled, track, identity.reference, clip),
        "text_score": None if text_score is None else text_score(sampled, clip.caption),
        "embedding": None if track.mean_embedding is None else [float(value) for value in track.mean_embedding],
    }


def identity_figures(track: FaceTrack, identity: Identity) -> dict[str, Any]:
    """Return likeness to the reference and to the group, decay, and the recogniser's own verdict."""
    reference = identity.reference.embedding
    curve = [
        cosine_similarity(embedding, reference) if found else None
        for embedding, found in zip(track.embeddings, track.found, strict=True)
    ]
    mean = track.mean_embedding
    distance = None if mean is None else person_distance(mean, reference)
    similarity = None if identity.group is None else group_similarity(track.embeddings, identity.group)
    return {
        "likeness": fmean(value for value in curve if value is not None) if track.found.any() else None,
        "decay": likeness_decay(curve),
        "own_distance": distance,
        "same_person": distance is not None and distance < same_person_limit(len(reference)),
        "id_similarity": None if similarity is None else similarity.similarity,
        "group_similarity": None if similarity is None else similarity.group,
        "id_gap": None if similarity is None else similarity.gap,
    }


def motion_figures(track: FaceTrack, reference: FaceReference, size_px: tuple[int, int]) -> dict[str, float | None]:
    """Return FM_ref against the head crop of the reference, and FM_inter; ``size_px`` is (width, height)."""
    side = reference.crop.shape[0]
    in_crop = transform_points(
        head_transform(reference.landmarks, reference.landmark_scheme, side), reference.landmarks
    )
    return {
        "fm_ref": fm_ref(track.landmarks, size_px, in_crop, (side, side)),
        "fm_inter": fm_inter(track.landmarks, size_px),
    }


def picture_figures(frames: UInt8Array, fps: float) -> dict[str, Any]:
    """Return dynamic degree, smoothness, flicker and sharpness, at VBench's frame rate."""
    grey = grey_frames(frames[:: vbench_step(fps)])
    flow = dense_flow(grey)
    moving = top_flow(flow)
    return {
        "top_flow_px": float(moving.mean()) if len(moving) else None,
        "dynamic": is_dynamic(moving, min(grey.shape[1:])),
        "smoothness": flow_smoothness(flow),
        "flicker": flicker(grey, flow),
        "sharpness": sharpness(grey),
    }


def obedience_figures(
    frames: UInt8Array, sampled: UInt8Array, track: FaceTrack, reference: FaceReference, clip: ClipSpec
) -> dict[str, Any]:
    """Return the effects of all words, and what became of the asked ones."""
    motions = motion_effects(sampled, track)
    styles: dict[str, float] = {}
    if len(frames) >= 5:
        styles = style_effects(measure_look(frames), measure_particles(frames), reference_look(reference.crop))
    return {
        "motion_effects": motions,
        "style_effects": styles,
        "motion_verdicts": [asdict(v) for v in judge([cue.name for cue in clip.motions], motions, MOTION_LIMITS)],
        "style_verdicts": [asdict(v) for v in judge([clip.style], styles, STYLE_LIMITS)],
    }
