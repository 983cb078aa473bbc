"""Which face of a photo is meant, and whether several photos show one person.

The rules, the same for Python, command line, API and page:

* An index names a face; faces are counted from 0, largest box first.
* Without one, a face that is alone, or has at least twice the area of every other, is taken.
* Faces of comparable size need a choice.
* A photo whose face is further from the others than the recogniser's same-person threshold is reported, not refused:
  recognisers err, above all for children and steep views, and the person who asks knows better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from magicmirror.errors import FaceError, NoFaceFound, SeveralFaces
from magicmirror.faces.similarity import person_distance, same_person_limit
from magicmirror.types import FaceReference

COMPARABLE_AREA_RATIO = 2.0
"""Two faces are comparable when the larger has less than this many times the area of the other."""


@dataclass(frozen=True)
class Mismatch:
    """A photo that seems to show somebody else than the others.

    Args:
        index: Position of the photo.
        distance: Median distance of its face to those of the other photos, see ``similarity.person_distance``.
        limit: Largest distance that counts as one person.
    """

    index: int
    distance: float
    limit: float

    def __str__(self) -> str:
        """One plain sentence; photos are counted from 1 for people."""
        return (
            f"Photo {self.index + 1} may show another person than the other photos "
            f"(distance {self.distance:.2f}, one person is below {self.limit:.2f})."
        )


def choose_face(faces: Sequence[FaceReference], index: int | None = None, option: str = "") -> FaceReference:
    """Pick the face of a photo that a request means.

    Args:
        faces: All faces of the photo, largest first, as ``analyze`` returns them.
        index: Position of the wanted face; ``None`` takes the largest where it clearly dominates.
        option: What the index is called where it is given, for the remedy: ``--face-index`` on the command line.

    Returns:
        The chosen face.

    Raises:
        NoFaceFound: When ``faces`` is empty.
        SeveralFaces: When no index was given and the largest face has less than twice the area of the second.
        FaceError: When the index names no face.
    """
    if not faces:
        raise NoFaceFound(
            "No face was found in the photo.",
            "Use a sharp, well-lit photo of one person who looks towards the camera.",
        )
    if index is not None:
        if not 0 <= index < len(faces):
            count, last = ("1 face", "0") if len(faces) == 1 else (f"{len(faces)} faces", f"0 to {len(faces) - 1}")
            raise FaceError(f"Face {index} was asked for, but the photo has {count}.", f"Use {last}.")
        return faces[index]
    if len(faces) > 1 and faces[0].box.area < COMPARABLE_AREA_RATIO * faces[1].box.area:
        choose = f"Choose one with {option} 0 to {len(faces) - 1}, the largest is 0" if option else "Choose one of them"
        raise SeveralFaces(
            f"The photo shows {len(faces)} faces of comparable size.", f"{choose}, or crop the photo to one person."
        )
    return faces[0]


def find_mismatches(references: Sequence[FaceReference]) -> tuple[Mismatch, ...]:
    """Name the photos whose face differs from the others.

    The face with the largest median distance to the rest is taken out while that distance is above the limit; of two
    photos that differ, the later one is named.

    Args:
        references: One face of each photo, from one recogniser.

    Returns:
        Mismatches by position; empty for one photo, or when all show one person.
    """
    left = list(range(len(references)))
    found = []
    while len(left) > 1:
        apart = {
            i: median(person_distance(references[i].embedding, references[j].embedding) for j in left if j != i)
            for i in left
        }
        worst = max(left, key=lambda i: (apart[i], i))
        limit = same_person_limit(len(references[worst].embedding))
        if apart[worst] <= limit:
            break
        found.append(Mismatch(worst, apart[worst], limit))
        left.remove(worst)
    return tuple(sorted(found, key=lambda mismatch: mismatch.index))


def photo_record(faces: Sequence[FaceReference]) -> dict[str, Any]:
    """Return what was found in a photo as plain JSON, the same on the command line and in the API.

    Args:
        faces: Of one photo, largest first.

    Returns:
        ``faces``: one record each, with ``index``, ``box_px`` (left, top, right, bottom), ``landmarks_px`` (5 points),
        ``score``, ``quality`` in [0, 1] and ``checks``; ``chosen``: index of the face that is taken without a choice,
        or ``None``; ``problem``: why none is, else empty.
    """
    chosen, problem = None, ""
    try:
        main = choose_face(faces)
        chosen = next(index for index, face in enumerate(faces) if face is main)
    except FaceError as error:
        problem = str(error)
    return {"faces": [_record(i, face) for i, face in enumerate(faces)], "chosen": chosen, "problem": problem}


def _record(index: int, face: FaceReference) -> dict[str, Any]:
    box = face.box
    return {
        "index": index,
        "box_px": [round(float(side), 1) for side in (box.left, box.top, box.right, box.bottom)],
        "landmarks_px": [[round(float(x), 1), round(float(y), 1)] for x, y in face.landmarks],
        "score": round(float(face.score), 4),
        "quality": round(float(face.quality), 4),
        "checks": [
            {
                "name": check.name,
                "value": round(float(check.value), 3),
                "limit": round(float(check.limit), 3),
                "unit": check.unit,
                "passed": bool(check.passed),
                "remedy": check.remedy,
            }
            for check in face.checks
        ],
    }
