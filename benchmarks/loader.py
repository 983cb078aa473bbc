"""Memory and time of the picture loader at its limit of 50 megapixels, beside plain Pillow.

    python benchmarks/loader.py [--json FILE] [--only WORD]

Every picture is made once and read in new processes. ``load_image`` runs in a process that has dlib, its weights and
OpenCV loaded, as the product has; the peer is ``Image.open(path).convert("RGB")`` in a process of its own, with nothing
but Pillow. Seconds are of processor time, so that other work on the machine does not count. The peak is the largest
resident memory of the whole process, the libraries included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH_PX, HEIGHT_PX = 8_000, 6_250
PHOTO = Path(__file__).resolve().parents[1] / "assets" / "examples" / "woman_1.jpg"

READ = """
import json, resource, sys, time
from pathlib import Path
if sys.argv[1] == "loader":
    import cv2
    from magicmirror.faces.analyzer import create_face_analyzer
    from magicmirror.media import load_image
    analyzer = create_face_analyzer("dlib")
    analyzer.analyze(load_image(sys.argv[3]))
    read = lambda path: load_image(path).shape
else:
    import numpy as np
    from PIL import Image
    Image.MAX_IMAGE_PIXELS = None
    read = lambda path: np.asarray(Image.open(path).convert("RGB")).shape
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, started = peak(), time.process_time()
shape = read(sys.argv[2])
seconds = time.process_time() - started
print(json.dumps({"seconds": seconds, "before": before, "peak": peak(), "pixels": shape[0] * shape[1]}))
"""


def blocks() -> Image:
    """The example photo, scaled to 50 megapixels without smoothing, so that lossless files keep within the limit."""
    from PIL import Image

    return Image.open(PHOTO).convert("RGB").resize((500, 390)).resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.NEAREST)


def smooth() -> Image:
    """The example photo, scaled to 50 megapixels smoothly."""
    from PIL import Image

    return Image.open(PHOTO).convert("RGB").resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC)


def save_translucent(path: Path) -> None:
    """RGBA with a gradient of transparency."""
    from PIL import Image

    picture = blocks()
    alpha = Image.linear_gradient("L").resize(picture.size, Image.Resampling.NEAREST)
    picture.putalpha(alpha)
    picture.save(path, compress_level=3)


def save_deep(path: Path) -> None:
    """Grey with 16 bits."""
    import numpy as np
    from PIL import Image

    grey = np.asarray(blocks().convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(path, compression="tiff_adobe_deflate")


def save_deep_colour(path: Path) -> None:
    """RGBA with 16 bits in one strip: the largest that a TIFF may unpack to."""
    import cv2
    import numpy as np

    picture = np.asarray(blocks())
    wide = np.dstack([picture[..., ::-1], np.full(picture.shape[:2], 200, np.uint8)]).astype(np.uint16) * 257
    flags = [cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_ROWSPERSTRIP, HEIGHT_PX]
    cv2.imwrite(str(path), wide, flags)


CASES: dict[str, Callable[[Path], None]] = {
    "JPEG 4:2:0.jpg": lambda path: smooth().save(path, quality=90),
    "progressive JPEG 4:4:4.jpg": lambda path: smooth().save(path, quality=85, progressive=True, subsampling=0),
    "progressive CMYK JPEG.jpg": lambda path: smooth().convert("CMYK").save(path, quality=80, progressive=True),
    "JPEG turned by EXIF.jpg": lambda path: save_turned(path),
    "RGBA PNG.png": save_translucent,
    "palette PNG.png": lambda path: blocks().quantize(200).save(path, compress_level=3),
    "16-bit grey TIFF.tif": save_deep,
    "16-bit RGBA TIFF, one strip.tif": save_deep_colour,
    "LZW TIFF.tif": lambda path: blocks().save(path, compression="tiff_lzw", tiffinfo={317: 2}),
    "WebP.webp": lambda path: smooth().save(path, quality=80, method=0),
    "lossless WebP with alpha.webp": lambda path: save_lossless(path),
    "GIF.gif": lambda path: blocks().quantize(200).save(path),
    "HEIC.heic": lambda path: save_heic(path),
}


def save_turned(path: Path) -> None:
    """A JPEG that must be turned by a quarter."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    smooth().save(path, quality=85, exif=exif)


def save_lossless(path: Path) -> None:
    """A lossless WebP with transparency."""
    picture = blocks()
    picture.putalpha(200)
    picture.save(path, lossless=True, quality=0, method=0)


def save_heic(path: Path) -> None:
    """A HEIC, fast and small."""
    import pillow_heif

    pillow_heif.from_pillow(smooth()).save(path, quality=40, enc_params={"preset": "ultrafast"})


def measure(path: Path, reader: str) -> dict[str, float]:
    """Read a picture in a new process; empty when the reader cannot."""
    command = [sys.executable, "-c", READ, reader, str(path), str(PHOTO)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PHOTO.parents[2])
    if done.returncode:
        if reader == "loader":
            raise SystemExit(done.stderr)
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure every case and print the table of ``docs/files.md``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    args = parser.parse_args()
    rows: dict[str, dict[str, dict[str, float]]] = {}
    columns = "picture of 50 megapixels|file, MB|load, CPU s|Pillow, CPU s|peak, MB|of which libraries, MB|Pillow, MB"
    print(f"| {' | '.join(columns.split('|'))} |")
    print("|---|---|---|---|---|---|---|")
    for name in CASES:
        if args.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"picture{Path(name).suffix}"
            maker = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path; "
            maker += f"from loader import CASES; CASES[{name!r}](Path({str(path)!r}))"
            subprocess.run([sys.executable, "-c", maker], check=True)
            ours, peer = measure(path, "loader"), measure(path, "pillow")
            rows[name] = {"loader": ours, "pillow": peer, "file": {"bytes": path.stat().st_size}}
        megabytes = [f"{value / 1e6:.0f}" for value in (ours["peak"], ours["before"])]
        theirs = (f"{peer['seconds']:.2f}", f"{peer['peak'] / 1e6:.0f}") if peer else ("cannot", "")
        size = rows[name]["file"]["bytes"] / 1e6
        print(
            f"| {Path(name).stem} | {size:.1f} | {ours['seconds']:.2f} | {theirs[0]} | {' | '.join(megabytes)} "
            f"| {theirs[1]} |",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
