"""Weights from the Hugging Face Hub: what is missing is fetched once, checked, and found in the cache from then on.

::

    fetch ──> the file that says what a repository holds ──> names of the files that are needed
          ──> free space ──> download with one bar, of files that an earlier one did not complete ──> checksums

Transport, resuming, locks and the cache's layout are ``huggingface_hub``'s. Ours is to say what went wrong and what to
do, and to leave a cache behind that the next call can use.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants, get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is its HTTP client's
    CachedRepoTreeNotFoundError,
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    XetDownloadError,
)
from huggingface_hub.utils.tqdm import tqdm

from magicmirror.errors import WeightsError
from magicmirror.media import complete_file

Select = Callable[[Sequence[str]], Sequence[str]]
"""From the names of all files of a repository to those that are needed."""

_SPARE_BYTES = 256 * 1024**2
"""Left free beside what is downloaded: converted weights and the system's own needs."""
TRANSPORT_ERRORS = (HTTPError, OSError)
"""What a call to the hub ends in when the network fails."""
_MISSED = (*TRANSPORT_ERRORS, XetDownloadError, EntryNotFoundError, ValueError)
"""What a download can end in; the standard errors are the base classes of most of the hub's own."""
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
"""Of a cache folder; the last two where a file is in its place."""


@dataclass(frozen=True)
class HubOptions:
    """How the hub is used.

    Args:
        local_files_only: Take what is in the cache and never ask the network. ``HF_HUB_OFFLINE=1`` does the same.
        cache_dir: Of the hub; ``None`` is its own choice (``HF_HUB_CACHE``, ``HF_HOME``).
        token: For private or gated repositories; ``None`` takes that of ``hf auth login`` or ``HF_TOKEN``.
    """

    local_files_only: bool = False
    cache_dir: str | os.PathLike[str] | None = None
    token: str | None = None

    @property
    def cache(self) -> Path:
        """Folder of the hub's cache."""
        return Path(self.cache_dir or constants.HF_HUB_CACHE).expanduser()

    @property
    def own_cache(self) -> Path:
        """Folder for what this package keeps beside the hub's cache."""
        return self.cache.parent / "magicmirror" if self.cache_dir is None else self.cache / "magicmirror"


class DownloadBar(tqdm):
    """The one bar of bytes; the hub's bars for files and for the network are not shown."""

    repository = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        shown = kwargs.get("name") == "huggingface_hub.snapshot_download"
        if not shown:
            kwargs["disable"] = True
        kwargs.pop("bar_format", None)
        super().__init__(*args, **kwargs, leave=False)  # type: ignore[no-untyped-call]
        self.set_description()

    def set_description(self, _desc: str | None = None, refresh: bool | None = True) -> None:
        """Keep the repository's name, whatever the hub calls what it does."""
        super().set_description(f"Downloading {self.repository}", refresh)


def fetch(repository: str, revision: str | None, first: str, select: Select, options: HubOptions) -> Path:
    """Have some files of a repository in the cache, complete and with the right checksums.

    Args:
        repository: "owner/name".
        revision: Branch, tag or commit; ``None`` is the main branch.
        first: File that every repository of this kind has.
        select: Chooses among all files; ``first`` must be among the chosen.
        options: Of the hub.

    Returns:
        Folder of the revision in the cache; its name is the commit.

    Raises:
        WeightsError: If it cannot be had; says why and what to do. Files that are complete stay.
    """
    folder = _snapshot(repository, revision, [first], options)
    if not (folder / first).is_file():
        raise WeightsError(f"{repository} has no {first}, so it is not what is needed here.", "Check the name.")
    try:
        tree = get_cached_repo_tree(repository, revision=folder.name, cache_dir=options.cache)
        sizes, known = {file.path: file.size for file in tree}, True
    except CachedRepoTreeNotFoundError:
        # Put there by an old version of the hub's library, and no network: what is here has to do.
        sizes = {path.relative_to(folder).as_posix(): 0 for path in folder.rglob("*") if path.is_file()}
        known = False
    names = list(select(sorted(sizes)))
    if known and (absent := [name for name in names if name not in sizes]):
        raise WeightsError(f"{repository} has no {' and no '.join(absent)}.", "Check the name and the revision.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        _check_space(repository, sum(sizes.get(name, 0) for name in missing), options)
        folder = _snapshot(repository, folder.name, names, options)
    _verify(repository, folder, names, options)
    return folder


def _snapshot(repository: str, revision: str | None, names: Sequence[str], options: HubOptions) -> Path:
    bar = type("Bar", (DownloadBar,), {"repository": repository})
    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=[_literal(name) for name in names],
            cache_dir=options.cache,
            local_files_only=options.local_files_only,
            token=options.token,
            tqdm_class=bar,
        )
    except _MISSED as error:
        raise _explained(error, repository, revision, options) from error
    return Path(folder)


