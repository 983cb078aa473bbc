"""``faces``: which faces are found in a photo, and how good each is as a reference."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from magicmirror.types import FaceReference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``faces``."""
    parser.add_argument("photo", metavar="PHOTO", type=Path, help="picture to search")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--crops", metavar="DIR", type=Path, help="write the aligned head crops there as PNG")


def run(args: argparse.Namespace) -> int:
    """Search the photo and print one line a face, largest first."""
    from magicmirror.errors import NoFaceFound
    from magicmirror.faces.analyzer import create_face_analyzer
    from magicmirror.media import load_image

    faces = create_face_analyzer("dlib").analyze(load_image(args.photo))
    if not faces:
        raise NoFaceFound(f"{args.photo}: no face was found.", "Use a sharp, well-lit photo that shows the face.")
    rows = [_row(index, face) for index, face in enumerate(faces)]
    if args.crops is not None:
        _write_crops(faces, rows, args.crops, args.photo.stem)
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        left, top, right, bottom = row["box_px"]
        crop = f"  {row['crop']}" if "crop" in row else ""
        print(
            f"face {row['index']}: {right - left:.0f} x {bottom - top:.0f} px at ({left:.0f}, {top:.0f})  "
            f"score {row['score']:.2f}  quality {row['quality']:.2f}{crop}"
        )
    return 0


def _row(index: int, face: FaceReference) -> dict[str, Any]:
    """Describe a face in plain numbers."""
    box = face.box
    return {
        "index": index,
        "box_px": [round(float(side), 1) for side in (box.left, box.top, box.right, box.bottom)],
        "score": round(float(face.score), 4),
        "quality": round(float(face.quality), 4),
    }


def _write_crops(faces: tuple[FaceReference, ...], rows: list[dict[str, Any]], folder: Path, stem: str) -> None:
    """Write ``STEM-face-N.png`` for every face and note the names."""
    from magicmirror.errors import ImageError
    from magicmirror.media import write_image

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f'The folder "{folder}" cannot be made: {error.strerror}.') from error
    for face, row in zip(faces, rows, strict=True):
        row["crop"] = str(write_image(face.crop, folder / f"{stem}-face-{row['index']}.png"))
