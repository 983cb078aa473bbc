"""``generate``: one video from one or more photos of a person and a prompt, with its settings beside it."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from magicmirror.cli.model_arguments import add_model_arguments, with_model_arguments
from magicmirror.errors import UserInputError
from magicmirror.serving.reasons import naming

if TYPE_CHECKING:
    from magicmirror.faces.analyzer import FaceAnalyzer
    from magicmirror.serving.jobs import JobStage, Take
    from magicmirror.types import FaceReference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``generate``."""
    parser.add_argument(
        "--reference", metavar="FACE", type=Path, action="append", required=True, help="photo; repeat for several"
    )
    parser.add_argument("--prompt", metavar="TEXT", required=True, help='for example "a woman smiles"')
    parser.add_argument(
        "--output", metavar="OUT.mp4", type=Path, required=True, help="or OUT.gif; its settings are written beside it"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, help="makes the video repeatable; drawn and printed if left out"
    )
    parser.add_argument("--steps", metavar="N", type=int, help="denoising steps; the profile's default if left out")
    parser.add_argument("--guidance", metavar="G", type=float, help="guidance scale, 1 is off")
    parser.add_argument("--identity-scale", metavar="S", type=float, default=1.0, help="strength of the face, 0 to 2")
    parser.add_argument("--negative-prompt", metavar="TEXT", default="", help="what to keep out")
    parser.add_argument(
        "--face-index", metavar="I", type=int, action="append", help="which face of a photo, from 0; repeat per photo"
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--no-mark", action="store_true", help='leave out the visible "AI-generated" mark; the metadata still say it'
    )
    parser.add_argument("--json", action="store_true", help="print the settings and results as JSON")


def run(args: argparse.Namespace) -> int:
    """Make the video; see ``magicmirror.cli.main`` for the exit statuses."""
    from dataclasses import replace

    from magicmirror.media import OUTPUT_SUFFIXES, check_output_path
    from magicmirror.pipeline.freed_memory import keep_freed_memory
    from magicmirror.pipeline.memory_options import MemoryOptions
    from magicmirror.pipeline.profiles import find_profile
    from magicmirror.pipeline.speed_options import SpeedOptions
    from magicmirror.serving.mark import mark_from
    from magicmirror.serving.production import VideoMaker
    from magicmirror.serving.prompt_filter import check_prompt, load_prompt_filter
    from magicmirror.serving.requests import Fields, build_request
    from magicmirror.settings import Settings

    keep_freed_memory()
    settings = with_model_arguments(Settings.from_environment(), args)
    settings = replace(settings, mark=settings.mark and not args.no_mark)
    output = check_output_path(args.output, OUTPUT_SUFFIXES)
    check_prompt(load_prompt_filter(settings.prompt_filter), args.prompt)
    memory = MemoryOptions.named(settings.memory, settings.quantisation)
    speed = SpeedOptions.named(settings.compile, settings.attention, settings.step_cache)
    profile = find_profile(settings.profile, settings)
    if profile.identity_encoder is not None or profile.adapter is not None:
        # Asked first: a large download of face models must not come before this refusal.
        from magicmirror.pipeline.loading import check_profile

        check_profile(profile)
    maker = VideoMaker(
        profile, settings.device, settings.threads, draw_mark=mark_from(settings), memory=memory, speed=speed
    )
    fields = Fields(args.prompt, args.negative_prompt, args.seed, args.steps, args.guidance, args.identity_scale)
    request = build_request(fields, _references(args.reference, args.face_index, maker.analyzer), settings.profile)
    maker.check(request)
    if not args.json:
        print(f"seed {request.seed}", flush=True)
    progress = ProgressLine(shown=sys.stderr.isatty())
    progress("loading")
    maker.load()
    if maker.memory_line and not args.json:
        print(f"memory {maker.memory_line}", flush=True)
    result = maker.make(request, output, progress, should_stop=lambda: False, note=progress.note)
    progress.end()
    _report(result, args.json)
    return 0


class ProgressLine:
    """One line on a terminal that is written over at every step.

    Args:
        shown: Whether to write at all.
    """

    def __init__(self, shown: bool) -> None:
        self._shown = shown

    def __call__(self, stage: JobStage, step: int = 0, total: int = 0) -> None:
        """Write the stage and step."""
        if stage == "writing":
            # From here a Ctrl-C comes too late: the two files appear together, and it takes a fraction of a second.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._write(f"{stage} {step}/{total}" if total else stage)

    def note(self, message: str) -> None:
        """Say something that stays, and begin the line anew."""
        self.end()
        print(f"note: {message}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        self._write("")
        if self._shown:
            print("\r", end="", file=sys.stderr, flush=True)

    def _write(self, text: str) -> None:
        if self._shown:
            print(f"\r{text:<24}", end="", file=sys.stderr, flush=True)


def _references(paths: list[Path], indices: list[int] | None, analyzer: FaceAnalyzer) -> tuple[FaceReference, ...]:
    """Find the one face that is meant in every photo.

    Raises:
        UserInputError: When there are too many photos, or one cannot be read, has no face, or several without a choice.
        ConfigError: When there are indices, but not one per photo.
    """
    from magicmirror.errors import ConfigError, FaceError
    from magicmirror.faces.selection import choose_face, find_mismatches
    from magicmirror.media import load_image
    from magicmirror.ui.photos import MAX_PHOTOS

    if len(paths) > MAX_PHOTOS:
        raise FaceError(f"At most {MAX_PHOTOS} photos are accepted, got {len(paths)}.")
    if indices is not None and len(indices) != len(paths):
        given, photos = (f"{n} {word}{'s' * (n != 1)}" for n, word in ((len(indices), "time"), (len(paths), "photo")))
        raise ConfigError(f"--face-index was given {given} for {photos}.", "Give it once for each photo.")
    wanted: Sequence[int | None] = indices or [None] * len(paths)
    references = []
    for path, index in zip(paths, wanted, strict=True):
        with naming(path, UserInputError):
            references.append(choose_face(analyzer.analyze(load_image(path)), index, "--face-index"))
    for mismatch in find_mismatches(references):
        print(f"warning: {paths[mismatch.index]}: {mismatch}", file=sys.stderr)
    for path, reference in zip(paths, references, strict=True):
        for check in reference.checks:
            if not check.passed:
                print(f"note: {path}: {check.remedy}", file=sys.stderr)
    return tuple(references)


def _report(result: Take, as_json: bool) -> None:
    """Print what was made."""
    if as_json:
        print(json.dumps({"output": str(result.video_path), **result.settings}, indent=2))
        return
    likeness = "no face seen" if result.mean_likeness is None else f"{result.mean_likeness:.3f} ({result.level})"
    print(f"likeness {likeness}")
    print(f"wrote {result.video_path} and {result.settings_path}")
