"""Pictures that face analysis is asked about again and again, built from the example faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from magicmirror.media import load_image

# Name -> (faces, index of the face that is taken without a choice), as docs/faces.md says.
ANSWERS: dict[str, tuple[int, int | None]] = {
    "one": (1, 0),
    "two": (2, None),
    "two_one_dominates": (2, 0),
    "ten": (10, None),
    "nobody": (0, None),
    "left_half": (0, None),
    "tiny": (1, 0),
    "profile": (1, 0),
    "upside_down": (1, 0),
    "on_its_side": (1, 0),
    "drawn": (1, 0),
}


def hard_picture(name: str, examples: Path) -> np.ndarray:
    """Build the picture of that name, (H, W, 3) uint8 RGB, contiguous."""

    def face(who: str, side: int = 256) -> np.ndarray:
        return cv2.resize(load_image(examples / f"{who}.jpg"), (side, side), interpolation=cv2.INTER_AREA)

    build: dict[str, Callable[[], np.ndarray]] = {
        "one": lambda: face("woman_2", 512),
        "two": lambda: load_image(examples / "two_people.jpg"),
        "two_one_dominates": lambda: _inside(face("woman_1", 512), face("man_2", 96), top=400, left=8),
        "ten": lambda: _ten(face),
        "nobody": _shades,
        "left_half": lambda: face("man_1")[:, :128],
        "tiny": lambda: _inside(np.full((512, 512, 3), 128, np.uint8), face("man_1", 36), top=230, left=230),
        "profile": _profile,
        "upside_down": lambda: face("woman_2")[::-1, ::-1],
        "on_its_side": lambda: np.rot90(face("man_3")),
        "drawn": _drawn,
    }
    return build[name]().copy()


def _inside(picture: np.ndarray, small: np.ndarray, top: int, left: int) -> np.ndarray:
    """Put a small picture into a large one."""
    picture[top : top + small.shape[0], left : left + small.shape[1]] = small
    return picture


def _ten(face: Callable[[str], np.ndarray]) -> np.ndarray:
    """Ten portraits in two rows."""
    names = ("man_1", "man_2", "man_3", "woman_1", "woman_2", "woman_3", "older_man_1", "older_woman_1")
    rows = (names[:5], (*names[5:], "man_1", "woman_1"))
    return np.concatenate([np.concatenate([face(who) for who in row], axis=1) for row in rows], axis=0)


def _shades() -> np.ndarray:
    """Smooth colours."""
    rows, columns = np.mgrid[:300, :400]
    return np.stack([rows * 255 // 300, columns * 255 // 400, np.full_like(rows, 90)], axis=-1).astype(np.uint8)


def _profile() -> np.ndarray:
    """A man behind a camera, seen from the side."""
    from skimage.data import camera

    return np.repeat(camera()[:400, :, None], 3, axis=2)


def _drawn() -> np.ndarray:
    """A face as a child draws it."""
    black, picture = (0, 0, 0), np.full((256, 256, 3), 255, np.uint8)
    cv2.circle(picture, (128, 128), 90, (255, 220, 180), -1)
    cv2.circle(picture, (128, 128), 90, black, 2)
    for x in (95, 161):
        cv2.circle(picture, (x, 105), 12, (255, 255, 255), -1)
        cv2.circle(picture, (x, 105), 12, black, 2)
        cv2.circle(picture, (x, 105), 5, black, -1)
        cv2.line(picture, (x - 15, 82), (x + 15, 82), (60, 30, 0), 5)
    cv2.line(picture, (128, 115), (122, 145), black, 2)
    cv2.ellipse(picture, (128, 165), (35, 18), 0, 10, 170, (160, 0, 0), 4)
    return picture
