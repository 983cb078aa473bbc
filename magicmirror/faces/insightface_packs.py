"""insightface's model packs on disk: where they are, how they get there, and what a person can do by hand.

A pack is a folder of ONNX files, ``<root>/models/<name>``. An absent one is downloaded by insightface's own function,
in a process of its own: that function prints, waits for a silent server without end, and takes a half-unpacked folder
for a complete one. Here a pack is unpacked beside its place, checked, and moved there in one step; what a killed
download left is removed by the next one.

Licence: insightface's code is under the MIT licence, but its packs may be used for non-commercial research only.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.settings import Settings

LICENCE_NOTE = "insightface's model packs may be used for non-commercial research only."

PACK_FILES: dict[str, tuple[str, str]] = {
    "buffalo_l": ("det_10g.onnx", "w600k_r50.onnx"),
    "buffalo_m": ("det_2.5g.onnx", "w600k_r50.onnx"),
    "buffalo_s": ("det_500m.onnx", "w600k_mbf.onnx"),
    "buffalo_sc": ("det_500m.onnx", "w600k_mbf.onnx"),
    "antelopev2": ("scrfd_10g_bnkps.onnx", "glintr100.onnx"),
}
"""Detector and recogniser of the packs that are known; a pack of another name is taken as it is."""

STALL_LIMIT_S = 120.0
"""A download that brings nothing for so long is given up."""

_UNREACHABLE = re.compile(r"\bhost='(?P<host>[^']+)'.*Max retries exceeded")
_DOWNLOAD = "import sys; from insightface.utils import download; download('models', sys.argv[1], True, sys.argv[2])"


def pack_root(root: Path | None = None) -> Path:
    """Return insightface's root folder: the given one, else ``MAGICMIRROR_FACE_PACKS``, else ``~/.insightface``."""
    chosen = root or Settings.from_environment().face_packs or Path("~/.insightface")
    return chosen.expanduser().absolute()


def ensure_pack(name: str, root: Path) -> Path:
    """Return the folder that holds a pack's ONNX files; where there is none, unpack or download the pack.

    Looked at in this order: the folder ``models/<name>`` of ``root`` (its files may lie in one folder inside it, as
    some archives have it), the archive ``models/<name>.zip`` beside it, and insightface's release page.

    Args:
        name: Such as ``buffalo_l`` or ``antelopev2``.
        root: insightface's root folder.

    Returns:
        The folder whose ``*.onnx`` are the pack.

    Raises:
        ConfigError: When the name cannot be the name of a pack.
        WeightsError: When the pack is incomplete, its archive damaged, or it cannot be fetched; the remedy says how
            to put it there by hand.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f'"{name}" cannot be the name of a pack of face models.', f"Choose one of {_known()}.")
    place = root / "models" / name
    folder = onnx_folder(place)
    if folder is None:
        try:
            with _staging(place) as staging:
                # Another process may have put it there while this one waited for its turn.
                folder = onnx_folder(place) or _install(place, staging)
        except OSError as error:
            raise WeightsError(
                f'The folder "{place.parent}" cannot be written: {error.strerror or error}.',
                f"Give another folder by MAGICMIRROR_FACE_PACKS. {by_hand(place)}",
            ) from error
    _check_complete(folder, place)
    return folder


def recogniser_file(pack: str = "buffalo_l", root: Path | None = None) -> Path:
    """Return the ONNX file of a known pack's recogniser.

    Args:
        pack: One of ``PACK_FILES``.
        root: See ``pack_root``.

    Raises:
        WeightsError: As ``ensure_pack``.
    """
    return ensure_pack(pack, pack_root(root)) / PACK_FILES[pack][1]


def onnx_folder(place: Path) -> Path | None:
    """Return the one folder at or below ``place`` that holds ONNX files, ``None`` where there is none or several."""
    folders = {path.parent for path in place.rglob("*.onnx") if _is_visible(path.relative_to(place))}
    if place in folders:
        return place
    return folders.pop() if len(folders) == 1 else None


def by_hand(place: Path) -> str:
    """Say how to put a pack in its place by hand."""
    files = " and ".join(PACK_FILES.get(place.name, ("the pack's .onnx files",)))
    return (
        f'To put the pack there by hand, take "{place.name}.zip" from the release named "model-zoo" of the project '
        f'deepinsight/insightface on GitHub, and unpack it so that the folder "{place}" holds {files}. {LICENCE_NOTE}'
    )


def _install(place: Path, staging: Path) -> Path:
    """Fill an absent ``place`` from the archive beside it, or from the network; return it."""
    if place.exists() and any(place.iterdir()):
        raise WeightsError(
            f'The folder "{place}" does not hold the .onnx files of one pack.',
            f"Delete it and start again. {by_hand(place)}",
        )
    archive = place.with_name(f"{place.name}.zip")
    unpacked = staging / "models" / place.name
    if archive.is_file():
        _unpack(archive, unpacked, place)
        source, remedy = f'The archive "{archive}"', "Delete it and start again."
    else:
        _download(place, staging)
        source, remedy = f'What was downloaded as "{place.name}.zip"', "Try again later."
    folder = onnx_folder(unpacked)
    if folder is None:
        raise WeightsError(f"{source} does not hold the .onnx files of one pack.", f"{remedy} {by_hand(place)}")
    if place.exists():
        place.rmdir()
    folder.rename(place)
    return place


def _unpack(archive: Path, target: Path, place: Path) -> None:
    """Unpack an archive that a person, or insightface itself, has put beside the pack's place."""
    try:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise WeightsError(
            f'The archive "{archive}" is damaged or only half there ({error}).',
            f"Delete it and start again, so that it is downloaded anew. {by_hand(place)}",
        ) from error


