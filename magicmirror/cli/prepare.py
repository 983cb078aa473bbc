"""``prepare``: from folders of portraits, people and videos to the shards of the trainer. The same command continues.

python -m magicmirror prepare --portraits portraits/ --vae vae/ --output prepared/
python -m magicmirror prepare --pairs people/ --videos videos/ --vae vae/ --output prepared/ --licence "CC0 1.0"
python -m magicmirror prepare --videos videos/ --size 480x720 --frames 49 --framing whole --vae CogVideoX-5b/vae \
    --recogniser insightface --output prepared_5b/
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magicmirror.data.embedding import AlignedEmbedder
    from magicmirror.data.precompute import PrecomputeConfig
    from magicmirror.data.records import Origin, Record

_BATCH_PIXELS = 4 * 17 * 128 * 128
"""Pixels that are encoded at once: four clips of the preview."""
_LARGEST_ENLARGEMENT = 2
"""How many times a head may be enlarged to fill a frame."""
_PREVIEW_PX, _CLIP_PX = 128, 224
"""Height of the preview's frames, and what CLIP's tower takes at full size."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``prepare``."""
    given = parser.add_argument_group("what to prepare, one or more (docs/data.md)")
    given.add_argument("--portraits", type=Path, metavar="DIR", help="one photo of a face a file; they get animated")
    given.add_argument("--pairs", type=Path, metavar="DIR", help="photos, one sub-folder a person: identity pairs")
    given.add_argument("--videos", type=Path, metavar="DIR", help="videos with captions (name.txt or captions.jsonl)")
    parser.add_argument("--vae", type=Path, required=True, metavar="DIR", help="trained VAE in diffusers layout")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="gets manifests, tokenizer, shards")
    parser.add_argument("--source", default="given by the user", help="who made the files, for the manifest")
    parser.add_argument("--licence", default="unknown", help="what allows their use, for the manifest")
    parser.add_argument("--size", type=_size, default=(128, 128), metavar="N|HxW", help="of a frame (default: 128)")
    parser.add_argument("--frames", type=int, default=17, metavar="N", help="frames a clip, 4 n + 1 (default: 17)")
    parser.add_argument(
        "--fps",
        type=int,
        default=8,
        metavar="N",
        help="frames a second of a clip: 8, for CogVideoX 1.5 16 (default: 8)",
    )
    parser.add_argument(
        "--framing", choices=("head", "whole"), default="head", help="of pairs and videos (default: head)"
    )
    parser.add_argument(
        "--crop",
        type=int,
        metavar="N",
        help="side of a reference crop, as the model's vision tower takes it (default: that of a frame up to 128 px, "
        "as for the preview; otherwise 224, as for CogVideoX-5B)",
    )
    parser.add_argument(
        "--recogniser",
        choices=("dlib", "insightface"),
        default="dlib",
        help="whose embeddings references get: dlib for the preview, insightface for CogVideoX-5B (default: dlib)",
    )
    parser.add_argument("--images", type=int, default=3, metavar="N", help="stills a portrait (default: 3)")
    parser.add_argument("--clips", type=int, default=2, metavar="N", help="clips a portrait (default: 2)")
    parser.add_argument("--views", type=int, default=4, metavar="N", help="reference views a person (default: 4)")
    parser.add_argument(
        "--pair-distance",
        type=float,
        default=0.45,
        metavar="D",
        help="largest distance of two faces of one person, dlib's recogniser (default: 0.45)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of motions, styles, captions and views (default: 0)")
    parser.add_argument("--worker", type=int, default=0, metavar="I", help="number of this process (default: 0)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes sharing the work (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Build manifests and tokenizer if they are missing, then compute the missing shards.

    Args:
        args: As ``add_arguments`` declares.

    Returns:
        Exit status 0.

    Raises:
        MagicMirrorError: When a folder, the VAE or earlier shards are unusable.
    """
    from magicmirror.data.manifest import read_clips, read_manifest, read_pairs
    from magicmirror.data.precompute import precompute
    from magicmirror.data.records import Origin
    from magicmirror.data.tokenizer import train_tokenizer
    from magicmirror.errors import ConfigError
    from magicmirror.training.networks import load_vae

    # Name -> folder, manifest, shards, what builds the manifest, what reads it.
    sources: tuple[tuple[str, Path | None, str, str, Callable[..., None], Callable[..., tuple[Record, ...]]], ...] = (
        ("portrait", args.portraits, "manifest.jsonl", "shards", _import_portraits, read_manifest),
        ("pair", args.pairs, "pairs.jsonl", "shards-pairs", _import_pairs, read_pairs),
        ("clip", args.videos, "clips.jsonl", "shards-clips", _import_videos, read_clips),
    )
    if not any(folder for _, folder, *_ in sources):
        raise ConfigError("Nothing to prepare was given.", "Name --portraits, --pairs or --videos.")
    config = _config(args)
    vae, embedder = load_vae(args.vae), _embedder(config)
    computed = 0
    for name, folder, manifest, shards, build, read in sources:
        if folder is None:
            continue
        if args.worker == 0:
            build(folder, args.output / manifest, Origin(args.source, args.licence), args)
        records = read(args.output / manifest, "train")
        if not records:
            held_out = len(read(args.output / manifest)) - len(records)
            why = f" ({held_out} held out for validation and tests)" if held_out else ""
            raise ConfigError(f'No {name} in "{folder}" is one to train with{why}.', _remedy(name))
        computed += precompute(
            records,
            folder,
            args.output / shards,
            vae,
            embedder,
            config,
            args.worker,
            args.workers,
            on_shard=lambda done, total: print(f"shard {done} of {total}", flush=True),
        )
    if args.worker == 0 and not (args.output / "tokenizer").is_dir():
        train_tokenizer(args.output / "tokenizer", seed=args.seed)
    print(f"{computed} shards computed now")
    return 0


def _embedder(config: PrecomputeConfig) -> AlignedEmbedder:
    """What embeds the references; unusable models are found now, not after hours of importing."""
    import numpy as np

    from magicmirror.data.embedding import BatchEmbedder
    from magicmirror.faces.analyzer import create_face_analyzer

    if config.recogniser == "dlib":
        return BatchEmbedder()
    analyzer = create_face_analyzer(config.recogniser)
    analyzer.embed_aligned(np.zeros((1, config.crop_side_px, config.crop_side_px, 3), np.uint8))
    return analyzer


def _import_portraits(folder: Path, out: Path, origin: Origin, _: argparse.Namespace) -> None:
    from magicmirror.data.portrait_import import build_portrait_manifest
    from magicmirror.faces.analyzer import create_face_analyzer

    report = build_portrait_manifest(folder, create_face_analyzer("dlib"), out, {"": origin})
    print(f"{report.kept} portraits kept, dropped: {report.dropped or 'none'}")


def _import_pairs(folder: Path, out: Path, origin: Origin, args: argparse.Namespace) -> None:
    from magicmirror.data.embedding import BatchEmbedder
    from magicmirror.data.pair_import import PairRules, build_pair_manifest
    from magicmirror.faces.dlib_search import DlibFaceSearch

    rules = PairRules(max_distance=args.pair_distance)
    report = build_pair_manifest(folder, DlibFaceSearch(), BatchEmbedder(), out, origin, rules)
    print(f"{report.kept} targets of pairs kept, dropped: {report.dropped or 'none'}")


def _import_videos(folder: Path, out: Path, origin: Origin, args: argparse.Namespace) -> None:
    from dataclasses import replace

    from magicmirror.data.clip_selection import ClipRules
    from magicmirror.data.embedding import BatchEmbedder
    from magicmirror.data.video_import import build_clip_manifest
    from magicmirror.faces.alignment import EYE_DISTANCE
    from magicmirror.faces.dlib_search import DlibFaceSearch

    rules = ClipRules()
    config = _config(args)
    # One frame longer than the stretch, so that rounding to frames of the video leaves enough.
    rules = replace(
        rules,
        min_s=config.num_frames / config.fps,
        max_s=max(rules.max_s, 2 * config.duration_s),
        min_fps=float(config.fps),
    )
    if config.framing == "head":
        wanted = EYE_DISTANCE * config.size_px / _LARGEST_ENLARGEMENT
        rules = replace(rules, min_eye_distance_px=max(rules.min_eye_distance_px, wanted))
    report = build_clip_manifest(folder, DlibFaceSearch(), BatchEmbedder(), out, origin, rules)
    print(f"{report.kept} clips kept, dropped: {report.dropped or 'none'}")


def _config(args: argparse.Namespace) -> PrecomputeConfig:
    from magicmirror.data.precompute import PrecomputeConfig

    height, width = args.size
    pixels = height * width
    crop_px = args.crop
    if crop_px is None:
        crop_px = height if height <= _PREVIEW_PX else _CLIP_PX
    return PrecomputeConfig(
        images_per_portrait=args.images,
        clips_per_portrait=args.clips,
        views_per_portrait=args.views,
        seed=args.seed,
        num_frames=args.frames,
        fps=args.fps,
        size_px=height,
        width_px=0 if width == height else width,
        framing=args.framing,
        crop_px=crop_px,
        recogniser=args.recogniser,
        clip_batch=max(1, min(4, _BATCH_PIXELS // (pixels * max(args.frames, 1)))),
        image_batch=max(1, min(16, _BATCH_PIXELS // pixels)),
    )


def _size(text: str) -> tuple[int, int]:
    """Parse ``128`` or ``480x720`` (height x width)."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f'"{text}" is no size: write 128, or 480x720 for height x width')
    return int(sides[0]), int(sides[-1])


def _remedy(name: str) -> str:
    return {
        "portrait": "Add photos with one face each.",
        "pair": "Add people with photos that show one face each.",
        "clip": "Add captions, and videos that show one moving face for at least --frames / --fps seconds.",
    }[name]
