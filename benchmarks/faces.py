"""How often the analyzer finds exactly the one face of a portrait, and how long that takes beside plain dlib.

    python benchmarks/faces.py --portraits FOLDER [--limit 300] [--side 512]

Portraits are taken in the order of their names' hashes and scaled to ``--side`` px. The peer is what the package
``face_recognition`` does: HOG detector, 5-point landmarks, 128-d embedding, called by hand on the same picture. Both
are timed in turn, picture by picture, in one thread. Time grows with the pixels of the picture up to 1280 px a side
(search) and with the number of faces (embedding); larger pictures cost one reduction more.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np

from magicmirror.data.manifest import name_hash, picture_paths
from magicmirror.faces.analyzer import create_face_analyzer
from magicmirror.faces.dlib_analyzer import EMBEDDING_FILE
from magicmirror.faces.dlib_search import LANDMARK_FILE, weights_path
from magicmirror.media import load_image
from magicmirror.types import UInt8Array


class PlainDlib:
    """dlib as ``face_recognition`` calls it."""

    def __init__(self) -> None:
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = dlib.shape_predictor(str(weights_path(LANDMARK_FILE)))
        self._recogniser = dlib.face_recognition_model_v1(str(weights_path(EMBEDDING_FILE)))

    def embed(self, image: UInt8Array) -> list[np.ndarray[Any, Any]]:
        """Return the embedding of every face."""
        shapes = [self._predictor(image, box) for box in self._detector(image, 0)]
        return [np.array(self._recogniser.compute_face_descriptor(image, shape, 1)) for shape in shapes]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", metavar="FOLDER", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--side", type=int, default=512, help="longer side in px")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    analyzer, plain = create_face_analyzer("dlib"), PlainDlib()
    paths = sorted(picture_paths(args.portraits), key=lambda path: name_hash(Path(path).name))[: args.limit]
    found: Counter[int] = Counter()
    ours_s, plain_s, apart = [], [], []
    for path in paths:
        image = _scaled(load_image(args.portraits / path), args.side)
        started = time.perf_counter()
        faces = analyzer.analyze(image)
        between = time.perf_counter()
        reference = plain.embed(image)
        ours_s.append(between - started)
        plain_s.append(time.perf_counter() - between)
        found[len(faces)] += 1
        if len(faces) == len(reference) == 1:
            apart.append(float(np.linalg.norm(faces[0].embedding - reference[0])))
    print(f"{len(paths)} portraits at {args.side} px; number of faces found: {dict(sorted(found.items()))}")
    print(f"exactly one face: {found[1] / len(paths):.1%}")
    for name, seconds in (("magicmirror", ours_s[1:]), ("plain dlib", plain_s[1:])):
        median, high, worst = np.percentile(seconds, [50, 95, 100])
        print(f"{name:12s} median {median:.3f} s, 95th percentile {high:.3f} s, slowest {worst:.3f} s")
    print(f"ratio of the medians {np.median(ours_s[1:]) / np.median(plain_s[1:]):.3f}")
    print(f"largest distance of the two embeddings {max(apart):.1e} over {len(apart)} portraits")


def _scaled(image: UInt8Array, side: int) -> UInt8Array:
    height, width = image.shape[:2]
    scale = side / max(height, width)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)


if __name__ == "__main__":
    main()
