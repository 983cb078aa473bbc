"""Settings of the service: read once from the environment, then passed on as one frozen value.

Every name is ``MAGICMIRROR_`` and the field in capitals, for example ``MAGICMIRROR_OUTPUT_DIR=results``. A name with
that prefix which is not a setting is refused, because a misspelt setting that is ignored looks like one that does
not work.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from magicmirror.errors import ConfigError

PREFIX = "MAGICMIRROR_"

MemoryChoice = Literal["auto", "resident", "model", "group", "sequential"]
Quantisation = Literal["none", "int8", "fp8"]

PADDED_KERNEL = "padded"
"""cuDNN's kernel on whole tiles of tokens (``models/padded_attention.py``); the others are diffusers'."""
ATTENTION_KERNELS = (
    "native",
    PADDED_KERNEL,
    "_native_cudnn",
    "_native_efficient",
    "_native_flash",
    "_native_math",
    "flex",
    "flash",
    "flash_hub",
    "_flash_3",
    "_flash_3_hub",
    "flash_4_hub",
    "aiter_fa2_hub",
    "sage",
    "sage_hub",
    "sage_blackwell_hub",
    "_sage_qk_int8_pv_fp8_cuda",
    "_sage_qk_int8_pv_fp8_cuda_sm90",
    "_sage_qk_int8_pv_fp16_cuda",
    "_sage_qk_int8_pv_fp16_triton",
    "xformers",
)
"""Ours, and those of diffusers' dispatcher by its names that take one length of sequence on the devices we know."""

STEP_CACHES = "none, first-block or first-block:THRESHOLD"
FIRST_BLOCK_THRESHOLD = 0.1


@dataclass(frozen=True)
class Settings:
    """What a process needs to know before it loads anything.

    Args:
        profile: Name of the profile, ``preview`` or ``cogvideox-5b``.
        model_path: Folder or hub id of the base model; ``None`` takes the profile's own.
        adapter: Folder, file or hub id (``owner/name@revision``) of the adapter; ``None`` takes the profile's own.
        identity_encoder: File, folder or hub id of PhotoMaker-V2's encoder, which full sizes need; ``None`` takes the
            profile's own.
        output_dir: Where finished videos are kept.
        queue_size: Jobs that may wait, at least 1.
        threads: CPU threads of the model; 0 lets torch decide.
        host: Address the page listens on. Where unset, ``GRADIO_SERVER_NAME`` counts, as hosting services set it.
        port: Port of the page, 1 to 65535. Where unset, ``GRADIO_SERVER_PORT`` counts.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        memory: How the networks share the device's memory: ``resident``, ``model``, ``group``, ``sequential``, from
            fast to small, or ``auto``, the first that fits; see docs/memory.md.
        quantisation: ``int8`` or ``fp8`` stores the base's weights in 8 bits, which needs ``torchao``; or ``none``.
        compile: Whether the transformer's blocks are compiled: later videos are faster, the first one waits for it.
        attention: Attention kernel by diffusers' name, for example ``_native_cudnn``, ``flash`` or ``sage``; ``None``
            is torch's own choice.
        step_cache: ``first-block`` or ``first-block:THRESHOLD`` (0.1) reuses blocks of the step before where the first
            one changed less than that: faster, and another video. ``none`` computes every step; see
            docs/performance.md.
        face_packs: insightface's root folder, whose ``models`` holds its model packs; ``None`` is ``~/.insightface``.
        max_upload_bytes: Largest accepted picture or video, in bytes.
        retention_hours: Hours after which stored results are deleted; 0 keeps them.
        max_storage_bytes: Results are deleted, the oldest first, above this many bytes; 0 sets no limit.
        max_takes: Most takes that one job may make, 1 to 8.
        live_preview: Whether a small picture is shown while a video is being made.
        mark: Whether every frame carries a small visible mark with ``mark_text``.
        mark_text: What the mark says, at most 40 characters.
        prompt_filter: ``package.module:function`` that gets a prompt and returns why it is refused or ``None``, or a
            file with one forbidden word or phrase a line; ``None`` accepts every prompt.
        login: ``name:password``, several with commas in between; ``None`` asks nobody.
        shutdown_grace_s: Seconds that the running job gets to finish when the server is asked to end.
        gpu_seconds: Longest time of one job on a ZeroGPU Space, in seconds; of no effect elsewhere.
    """

    profile: str = "preview"
    model_path: Path | None = None
    adapter: str | None = None
    identity_encoder: str | None = None
    output_dir: Path = Path("outputs")
    queue_size: int = 8
    threads: int = 0
    host: str = "127.0.0.1"
    port: int = 7860
    device: str = "auto"
    memory: str = "auto"
    quantisation: str = "none"
    compile: bool = False
    attention: str | None = None
    step_cache: str = "none"
    face_packs: Path | None = None
    max_upload_bytes: int = 20 * 1024 * 1024
    retention_hours: float = 24.0
    max_storage_bytes: int = 10 * 1024**3
    max_takes: int = 8
    live_preview: bool = True
    mark: bool = True
    mark_text: str = "AI-generated"
    prompt_filter: str | None = None
    login: str | None = field(default=None, repr=False)
    shutdown_grace_s: float = 5.0
    gpu_seconds: int = 120

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        _check(self.queue_size >= 1, "queue_size", self.queue_size, "at least 1")
        _check(0 <= self.threads <= 1024, "threads", self.threads, "0 to 1024")
        _check(1 <= self.port <= 65535, "port", self.port, "1 to 65535")
        _check(self.max_upload_bytes >= 1024, "max_upload_bytes", self.max_upload_bytes, "at least 1024")
        _check(0.0 <= self.retention_hours < float("inf"), "retention_hours", self.retention_hours, "0 or more, finite")
        _check(self.max_storage_bytes >= 0, "max_storage_bytes", self.max_storage_bytes, "0 or more")
        _check(1 <= self.max_takes <= 8, "max_takes", self.max_takes, "1 to 8")
        marked = bool(self.mark_text.strip()) and len(self.mark_text) <= 40 and self.mark_text.isprintable()
        _check(marked, "mark_text", self.mark_text, "1 to 40 printable characters")
        _check(0.0 <= self.shutdown_grace_s <= 3600.0, "shutdown_grace_s", self.shutdown_grace_s, "0 to 3600")
        _check(1 <= self.gpu_seconds <= 3600, "gpu_seconds", self.gpu_seconds, "1 to 3600")
        if self.login is not None and not all(name and word for name, word in self.logins):
            raise ConfigError(f"{PREFIX}LOGIN must be name:password, several with commas in between.")
        kind, _, number = self.device.partition(":")
        valid = self.device in ("auto", "cpu", "cuda", "mps") or (kind == "cuda" and number.isdecimal())
        _check(valid, "device", self.device, "auto, cpu, cuda, cuda:N or mps")
        _check_choice("memory", self.memory, get_args(MemoryChoice))
        _check_choice("quantisation", self.quantisation, get_args(Quantisation))
        if self.attention is not None:
            _check_choice("attention", self.attention, ATTENTION_KERNELS)
        parse_step_cache(self.step_cache, f"{PREFIX}STEP_CACHE")

    @property
    def logins(self) -> tuple[tuple[str, str], ...]:
        """Pairs of name and password; empty when nobody has to log in."""
        if self.login is None:
            return ()
        parts = (entry.partition(":") for entry in self.login.split(","))
        return tuple((name.strip(), word) for name, _, word in parts)

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
        names = {PREFIX + each.name.upper(): each.name for each in fields(cls)}
        values: dict[str, Any] = {}
        for name in sorted(environ):
            if not name.startswith(PREFIX):
                continue
            if name not in names:
                begun = [known for known in names if known.startswith(name)]
                nearest = (begun or difflib.get_close_matches(name, names, n=1, cutoff=0.0))[0]
                raise ConfigError(f"{name} is not a setting.", f"Did you mean {nearest}?")
            values[names[name]] = _parse(name, environ[name], _PARSERS[names[name]])
        if "host" not in values and environ.get("GRADIO_SERVER_NAME"):
            values["host"] = environ["GRADIO_SERVER_NAME"]
        if "port" not in values and environ.get("GRADIO_SERVER_PORT"):
            values["port"] = _parse("GRADIO_SERVER_PORT", environ["GRADIO_SERVER_PORT"], int)
        return cls(**values)


