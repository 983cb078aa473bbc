"""``python -m magicmirror evaluate``: measure a model on held-out portraits.

    python -m magicmirror evaluate --portraits portraits/ --limit 50 --output results/identification
    python -m magicmirror evaluate --suite obedience --portraits portraits/ --limit 100 --output results/obedience
    python -m magicmirror evaluate --suite paper --rows generated data --portraits portraits/ --output results/paper
    python -m magicmirror evaluate --report-only results/paper

``identification`` makes one video a person and asks whether the recogniser finds the person among all. The other suites
make identities x prompts x seeds and take every metric of the paper. The same command again continues a run
that was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicmirror.cli.model_arguments import add_model_arguments, with_model_arguments

if TYPE_CHECKING:
    from magicmirror.evaluation.cases import Prompt
    from magicmirror.evaluation.identification import GenerateFrames, IdentificationResult
    from magicmirror.evaluation.portraits import Subject
    from magicmirror.faces.analyzer import FaceAnalyzer
    from magicmirror.pipeline.pipeline import MagicMirrorPipeline
    from magicmirror.pipeline.profiles import Profile
    from magicmirror.settings import Settings
    from magicmirror.types import GenerationRequest, UInt8Array

HELP = "measure a model on held-out portraits"
DEFAULT_PROMPT = "a {person} looks at the camera"
ROWS = ("generated", "data", "reconstructed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--portraits", type=Path, metavar="DIR", help="folder with one photo a person")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="people to test (default: 50)")
    parser.add_argument(
        "--all-portraits", action="store_true", help="take every portrait, not only the tenth that is held out"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first person; the next get the next (default: 0)")
    parser.add_argument("--steps", type=int, metavar="N", help="denoising steps (default: the profile's)")
    parser.add_argument("--guidance", type=float, metavar="G", help="guidance scale (default: the profile's)")
    parser.add_argument(
        "--identity-scale", type=float, default=1.0, metavar="S", help="strength of the identity (default: 1)"
    )
    add_model_arguments(parser)
    parser.add_argument("--frames", type=int, metavar="N", help="frames of a video in which faces are looked for")
    parser.add_argument(
        "--suite",
        choices=("identification", "paper", "obedience"),
        default="identification",
        help="rank identification; or all metrics, with four prompts a person as in the paper, or with one prompt for "
        "each motion word and style word (default: identification)",
    )
    parser.add_argument(
        "--prompt",
        default=DEFAULT_PROMPT,
        help="of the identification; {person} becomes man, woman or person (default: %(default)s)",
    )
    _add_benchmark_arguments(parser)


def _add_benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the suites other than the identification take."""
    group = parser.add_argument_group("all metrics")
    group.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help='prompts of your own, one a line: text, or JSON with "prompt", "motions", "style"',
    )
    group.add_argument("--seeds", type=int, nargs="+", metavar="S", help="several seeds in place of --seed")
    group.add_argument(
        "--rows",
        nargs="+",
        choices=ROWS,
        default=["generated"],
        help="the model's videos; as upper bounds the animation of the same portraits, and that through the VAE "
        "(default: generated)",
    )
    group.add_argument("--clips", type=Path, metavar="DIR", help="real clips as one more row of the report")
    group.add_argument(
        "--group-photos",
        type=Path,
        metavar="DIR",
        help="a folder of further photos for each person, named like the portrait (default: rendered views)",
    )
    group.add_argument("--clip-model", type=Path, metavar="DIR", help="CLIP for a text score, as transformers saves it")
    group.add_argument("--report-only", type=Path, metavar="DIR", help="make the report of an earlier run again")


