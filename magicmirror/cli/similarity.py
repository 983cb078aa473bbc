"""``similarity``: how much the person of a picture or of every frame of a video looks like a reference."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicmirror.errors import UserInputError
from magicmirror.serving.reasons import naming

if TYPE_CHECKING:
    from collections.abc import Iterable

    from magicmirror.faces.analyzer import FaceAnalyzer
    from magicmirror.types import FaceReference, Float32Array, UInt8Array

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif"})
READINGS = {
    "close": "a close likeness",
    "same": "the same person to the recogniser",
    "some": "some resemblance, not the same person to the recogniser",
    "none": "hardly any resemblance",
    "unseen": "most frames show no face",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``similarity``."""
    parser.add_argument("reference", metavar="REFERENCE", type=Path, help="photo of the person")
    parser.add_argument(
        "target", metavar="VIDEO_OR_IMAGE", type=Path, help="the largest face of each frame is compared"
    )
    parser.add_argument("--face-index", metavar="I", type=int, help="which face of the reference, from 0")
    parser.add_argument("--every", metavar="N", type=int, default=1, help="compare every N-th frame only")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--analyzer", choices=("dlib", "insightface"), default="dlib", help="default: dlib")


def run(args: argparse.Namespace) -> int:
    """Compare, and print the likeness of each frame, its mean and its decay."""
    from magicmirror.errors import NoFaceFound
    from magicmirror.faces.analyzer import create_face_analyzer
    from magicmirror.faces.selection import choose_face
    from magicmirror.media import iterate_frames, load_image

    analyzer = create_face_analyzer(args.analyzer)
    with naming(args.reference, UserInputError):
        reference = choose_face(analyzer.analyze(load_image(args.reference)), args.face_index, "--face-index")
    with naming(args.target, UserInputError):
        if _is_video(args.target):
            frames: Iterable[UInt8Array] = iterate_frames(args.target, every=args.every)
            embeddings = analyzer.embed_frames(frames)
        else:
            embeddings = _photo_embedding(load_image(args.target), analyzer)
    if not any(embedding is not None for embedding in embeddings):
        count = len(embeddings)
        where = f"in any of its {count} frames" if count > 1 else "in it"
        raise NoFaceFound(f"{args.target}: no face was found {where}.")
    record = compare(reference, embeddings)
    if args.json:
        print(json.dumps(record, indent=2))
    else:
        _print(record)
    return 0


def compare(reference: FaceReference, embeddings: tuple[Float32Array | None, ...]) -> dict[str, Any]:
    """Return all figures of a comparison as plain JSON.

    Args:
        reference: The person.
        embeddings: Raw (E,) embedding of each frame's face, ``None`` where there is none.

    Returns:
        ``likeness`` and ``distance`` a frame (``None`` without a face), their means, ``decay`` of the likeness from the
        first to the last frame, the recogniser's ``same_person_limit`` on distances, ``level`` as on the page.
    """
    from magicmirror.faces.similarity import (
        cosine_similarity,
        likeness_decay,
        mean_likeness,
        person_distance,
        same_person_limit,
    )
    from magicmirror.serving.likeness import likeness_level

    curve = tuple(None if each is None else cosine_similarity(each, reference.embedding) for each in embeddings)
    apart = tuple(None if each is None else person_distance(each, reference.embedding) for each in embeddings)
    size = len(reference.embedding)
    return {
        "frames": len(curve),
        "frames_with_a_face": sum(value is not None for value in curve),
        "mean_likeness": mean_likeness(curve),
        "mean_distance": mean_likeness(apart),
        "same_person_limit": same_person_limit(size),
        "decay": likeness_decay(curve),
        "level": likeness_level(curve, size),
        "likeness": list(curve),
        "distance": list(apart),
    }


def _is_video(path: Path) -> bool:
    """Whether a file is read as a video: its content decides, its name only where that is neither video nor picture."""
    from magicmirror.media.formats.recognition import foreign_content, picture_format
    from magicmirror.media.video_probe import begins_as_video

    start = b""
    if path.is_file():  # a pipe might never answer
        with suppress(OSError), path.open("rb") as file:
            start = file.read(512)
    kind = picture_format(start)
    if kind not in (None, "GIF"):
        return False
    # AVIF has the boxes of an mp4.
    is_video = begins_as_video(start) and (kind == "GIF" or "picture" not in foreign_content(start)[0])
    return is_video or path.suffix.lower() in VIDEO_SUFFIXES


def _photo_embedding(photo: UInt8Array, analyzer: FaceAnalyzer) -> tuple[Float32Array | None, ...]:
    """Embed the largest face of a photo, found as thoroughly as in a reference."""
    faces = analyzer.analyze(photo)
    return (faces[0].embedding if faces else None,)


def _print(record: dict[str, Any]) -> None:
    """Print a line a frame and a summary."""
    if record["frames"] > 1:
        for index, (likeness, distance) in enumerate(zip(record["likeness"], record["distance"], strict=True)):
            print(f"frame {index}: " + ("no face" if likeness is None else f"{likeness:.3f}  distance {distance:.3f}"))
    decay = "" if record["decay"] is None else f"  decay {record['decay']:.3f}"
    print(
        f"likeness {record['mean_likeness']:.3f}  distance {record['mean_distance']:.3f} "
        f"(one person is below {record['same_person_limit']:.2f}){decay}  "
        f"face in {record['frames_with_a_face']} of {record['frames']} frames: {READINGS[record['level']]}"
    )