def _literal(name: str) -> str:
    """A file name as a pattern that matches nothing else."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _explained(error: Exception, repository: str, revision: str | None, options: HubOptions) -> WeightsError:
    """Turn what the hub's library raises into one sentence and what to do."""
    named = repository if revision is None else f"{repository}@{revision}"
    offline = options.local_files_only or constants.HF_HUB_OFFLINE
    if isinstance(error, HFValidationError):
        return WeightsError(f'"{repository}" is neither a folder here nor the id of a repository ("owner/name").')
    if isinstance(error, RevisionNotFoundError):
        return WeightsError(f"{repository} has no revision {revision}.", "Check branch, tag or commit.")
    if isinstance(error, GatedRepoError):
        return WeightsError(
            f"{named} asks everybody to accept its terms first.",
            f"Accept them on the page of {repository}, then log in with `hf auth login` or set HF_TOKEN.",
        )
    if isinstance(error, RepositoryNotFoundError):
        return WeightsError(
            f"{repository} is no folder here, and the hub knows no such repository, or does not show it to you.",
            "Check the name; for a private one log in with `hf auth login` or set HF_TOKEN.",
        )
    if isinstance(error, DisabledRepoError):
        return WeightsError(f"{repository} has been disabled by the hub.")
    if isinstance(error, LocalEntryNotFoundError) and offline:
        return WeightsError(
            f"{named} is not completely in the cache {options.cache}, and downloads are switched off.",
            "Let it download once, or give the path of a folder that has it.",
        )
    if (status := _status(error)) is not None:
        return _refused(*status, repository, revision)
    return _broken_off(error, named, options)


def _broken_off(error: Exception, named: str, options: HubOptions) -> WeightsError:
    """Say what is wrong on this side of the network, or with it."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOSPC:
        return WeightsError(
            f"The disk of {options.cache} is full; {named} is not complete.",
            "Free space or set HF_HOME to a larger disk, and run it again: complete files are kept.",
        )
    if number in _NOT_WRITABLE:
        return WeightsError(
            f"{named} is not in the cache {options.cache}, and nothing can be written there.",
            "Set HF_HOME to a folder that you may write to, or have the cache filled by its owner.",
        )
    if isinstance(error, LocalEntryNotFoundError):
        return WeightsError(
            f"{named} is not completely in the cache {options.cache}, and the hub cannot be reached.",
            "Check the network and run it again, or give the path of a folder that has it.",
        )
    return WeightsError(
        f"The download of {named} was interrupted: {first_line(error)}.",
        "Run it again: complete files are kept.",
    )


def _status(error: BaseException | None) -> tuple[int, str] | None:
    """What the hub answered, if that is why: the HTTP status of a failure, and the file that was asked for, or ""."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None and response.status_code >= 400:
            path = urlsplit(str(response.url)).path
            return response.status_code, unquote(path.partition("/resolve/")[2].partition("/")[2])
        error = error.__cause__
    return None