def run(args: argparse.Namespace) -> int:
    """Run the test and write its report.

    Args:
        args: As ``add_arguments`` declares.

    Returns:
        Exit status 0.

    Raises:
        MagicMirrorError: When portraits, weights or options are unusable.
    """
    from magicmirror.errors import ConfigError
    from magicmirror.settings import Settings

    if args.report_only is not None:
        return _report(args.report_only)
    if args.output is None or (args.portraits is None and args.clips is None):
        raise ConfigError(
            "An evaluation needs portraits and a folder for the results.", "Give --portraits and --output."
        )
    settings = with_model_arguments(Settings.from_environment(), args)
    if args.suite == "identification" and args.prompts is None and args.clips is None:
        return _identification(args, settings)
    return _benchmark(args, settings)


def _identification(args: argparse.Namespace, settings: Settings) -> int:
    """One video a person, ranked among all people."""
    from magicmirror.evaluation.identification import DEFAULT_FRAMES_PER_VIDEO, run_identification
    from magicmirror.evaluation.identification_report import write_report

    profile, analyzer = _profile(args, settings)
    subjects = _subjects(args, analyzer)
    pipeline = _pipeline(args, settings, profile)
    result = run_identification(
        subjects,
        _generator(args, pipeline, profile),
        analyzer,
        args.output,
        seed=args.seed,
        frames_per_video=DEFAULT_FRAMES_PER_VIDEO if args.frames is None else args.frames,
        settings={"prompt": args.prompt, **_facts(args, pipeline, profile, subjects[0])},
        on_person=_progress,
    )
    _, report, sheet = write_report(result, args.output)
    _print_summary(result)
    print(f"{report}\n{sheet}")
    return 0


def _benchmark(args: argparse.Namespace, settings: Settings) -> int:
    """Identities x prompts x seeds, every metric, one folder a row."""
    from magicmirror.evaluation.benchmark import run_row
    from magicmirror.evaluation.cases import make_cases
    from magicmirror.evaluation.real_clips import find_clips, real_videos
    from magicmirror.evaluation.sources import animated_clips, generated_videos, reconstructed_videos
    from magicmirror.evaluation.text_score import load_clip_score

    profile, analyzer = _profile(args, settings)
    options: dict[str, Any] = {"text_score": None if args.clip_model is None else load_clip_score(args.clip_model)}
    options["on_video"] = _progress
    if args.frames is not None:
        options["face_frames"] = args.frames
    scored_by = {"text_score": None if args.clip_model is None else args.clip_model.name}
    if args.clips is not None:
        cases = find_clips(args.clips, args.limit, analyzer)
        run_row(cases, real_videos(profile.shape), analyzer, args.output / "clips", settings=scored_by, **options)
    if args.portraits is None:
        return _report(args.output)
    prompts = _prompts(args)
    subjects = _subjects(args, analyzer)
    cases = make_cases(subjects, prompts, [args.seed] if args.seeds is None else args.seeds)
    facts = {"suite": args.suite if args.prompts is None else args.prompts.name, **scored_by}
    facts["group_photos"] = None if args.group_photos is None else args.group_photos.name
    options["group_folder"] = args.group_photos
    animated = animated_clips(profile.shape)
    if "data" in args.rows:
        shown = {**facts, "profile": profile.name}
        run_row(cases, animated, analyzer, args.output / "data", settings=shown, **options)
    if set(args.rows) == {"data"}:
        return _report(args.output)
    pipeline = _pipeline(args, settings, profile)
    facts |= _facts(args, pipeline, profile, subjects[0])
    if "reconstructed" in args.rows:
        source = reconstructed_videos(animated, pipeline)
        run_row(cases, source, analyzer, args.output / "reconstructed", settings=facts, **options)
    if "generated" in args.rows:
        source = generated_videos(_call(pipeline, profile), profile, **_request_options(args))
        run_row(cases, source, analyzer, args.output / "generated", settings=facts, **options)
    return _report(args.output)


def _report(output: Path) -> int:
    """Write the report of whatever is in a folder."""
    from magicmirror.evaluation.benchmark_report import write_benchmark_report

    _, report, sheets = write_benchmark_report(output)
    print(*(report, *sheets), sep="\n")
    return 0