def parse_step_cache(text: str, name: str = "The step cache") -> float | None:
    """Read the choice of a step cache.

    Args:
        text: ``none``, ``first-block`` or ``first-block:THRESHOLD``.
        name: What the choice is called in an error.

    Returns:
        The threshold, ``None`` for no cache.

    Raises:
        ConfigError: For any other text, or a threshold that is not above 0 and at most 1.
    """
    if text == "none":
        return None
    kind, separator, number = text.partition(":")
    try:
        threshold = float(number) if separator else FIRST_BLOCK_THRESHOLD
    except ValueError:
        threshold = 0.0
    if kind != "first-block" or not 0.0 < threshold <= 1.0:
        raise ConfigError(f'{name} must be {STEP_CACHES}, got "{text}".', "A threshold lies above 0 and up to 1.")
    return threshold


def _switch(text: str) -> bool:
    """Read a switch."""
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


_PARSERS: dict[str, Callable[[str], Any]] = {
    "profile": str,
    "model_path": Path,
    "adapter": str,
    "identity_encoder": str,
    "output_dir": Path,
    "queue_size": int,
    "threads": int,
    "host": str,
    "port": int,
    "device": str,
    "memory": str,
    "quantisation": str,
    "compile": _switch,
    "attention": str,
    "step_cache": str,
    "face_packs": Path,
    "max_upload_bytes": int,
    "retention_hours": float,
    "max_storage_bytes": int,
    "max_takes": int,
    "live_preview": _switch,
    "mark": _switch,
    "mark_text": str,
    "prompt_filter": str,
    "login": str,
    "shutdown_grace_s": float,
    "gpu_seconds": int,
}
_KINDS = {int: "a whole number", float: "a number", _switch: "true or false"}


def _parse(name: str, text: str, parser: Callable[[str], Any]) -> Any:
    """Turn the text of one variable into its value."""
    if not text.strip():
        raise ConfigError(f"{name} is set but empty.", "Unset it to take the default.")
    try:
        return parser(text.strip())
    except ValueError as error:
        kind = _KINDS.get(parser, "a value")
        raise ConfigError(f'{name} must be {kind}, got "{text}".') from error


def _check(valid: bool, name: str, value: object, expected: str) -> None:
    """Raise ``ConfigError`` where a value is out of range."""
    if not valid:
        raise ConfigError(f"{PREFIX}{name.upper()} must be {expected}, got {value!r}.")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ``ConfigError`` where a value is none of the choices."""
    _check(value in choices, name, value, f"{', '.join(choices[:-1])} or {choices[-1]}")
