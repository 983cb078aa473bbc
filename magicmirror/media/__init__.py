"""The only room that reads or writes pictures and video; its door is this file.

Files appear under their final name complete or not at all (``media.files``).
"""

from magicmirror.media.images import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, load_image, write_image
from magicmirror.media.video_reader import read_settings, read_video
from magicmirror.media.video_writer import check_output_path, sidecar_path, write_video

__all__ = [
    "MAX_IMAGE_BYTES",
    "MAX_IMAGE_PIXELS",
    "check_output_path",
    "load_image",
    "read_settings",
    "read_video",
    "sidecar_path",
    "write_image",
    "write_video",
]