def _download(place: Path, staging: Path) -> None:
    """Let insightface download and unpack a pack below ``staging``, in a process that can be given up."""
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        raise WeightsError(
            f'The pack of face models "{place.name}" is not in "{place}", and nothing is downloaded because '
            "HF_HUB_OFFLINE is set.",
            f"Unset HF_HUB_OFFLINE. {by_hand(place)}",
        )
    command = [sys.executable, "-P", "-c", _DOWNLOAD, place.name, str(staging)]
    with tempfile.TemporaryFile() as printed:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT)
        try:
            stalled = _wait(child, staging)
        finally:
            child.kill()
            child.wait()
        if not stalled and child.returncode == 0:
            return
        reason = f"nothing came for {STALL_LIMIT_S:.0f} s" if stalled else _last_line(printed)
    unreachable = _UNREACHABLE.search(reason)
    if unreachable:
        reason = f"{unreachable['host']} cannot be reached"
    check = "Check the network" if unreachable else f"Check the name ({_known()}) and the network"
    raise WeightsError(
        f'The pack of face models "{place.name}" could not be downloaded to "{place}": {reason}.',
        f"{check}, and start again; nothing was kept. {by_hand(place)}",
    )


def _wait(child: subprocess.Popen[bytes], staging: Path) -> bool:
    """Wait for a download's end; return whether it stalled instead."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < STALL_LIMIT_S:
        try:
            child.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            size = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
            if size != seen:
                seen, since = size, time.monotonic()
        else:
            return False
    return True


@contextmanager
def _staging(place: Path) -> Iterator[Path]:
    """Give an empty hidden folder beside ``place``, to one process at a time, and remove it afterwards."""
    from filelock import FileLock

    place.parent.mkdir(parents=True, exist_ok=True)
    # Under a name of its own: a killed process may leave a download that still writes to its folder.
    staging = place.with_name(f".{place.name}.{uuid.uuid4().hex}.partial")
    with FileLock(place.with_name(f".{place.name}.lock")):
        for left in place.parent.glob(f".{place.name}.*.partial"):
            shutil.rmtree(left, ignore_errors=True)
        staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _check_complete(folder: Path, place: Path) -> None:
    """Refuse a known pack that lacks its detector or recogniser."""
    missing = [file for file in PACK_FILES.get(place.name, ()) if not (folder / file).is_file()]
    if missing:
        raise WeightsError(
            f'The pack of face models in "{folder}" is incomplete: {" and ".join(missing)} missing.',
            f'Delete the folder "{place}" and start again, so that it is downloaded anew. {by_hand(place)}',
        )


def _is_visible(path: Path) -> bool:
    """Whether no part of a path is hidden or a resource fork that macOS packs into archives."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _last_line(printed: IO[bytes]) -> str:
    """Return the last line that a process printed, which names the exception."""
    printed.seek(0)
    lines = printed.read().decode(errors="replace").split("\n")
    return next((line.strip().rstrip(".")[:300] for line in reversed(lines) if line.strip()), "no reason was given")


def _known() -> str:
    """Return the names of the known packs."""
    return ", ".join(PACK_FILES)