def _refused(status: int, file: str, repository: str, revision: str | None) -> WeightsError:
    """Say what an HTTP status of the hub means for somebody who wants weights."""
    named = repository if revision is None else f"{repository}@{revision}"
    if status == 401:
        return WeightsError(
            f"The hub does not accept the login for {named}: the token is wrong or has expired.",
            "Log in again with `hf auth login`, or mend or unset HF_TOKEN.",
        )
    if status == 403:
        return WeightsError(
            f"The hub does not let you read {named}.",
            f"Ask for access on the page of {repository}, or log in with a token that has it.",
        )
    if status in (404, 410):
        return WeightsError(
            f"{named} has no {file}." if file else f"The hub knows no {named}.", "Check its name and revision."
        )
    return unserved(status, named, "send")


def unserved(status: int, named: str, deed: Literal["send", "take"]) -> WeightsError:
    """Say what an HTTP status of the hub means that is about neither rights nor names, in reading and in publishing.

    Args:
        status: Of the answer.
        named: Repository, with its revision.
        deed: What the hub was asked to do.
    """
    kept = ": complete files are kept." if deed == "send" else "."
    if status == 429:
        return WeightsError(
            f"The hub has had too many requests from here and does not {deed} {named} now.",
            f"Wait some minutes and run it again, or log in with `hf auth login`{kept}",
        )
    if status >= 500:
        return WeightsError(
            f"The hub has a fault and does not {deed} {named} now: status {status}.", f"Run it again later{kept}"
        )
    return WeightsError(f"The hub refused {named}: status {status}.", "Check its name and revision.")


def first_line(error: Exception) -> str:
    """What a library's error says first, without the full stop; its name where it says nothing."""
    if isinstance(error, KeyError):
        return f"there is no entry {error}"
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _check_space(repository: str, needed: int, options: HubOptions) -> None:
    """Refuse a download that cannot end well before it begins."""
    folder = options.cache
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES and not options.local_files_only:
        raise WeightsError(
            f"{repository} needs {_size(needed)} more in {options.cache}, where {_size(free)} are free "
            f"and {_size(_SPARE_BYTES)} are kept for the system.",
            "Free space, or set HF_HOME to a folder on a larger disk.",
        )


def _size(count: int) -> str:
    """Bytes for a reader."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.1f} MB"


def _verify(repository: str, folder: Path, names: Sequence[str], options: HubOptions) -> None:
    """Compare files with the checksums that they are stored under; each one once, as long as it does not change.

    The hub's cache keeps a file's content under its checksum and links to it; where a system has no links nothing
    can be compared.

    Raises:
        WeightsError: For a damaged file, which is removed, so that the next call downloads it again.
    """
    record = options.own_cache / "verified.json"
    known = _read_record(record)
    seen, damaged = dict(known), []
    for name in names:
        path = folder / name
        if not path.is_symlink():
            continue
        blob = path.resolve()
        state = [blob.stat().st_size, blob.stat().st_mtime_ns]
        if known.get(str(blob)) == state:
            continue
        if _has_checksum(blob):
            seen[str(blob)] = state
        else:
            _forget(path, blob)
            damaged.append(name)
    if seen != known:
        with suppress(OSError, WeightsError):  # a cache that cannot be written to is verified anew every time
            record.parent.mkdir(parents=True, exist_ok=True)
            with complete_file(record, WeightsError) as partial:
                partial.write_text(json.dumps(seen), encoding="utf-8")
    if damaged:
        raise WeightsError(
            f"{repository} is damaged in the cache: {', '.join(damaged)} does not match its checksum.",
            "The damaged part was removed; run it again to download that anew.",
        )


def _read_record(path: Path) -> dict[str, list[int]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _has_checksum(blob: Path) -> bool:
    """Whether a file has the checksum that is its name: SHA-256 for large files, git's SHA-1 for small ones."""
    with blob.open("rb") as file:
        if len(blob.name) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest() == blob.name
        if len(blob.name) == 40:
            content = file.read()
            git = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
            git.update(content)
            return git.hexdigest() == blob.name
    return True


def _forget(path: Path, blob: Path) -> None:
    for each in (path, blob):
        try:
            each.unlink()
        except OSError as error:
            raise WeightsError(
                f"{blob} is damaged and cannot be removed: {error.strerror}.", "Have it removed by its owner."
            ) from error
