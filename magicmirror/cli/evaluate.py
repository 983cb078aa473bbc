"""``python -m magicmirror evaluate``: is the person of a video recognised? Rank identification on held-out portraits.

    python -m magicmirror evaluate --portraits portraits/ --limit 50 --output results/identification

The same command again continues a run that was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from magicmirror.evaluation.identification import GenerateFrames, IdentificationResult
    from magicmirror.evaluation.portraits import Subject
    from magicmirror.pipeline.pipeline import MagicMirrorPipeline
    from magicmirror.pipeline.profiles import Profile
    from magicmirror.types import GenerationRequest, UInt8Array

HELP = "measure how often the person of a video is recognised among held-out portraits"
DEFAULT_PROMPT = "a {person} looks at the camera"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--portraits", type=Path, required=True, metavar="DIR", help="folder with one photo a person")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="people to test (default: 50)")
    parser.add_argument(
        "--all-portraits", action="store_true", help="take every portrait, not only the tenth that is held out"
    )
    parser.add_argument(
        "--prompt",
        default=DEFAULT_PROMPT,
        help="{person} becomes man, woman or person (default: %(default)s)",
    )
    parser.add_argument("--frames", type=int, default=5, metavar="N", help="frames looked at a video (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the first person; the next get the next (default: 0)")
    parser.add_argument("--steps", type=int, metavar="N", help="denoising steps (default: the profile's)")
    parser.add_argument("--guidance", type=float, metavar="G", help="guidance scale (default: the profile's)")
    parser.add_argument(
        "--identity-scale", type=float, default=1.0, metavar="S", help="strength of the identity (default: 1)"
    )
    parser.add_argument("--profile", help="preview or cogvideox-5b (default: MAGICMIRROR_PROFILE, or preview)")
    parser.add_argument("--adapter", help="folder or hub id of other adapter weights")


def run(args: argparse.Namespace) -> int:
    """Run the test and write its report.

    Args:
        args: As ``add_arguments`` declares.

    Returns:
        Exit status 0.

    Raises:
        MagicMirrorError: When portraits, weights or options are unusable.
    """
    import torch

    from magicmirror.evaluation.identification import run_identification
    from magicmirror.evaluation.identification_report import write_report
    from magicmirror.evaluation.portraits import find_portraits, load_subjects
    from magicmirror.faces.analyzer import create_face_analyzer
    from magicmirror.pipeline.loading import load_pipeline
    from magicmirror.pipeline.profiles import find_profile
    from magicmirror.settings import Settings

    settings = Settings.from_environment()
    profile = find_profile(args.profile or settings.profile, settings)
    analyzer = create_face_analyzer(profile.analyzer, crop_size_px=profile.crop_size_px)
    subjects = load_subjects(find_portraits(args.portraits, args.all_portraits), args.limit, analyzer)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    pipeline = load_pipeline(profile, settings.device, args.adapter)
    result = run_identification(
        subjects,
        _generator(args, pipeline, profile),
        analyzer,
        args.output,
        seed=args.seed,
        frames_per_video=args.frames,
        settings=_facts(args, pipeline, profile, subjects[0]),
        on_person=lambda done, count, name: print(f"{done}/{count} {name}", flush=True),
    )
    _, report, sheet = write_report(result, args.output)
    _print_summary(result)
    print(f"{report}\n{sheet}")
    return 0


def _request(args: argparse.Namespace, profile: Profile, subject: Subject, seed: int) -> GenerationRequest:
    """Ask for a video of one person."""
    from magicmirror.types import GenerationRequest

    return GenerationRequest(
        prompt=args.prompt.replace("{person}", subject.portrait.person_word),
        references=(subject.reference,),
        seed=seed,
        num_inference_steps=args.steps,
        guidance_scale=args.guidance,
        identity_scale=args.identity_scale,
        profile=profile.name,
    )


def _generator(args: argparse.Namespace, pipeline: MagicMirrorPipeline, profile: Profile) -> GenerateFrames:
    """Bind pipeline and options."""
    from magicmirror.pipeline.loading import generate

    def frames(subject: Subject, seed: int) -> UInt8Array:
        return generate(pipeline, profile, _request(args, profile, subject, seed)).frames

    return frames


def _facts(
    args: argparse.Namespace, pipeline: MagicMirrorPipeline, profile: Profile, subject: Subject
) -> dict[str, Any]:
    """Collect what the videos depend on and all people share; a continued run must have the same."""
    from magicmirror.pipeline.loading import settings_record

    request = profile.resolve(_request(args, profile, subject, args.seed))
    record = settings_record(pipeline, profile, request)
    shared = {key: value for key, value in record.items() if key not in ("prompt", "seed", "references")}
    return {"prompt": args.prompt, **shared}


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
