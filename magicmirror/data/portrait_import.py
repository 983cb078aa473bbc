"""From a folder of pictures to a manifest of portraits."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from magicmirror.data.manifest import numbered_lines, picture_paths, read_manifest, record_line
from magicmirror.data.records import Origin, PortraitRecord, group_and_stratum, rounded_points, split_of
from magicmirror.data.work_log import cut_incomplete_line
from magicmirror.errors import ConfigError, ImageError
from magicmirror.faces.analyzer import FaceAnalyzer
from magicmirror.media import load_image

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportReport:
    """What became of a folder of pictures or videos.

    Args:
        kept: Records in the manifest.
        dropped: Reason -> number of pictures, or of parts of videos.
    """

    kept: int
    dropped: dict[str, int]


def build_portrait_manifest(
    folder: Path, analyzer: FaceAnalyzer, out: Path, origins: Mapping[str, Origin] | None = None
) -> ImportReport:
    """Analyse all pictures below a folder and write their manifest.

    Pictures without exactly one face are dropped and listed, with the reason, in ``<out>.dropped``. Every line is
    written as soon as it is known; the same call goes on where an earlier one ended.

    Args:
        folder: Root of the pictures.
        analyzer: Finds the faces; its landmarks must be ``dlib5``.
        out: The manifest to write or to continue.
        origins: First folder of a picture's path -> origin; the key ``""`` stands for all others.

    Returns:
        How many pictures were kept and dropped, those of earlier calls included.

    Raises:
        ConfigError: When the folder is missing, the landmarks are of another order, or a picture has no origin.
    """
    if not folder.is_dir():
        raise ConfigError(f'There is no folder "{folder}".')
    if analyzer.landmark_scheme != "dlib5":
        raise ConfigError(f"A portrait manifest needs dlib5 landmarks, the analyzer gives {analyzer.landmark_scheme}.")
    dropped_path = out.with_name(out.name + ".dropped")
    out.parent.mkdir(parents=True, exist_ok=True)
    for written in (out, dropped_path):
        cut_incomplete_line(written)
    done = {record.path for record in read_manifest(out)} if out.exists() else set()
    done |= {json.loads(line)["path"] for _, line in numbered_lines(dropped_path)} if dropped_path.exists() else set()
    todo = [path for path in picture_paths(folder) if path not in done]
    with out.open("a", encoding="utf-8") as kept, dropped_path.open("a", encoding="utf-8") as dropped:
        for number, path in enumerate(todo, start=1):
            outcome = _analyse(folder, path, analyzer, origins or {})
            if isinstance(outcome, PortraitRecord):
                kept.write(record_line(outcome))
                kept.flush()
            else:
                dropped.write(json.dumps({"path": path, "reason": outcome}) + "\n")
                dropped.flush()
            if number % 200 == 0:
                logger.info("%d of %d pictures analysed", number, len(todo))
    reasons = Counter(json.loads(line)["reason"] for _, line in numbered_lines(dropped_path))
    report = ImportReport(kept=len(read_manifest(out)), dropped=dict(reasons))
    logger.info("%d portraits kept, dropped: %s", report.kept, report.dropped or "none")
    return report


def _analyse(folder: Path, path: str, analyzer: FaceAnalyzer, origins: Mapping[str, Origin]) -> PortraitRecord | str:
    """Return the record of a picture, or the reason to drop it."""
    first = path.split("/", maxsplit=1)[0]
    origin = origins.get(first, origins.get(""))
    if origin is None:
        raise ConfigError(f"No origin is known for {path!r}.", 'Name source and licence of its folder, or of "".')
    try:
        faces = analyzer.analyze(load_image(folder / path))
    except ImageError:
        return "unreadable"
    if len(faces) != 1:
        return "no face" if not faces else "several faces"
    face = faces[0]
    name = Path(path)
    group, stratum = group_and_stratum(name.stem, first)
    return PortraitRecord(
        path=path,
        source=origin.source,
        licence=origin.licence,
        person_id=name.with_suffix("").as_posix(),
        group=group,
        stratum=stratum,
        landmarks=rounded_points(face.landmarks),
        box=(face.box.left, face.box.top, face.box.right, face.box.bottom),
        split=split_of(name.name),
    )