def _prompts(args: argparse.Namespace) -> tuple[Prompt, ...]:
    from magicmirror.errors import ConfigError
    from magicmirror.evaluation.cases import read_prompts, suite_prompts

    if args.prompts is not None:
        return read_prompts(args.prompts)
    if args.suite == "identification":
        raise ConfigError(
            "The identification has no row of clips.", "Give --suite paper, obedience, or no --portraits."
        )
    return suite_prompts(args.suite)


def _profile(args: argparse.Namespace, settings: Settings) -> tuple[Profile, FaceAnalyzer]:
    from magicmirror.faces.analyzer import create_face_analyzer
    from magicmirror.pipeline.profiles import find_profile

    profile = find_profile(settings.profile, settings)
    return profile, create_face_analyzer(profile.analyzer, crop_size_px=profile.crop_size_px)


def _subjects(args: argparse.Namespace, analyzer: FaceAnalyzer) -> tuple[Subject, ...]:
    from magicmirror.evaluation.portraits import find_portraits, load_subjects

    return load_subjects(find_portraits(args.portraits, args.all_portraits), args.limit, analyzer)


def _pipeline(args: argparse.Namespace, settings: Settings, profile: Profile) -> MagicMirrorPipeline:
    import torch

    from magicmirror.pipeline.loading import load_pipeline
    from magicmirror.pipeline.memory_options import MemoryOptions
    from magicmirror.pipeline.speed_options import SpeedOptions

    if settings.threads:
        torch.set_num_threads(settings.threads)
    memory = MemoryOptions.named(settings.memory, settings.quantisation)
    speed = SpeedOptions.named(settings.compile, settings.attention, settings.step_cache)
    return load_pipeline(profile, settings.device, memory=memory, speed=speed)


def _request_options(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of a request that the command line sets for all videos."""
    return {
        "num_inference_steps": args.steps,
        "guidance_scale": args.guidance,
        "identity_scale": args.identity_scale,
    }


def _call(pipeline: MagicMirrorPipeline, profile: Profile) -> Any:
    """Bind pipeline and profile."""
    from magicmirror.pipeline.loading import generate

    return lambda request: generate(pipeline, profile, request)


def _request(args: argparse.Namespace, profile: Profile, subject: Subject, seed: int) -> GenerationRequest:
    """Ask for a video of one person."""
    from magicmirror.types import GenerationRequest

    prompt = args.prompt.replace("{person}", subject.portrait.person_word)
    return GenerationRequest(prompt, (subject.reference,), seed, profile=profile.name, **_request_options(args))


def _generator(args: argparse.Namespace, pipeline: MagicMirrorPipeline, profile: Profile) -> GenerateFrames:
    """Bind pipeline and options."""
    call = _call(pipeline, profile)

    def frames(subject: Subject, seed: int) -> UInt8Array:
        made: UInt8Array = call(_request(args, profile, subject, seed)).frames
        return made

    return frames


def _facts(
    args: argparse.Namespace, pipeline: MagicMirrorPipeline, profile: Profile, subject: Subject
) -> dict[str, Any]:
    """Collect what the videos depend on and all people share; a continued run must have the same."""
    from magicmirror.pipeline.loading import settings_record

    request = profile.resolve(_request(args, profile, subject, args.seed))
    record = settings_record(pipeline, profile, request)
    return {key: value for key, value in record.items() if key not in ("prompt", "seed", "references")}


def _progress(done: int, count: int, name: str) -> None:
    print(f"{done}/{count} {name}", flush=True)


def _print_summary(result: IdentificationResult) -> None:
    """Print the figures that matter."""
    overall = result.overall
    print(f"rank-1 {overall.rank_1:.1%} (chance {result.chance(1):.1%})")
    print(f"rank-5 {overall.rank_5:.1%} (chance {result.chance(5):.1%})")
    if overall.mean_own_distance is not None and overall.mean_other_distance is not None:
        print(
            f"distance {overall.mean_own_distance:.3f} to the own portrait, {overall.mean_other_distance:.3f} to others"
        )
    print(f"frames with a face {overall.face_found:.1%}")
