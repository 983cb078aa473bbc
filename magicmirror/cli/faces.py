"""``faces``: which faces are found in a photo, how good each is as a reference, and what would make it better."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from magicmirror.types import FaceReference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``faces``."""
    parser.add_argument("photo", metavar="PHOTO", type=Path, help="picture to search")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--crops", metavar="DIR", type=Path, help="write the aligned head crops there as PNG")
    parser.add_argument("--analyzer", choices=("dlib", "insightface"), default="dlib", help="default: dlib")


def run(args: argparse.Namespace) -> int:
    """Search the photo and print every face, largest first, with what was measured of it."""
    from magicmirror.errors import NoFaceFound
    from magicmirror.faces.analyzer import create_face_analyzer
    from magicmirror.faces.selection import photo_record
    from magicmirror.media import load_image

    faces = create_face_analyzer(args.analyzer).analyze(load_image(args.photo))
    record = photo_record(faces)
    if not faces:
        raise NoFaceFound(f"{args.photo}: {record['problem']}")
    if args.crops is not None:
        _write_crops(faces, record["faces"], args.crops, args.photo.stem)
    if args.json:
        print(json.dumps(record, indent=2))
        return 0
    for face in record["faces"]:
        _print_face(face)
    if record["chosen"] is None:
        print(record["problem"])
    return 0


def _print_face(face: dict[str, Any]) -> None:
    """Print a face in one line, and one line for every check that it failed."""
    left, top, right, bottom = face["box_px"]
    crop = f"  {face['crop']}" if "crop" in face else ""
    print(
        f"face {face['index']}: {right - left:.0f} x {bottom - top:.0f} px at ({left:.0f}, {top:.0f})  "
        f"score {face['score']:.2f}  quality {face['quality']:.2f}{crop}"
    )
    for check in face["checks"]:
        if not check["passed"]:
            unit = f" {check['unit']}" if check["unit"] else ""
            print(f"  {check['name']} {check['value']:.4g}{unit} (limit {check['limit']:.4g}): {check['remedy']}")


def _write_crops(faces: Sequence[FaceReference], rows: list[dict[str, Any]], folder: Path, stem: str) -> None:
    """Write ``STEM-face-N.png`` for every face and note the names."""
    from magicmirror.errors import ImageError
    from magicmirror.media import make_folder, write_image

    make_folder(folder, ImageError)
    for face, row in zip(faces, rows, strict=True):
        row["crop"] = str(write_image(face.crop, folder / f"{stem}-face-{row['index']}.png"))
