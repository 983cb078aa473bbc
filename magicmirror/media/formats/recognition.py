"""What a file is, by its first bytes and not by its name; and what to do with one that is no picture we read."""

from __future__ import annotations

import codecs
from pathlib import PurePath

from magicmirror.errors import MislabelledImage, UnsupportedImage
from magicmirror.media.formats.bmp import HEADER_BYTES
from magicmirror.media.formats.header import EXPORT, PictureFormat, refuse_truncated

ACCEPTED = "JPEG, PNG, WebP, GIF, BMP, TIFF or HEIC"
SUFFIXES: dict[str, PictureFormat] = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    ".webp": "WebP",
    ".gif": "GIF",
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
}
RAW_SUFFIXES = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".sr2", ".srw")
_MAGIC: tuple[tuple[bytes, PictureFormat], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_TAKE_STILL = "Save one frame of it as JPEG or PNG."
_RAW = ("a camera's raw data", EXPORT)
_VIDEO = ("a video", _TAKE_STILL)
# First bytes -> what the file is, and the remedy.
_FOREIGN: tuple[tuple[bytes, tuple[str, str]], ...] = (
    (b"%PDF-", ("a PDF document", "Export its page as JPEG or PNG.")),
    (b"%!PS", ("a PostScript drawing", EXPORT)),
    (b"PK\x03\x04", ("a zip archive or an office document", "Unpack it and choose the picture inside.")),
    (b"Rar!", ("a rar archive", "Unpack it and choose the picture inside.")),
    (b"7z\xbc\xaf", ("a 7z archive", "Unpack it and choose the picture inside.")),
    (b"\x1f\x8b", ("a gzip archive", "Unpack it and choose the picture inside.")),
    (b"8BPS", ("a Photoshop document", EXPORT)),
    (b"gimp xcf", ("a GIMP document", EXPORT)),
    (b"\xff\x0a", ("a JPEG XL picture, which is not read", EXPORT)),
    (b"\0\0\0\x0cJXL ", ("a JPEG XL picture, which is not read", EXPORT)),
    (b"\0\0\0\x0cjP  ", ("a JPEG 2000 picture, which is not read", EXPORT)),
    (b"\xff\x4f\xff\x51", ("a JPEG 2000 picture, which is not read", EXPORT)),
    (b"\0\0\x01\0", ("an icon, which is not read", EXPORT)),
    (b"FUJIFILMCCD-RAW", _RAW),
    (b"IIRO", _RAW),
    (b"IIRS", _RAW),
    (b"IIU\0", _RAW),
    (b"\x1aE\xdf\xa3", _VIDEO),
    (b"\0\0\x01\xba", _VIDEO),
    (b"FLV\x01", _VIDEO),
    (b"OggS", ("a sound or video", _TAKE_STILL)),
    (b"ID3", ("a sound", "Choose a picture.")),
    (b"\x7fELF", ("a program", "Choose a picture.")),
    (b"MZ", ("a program", "Choose a picture.")),
    (b"\x93NUMPY", ("a NumPy array", EXPORT)),
    (b"\x76\x2f\x31\x01", ("an OpenEXR picture, which is not read", EXPORT)),
    (b"#?RADIANCE", ("a Radiance picture, which is not read", EXPORT)),
)


def recognise(data: bytes, name: str = "") -> PictureFormat:
    """Tell the format of a picture from its content, and compare it with the name of the file.

    Args:
        data: The file, not empty.
        name: Name of the file; empty when there is none. Only its suffix counts, and only if it is a picture's.

    Returns:
        The format.

    Raises:
        MislabelledImage: When the suffix says one picture format and the content is something else.
        UnsupportedImage: When the content is no picture of an accepted format.
        TruncatedImage: When the file ends within the mark of its format.
    """
    suffix = PurePath(name).suffix.lower()
    expected = SUFFIXES.get(suffix)
    found = picture_format(data)
    if found is None:
        if any(magic.startswith(data) for magic, _ in _MAGIC):
            refuse_truncated("beginning")
        what, remedy = foreign_content(data)
        if expected:
            raise MislabelledImage(f"The file is named {suffix} but is not a picture: it holds {what}.", remedy)
        raise UnsupportedImage(f"The file is not a picture: it holds {what}.", remedy)
    if suffix in RAW_SUFFIXES:
        raise UnsupportedImage(f"The file is not a picture but a camera's raw data ({suffix}).", EXPORT)
    if expected and expected != found:
        right = next(ending for ending, kind in SUFFIXES.items() if kind == found)
        raise MislabelledImage(
            f"The file is named {suffix} but holds a {found} picture.", f"Rename it to {right} if you trust its origin."
        )
    return found


def picture_format(data: bytes) -> PictureFormat | None:
    """Return the accepted format whose mark a file bears, if any."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:2] == b"BM" and len(data) >= 26 and int.from_bytes(data[14:18], "little") in HEADER_BYTES:
        return "BMP"
    brands = _brands(data)
    if brands and not {b"avif", b"avis"} & {*brands} and brands[0] in _HEIC_BRANDS:
        return "HEIC"
    return None


def foreign_content(data: bytes) -> tuple[str, str]:
    """Say what a file is that is no picture of an accepted format, and what to do about it."""
    for magic, answer in _FOREIGN:
        if data.startswith(magic):
            return answer
    if data[:4] == b"RIFF":
        return _VIDEO if data[8:12] == b"AVI " else ("a sound or something else in a RIFF file", "Choose a picture.")
    brands = _brands(data)
    if brands:
        if {b"avif", b"avis"} & {*brands}:
            return "an AVIF picture, which is not read", EXPORT
        return _RAW if brands[0] == b"crx " else _VIDEO
    return _text_content(data[:2048]) or ("nothing that is known here", f"Choose a picture that is {ACCEPTED}.")


def _brands(data: bytes) -> list[bytes]:
    """Return the brands of a file in boxes, the main one first; empty for other files."""
    if data[4:8] != b"ftyp" or len(data) < 12:
        return []
    end = min(int.from_bytes(data[:4], "big"), len(data), 512)
    return [data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]


def _text_content(start: bytes) -> tuple[str, str] | None:
    """Say what kind of text a file starts with; ``None`` if it is no text."""
    try:
        # An incremental decoder does not mind a letter that is cut at the end.
        text = codecs.getincrementaldecoder("utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")().decode(
            start
        )
    except UnicodeDecodeError:
        return None
    if any(ord(letter) < 32 and letter not in "\t\n\f\r\x1b" for letter in text):
        return None
    text = text.lstrip("\ufeff \t\r\n").lower()
    if "<svg" in text and text.startswith("<"):
        return "an SVG drawing, which is not read", EXPORT
    if text.startswith(("<!doctype html", "<html", "<head", "<body", "<script")):
        return "a web page", "Save the picture itself, not the page that shows it."
    return "plain text", f"Choose a picture that is {ACCEPTED}."
