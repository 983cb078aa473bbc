"""``prepare``: from a folder of portraits to the shards that the trainer reads. The same command continues.

python -m magicmirror prepare --portraits portraits/ --vae vae/ --output shards/
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``prepare``."""
    parser.add_argument("--portraits", type=Path, required=True, metavar="DIR", help="one photo of a face a file")
    parser.add_argument("--vae", type=Path, required=True, metavar="DIR", help="trained VAE in diffusers layout")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="gets manifest, tokenizer, shards")
    parser.add_argument("--source", default="given by the user", help="who made the pictures, for the manifest")
    parser.add_argument("--licence", default="unknown", help="what allows their use, for the manifest")
    parser.add_argument("--images", type=int, default=3, metavar="N", help="stills a portrait (default: 3)")
    parser.add_argument("--clips", type=int, default=2, metavar="N", help="clips a portrait (default: 2)")
    parser.add_argument("--views", type=int, default=4, metavar="N", help="reference views a portrait (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="of motions, styles, captions and views (default: 0)")
    parser.add_argument("--worker", type=int, default=0, metavar="I", help="number of this process (default: 0)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes sharing the work (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Build manifest and tokenizer if they are missing, then compute the missing shards.

    Args:
        args: As ``add_arguments`` declares.

    Returns:
        Exit status 0.

    Raises:
        MagicMirrorError: When the folder, the VAE or earlier shards are unusable.
    """
    from magicmirror.data.embedding import BatchEmbedder
    from magicmirror.data.manifest import Origin, read_manifest
    from magicmirror.data.portrait_import import build_portrait_manifest
    from magicmirror.data.precompute import PrecomputeConfig, precompute
    from magicmirror.data.tokenizer import train_tokenizer
    from magicmirror.errors import ConfigError
    from magicmirror.faces.analyzer import create_face_analyzer
    from magicmirror.training.networks import load_vae

    vae = load_vae(args.vae)
    manifest = args.output / "manifest.jsonl"
    if args.worker == 0:
        origin = Origin(args.source, args.licence)
        report = build_portrait_manifest(args.portraits, create_face_analyzer("dlib"), manifest, {"": origin})
        print(f"{report.kept} portraits kept, dropped: {report.dropped or 'none'}")
        if not (args.output / "tokenizer").is_dir():
            train_tokenizer(args.output / "tokenizer", seed=args.seed)
    config = PrecomputeConfig(
        images_per_portrait=args.images, clips_per_portrait=args.clips, views_per_portrait=args.views, seed=args.seed
    )
    records = read_manifest(manifest, "train")
    if not records:
        raise ConfigError(f'No portrait in "{args.portraits}" is one to train with.', "Add photos with one face each.")
    computed = precompute(
        records,
        args.portraits,
        args.output / "shards",
        vae,
        BatchEmbedder(),
        config,
        args.worker,
        args.workers,
        on_shard=lambda done, total: print(f"shard {done} of {total}", flush=True),
    )
    print(f"{computed} shards computed now")
    return 0
