"""ffmpeg as a process: the one of ``imageio-ffmpeg``; bounded in time, and in what it may open."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, cast

from magicmirror.errors import VideoError
from magicmirror.types import UInt8Array

_REPORT_BYTES = 100_000  # how much of ffmpeg's report is kept; a hostile file can make it endless
# What ffmpeg says when the system refuses to write; it does not give the number.
_SYSTEM_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


class FFmpegFailed(Exception):
    """ffmpeg ended with an error, or was ended for taking too long; callers say what that means.

    Args:
        report: What it printed.
        timed_out: Whether it took too long.
        system_error: Number of the system's error that made writing fail, 0 for other failures.
    """

    def __init__(self, report: str, timed_out: bool = False, system_error: int = 0) -> None:
        lines = report.strip().splitlines()
        self.report = report
        self.last_line = lines[-1].strip() if lines else "ffmpeg failed"
        self.timed_out = timed_out
        self.system_error = system_error
        super().__init__(self.last_line)


@dataclass(frozen=True)
class FFmpegResult:
    """What ffmpeg wrote to its output, and what it reported."""

    output: bytes
    report: str


def run_ffmpeg(*arguments: str, stdin: memoryview | None = None, timeout_s: float | None = None) -> FFmpegResult:
    """Run ffmpeg to its end.

    Args:
        arguments: Without the program's name.
        stdin: What it reads; without, it reads nothing, the terminal's keys included.
        timeout_s: It is ended after this long.

    Raises:
        FFmpegFailed: When it fails or takes too long.
        VideoError: When it cannot be started.
    """
    process = _start(arguments, subprocess.DEVNULL if stdin is None else subprocess.PIPE)
    with process:
        try:
            output, errors = process.communicate(cast("bytes | None", stdin), timeout_s)  # it takes any buffer
        except subprocess.TimeoutExpired as error:
            raise FFmpegFailed("", timed_out=True) from error
        finally:
            process.kill()  # also when the wait was interrupted
    report = errors[-_REPORT_BYTES:].decode("utf-8", errors="replace")
    if process.returncode:
        raise FFmpegFailed(report, system_error=_system_error(process.returncode, report))
    return FFmpegResult(output, report)


def encode_frames(frames: UInt8Array, rate: Fraction, options: tuple[str, ...], path: Path) -> None:
    """Encode frames into a file.

    Args:
        frames: (F, H, W, 3) uint8 RGB, contiguous.
        rate: Frames per second.
        options: ffmpeg's, for the output.
        path: Where to write.

    Raises:
        OSError: When the system refuses to write, with its number.
        VideoError: When ffmpeg cannot be started, or cannot encode.
    """
    height, width = frames.shape[1:3]
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate), "-i", "-", "-an")
    try:
        run_ffmpeg(
            "-loglevel", "error", *source, *options, "-y", f"file:{path}", stdin=frames.reshape(-1).data.cast("B")
        )
    except FFmpegFailed as error:
        if error.system_error:
            raise OSError(error.system_error, os.strerror(error.system_error), str(path)) from error
        raise VideoError(
            f"The video cannot be encoded: {error.last_line}", "Use the ffmpeg of imageio-ffmpeg."
        ) from error


def stream_ffmpeg(*arguments: str, chunk_bytes: int, timeout_s: float) -> Iterator[bytes]:
    """Run ffmpeg and give its output in chunks, never holding more than one of them.

    Args:
        arguments: Without the program's name; the output must go to ``-``.
        chunk_bytes: Size of every chunk.
        timeout_s: How long ffmpeg may take in all; the time that the caller spends between chunks does not count.

    Yields:
        Chunks of exactly ``chunk_bytes``.

    Raises:
        FFmpegFailed: When ffmpeg fails, takes too long, reports an error, or ends within a chunk.
        VideoError: When it cannot be started.
    """
    process = _start(arguments, subprocess.DEVNULL)
    assert process.stdout is not None and process.stderr is not None
    report = _ReportTail(process.stderr)
    left_s = timeout_s
    try:
        while True:
            started = time.monotonic()
            watchdog = threading.Timer(left_s, process.kill)
            watchdog.start()
            chunk = process.stdout.read(chunk_bytes)
            if len(chunk) < chunk_bytes:
                process.wait()
            watchdog.cancel()
            left_s -= time.monotonic() - started
            if left_s <= 0:
                raise FFmpegFailed("", timed_out=True)
            if len(chunk) < chunk_bytes:
                break
            yield chunk
    finally:
        process.kill()
        process.wait()
        text = report.close()
        process.stdout.close()
    if process.returncode or chunk or "rror" in text or "partial file" in text:
        raise FFmpegFailed(text)


class _ReportTail:
    """The end of what a process prints, read by a thread so that the process never waits for it."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._tail = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while chunk := self._source.read(4096):
            self._tail = (self._tail + chunk)[-_REPORT_BYTES:]

    def close(self) -> str:
        """Return the end of the report, once the process has ended."""
        self._thread.join()
        self._source.close()
        return self._tail.decode("utf-8", errors="replace")


def _start(arguments: tuple[str, ...], stdin: int) -> subprocess.Popen[bytes]:
    import imageio_ffmpeg

    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
        command = [program, "-hide_banner", "-nostats", *arguments]
        return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except (OSError, RuntimeError) as error:
        raise VideoError(f"ffmpeg cannot be started: {error}.", "Install imageio-ffmpeg again.") from error


def _system_error(returncode: int, report: str) -> int:
    """Return the number of the system's error behind a failure, 0 for none."""
    if returncode == -getattr(signal, "SIGXFSZ", 0):
        return errno.EFBIG
    return next((code for code in _SYSTEM_ERRORS if os.strerror(code) in report), 0)
