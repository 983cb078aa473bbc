"""Settings of the service: read once from the environment, then passed on as one frozen value.

Every name is ``MAGICMIRROR_`` and the field in capitals, for example ``MAGICMIRROR_OUTPUT_DIR=results``. A name with
that prefix which is not a setting is refused, because a misspelt setting that is ignored looks like one that does
not work.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from magicmirror.errors import ConfigError

PREFIX = "MAGICMIRROR_"


@dataclass(frozen=True)
class Settings:
    """What a process needs to know before it loads anything.

    Args:
        profile: Name of the profile, ``preview`` or ``cogvideox-5b``.
        model_path: Folder of the base model; ``None`` takes the profile's own.
        adapter: Folder or hub id of the adapter; ``None`` takes the profile's own.
        output_dir: Where finished videos are kept.
        queue_size: Jobs that may wait, at least 1.
        threads: CPU threads of the model; 0 lets torch decide.
        host: Address the page listens on. Where unset, ``GRADIO_SERVER_NAME`` counts, as hosting services set it.
        port: Port of the page, 1 to 65535. Where unset, ``GRADIO_SERVER_PORT`` counts.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        face_packs: insightface's root folder, whose ``models`` holds its model packs; ``None`` is ``~/.insightface``.
        max_upload_bytes: Largest accepted picture or video, in bytes.
        retention_hours: Hours after which stored results are deleted; 0 keeps them.
    """

    profile: str = "preview"
    model_path: Path | None = None
    adapter: str | None = None
    output_dir: Path = Path("outputs")
    queue_size: int = 8
    threads: int = 0
    host: str = "127.0.0.1"
    port: int = 7860
    device: str = "auto"
    face_packs: Path | None = None
    max_upload_bytes: int = 20 * 1024 * 1024
    retention_hours: float = 24.0

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        _check(self.queue_size >= 1, "queue_size", self.queue_size, "at least 1")
        _check(0 <= self.threads <= 1024, "threads", self.threads, "0 to 1024")
        _check(1 <= self.port <= 65535, "port", self.port, "1 to 65535")
        _check(self.max_upload_bytes >= 1024, "max_upload_bytes", self.max_upload_bytes, "at least 1024")
        _check(0.0 <= self.retention_hours < float("inf"), "retention_hours", self.retention_hours, "0 or more, finite")
        kind, _, number = self.device.partition(":")
        valid = self.device in ("auto", "cpu", "cuda", "mps") or (kind == "cuda" and number.isdecimal())
        _check(valid, "device", self.device, "auto, cpu, cuda, cuda:N or mps")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings.

        Args:
            environ: Names and values; ``None`` means ``os.environ``.

        Returns:
            The settings, defaults where a name is not set.

        Raises:
            ConfigError: For an unknown ``MAGICMIRROR_`` name, an empty value, or a value of the wrong form or range.
        """
        environ = os.environ if environ is None else environ
        names = {PREFIX + field.name.upper(): field.name for field in fields(cls)}
        values: dict[str, Any] = {}
        for name in sorted(environ):
            if not name.startswith(PREFIX):
                continue
            if name not in names:
                nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
                raise ConfigError(f"{name} is not a setting.", f"Did you mean {nearest}?")
            values[names[name]] = _parse(name, environ[name], _PARSERS[names[name]])
        if "host" not in values and environ.get("GRADIO_SERVER_NAME"):
            values["host"] = environ["GRADIO_SERVER_NAME"]
        if "port" not in values and environ.get("GRADIO_SERVER_PORT"):
            values["port"] = _parse("GRADIO_SERVER_PORT", environ["GRADIO_SERVER_PORT"], int)
        return cls(**values)


_PARSERS: dict[str, Callable[[str], Any]] = {
    "profile": str,
    "model_path": Path,
    "adapter": str,
    "output_dir": Path,
    "queue_size": int,
    "threads": int,
    "host": str,
    "port": int,
    "device": str,
    "face_packs": Path,
    "max_upload_bytes": int,
    "retention_hours": float,
}


def _parse(name: str, text: str, parser: Callable[[str], Any]) -> Any:
    """Turn the text of one variable into its value."""
    if not text.strip():
        raise ConfigError(f"{name} is set but empty.", "Unset it to take the default.")
    try:
        return parser(text.strip())
    except ValueError as error:
        kind = {int: "a whole number", float: "a number"}.get(parser, "a value")  # type: ignore[call-overload]
        raise ConfigError(f'{name} must be {kind}, got "{text}".') from error


def _check(valid: bool, name: str, value: object, expected: str) -> None:
    """Raise ``ConfigError`` where a value is out of range."""
    if not valid:
        raise ConfigError(f"{PREFIX}{name.upper()} must be {expected}, got {value!r}.")
