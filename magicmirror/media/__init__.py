"""The only room that reads or writes pictures and video; its door is this file.

Files appear under their final name complete or not at all (``media.files``).
"""

from magicmirror.media.files import (
    complete_file,
    complete_files,
    complete_folder,
    make_folder,
    make_writable_folder,
    remove_stale_partials,
)
from magicmirror.media.frame_sequence import write_frames
from magicmirror.media.gif import write_gif
from magicmirror.media.images import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, MAX_IMAGE_SIDE_PX, load_image, write_image
from magicmirror.media.video_output import OUTPUT_SUFFIXES, write_result
from magicmirror.media.video_probe import VideoProperties, read_properties
from magicmirror.media.video_reader import MAX_VIDEO_PIXELS, iterate_frames, read_settings, read_video
from magicmirror.media.video_record import check_output_path, sidecar_path
from magicmirror.media.video_writer import write_video

__all__ = [
    "MAX_IMAGE_BYTES",
    "MAX_IMAGE_PIXELS",
    "MAX_IMAGE_SIDE_PX",
    "MAX_VIDEO_PIXELS",
    "OUTPUT_SUFFIXES",
    "VideoProperties",
    "check_output_path",
    "complete_file",
    "complete_files",
    "complete_folder",
    "iterate_frames",
    "load_image",
    "make_folder",
    "make_writable_folder",
    "read_properties",
    "read_settings",
    "read_video",
    "remove_stale_partials",
    "sidecar_path",
    "write_frames",
    "write_gif",
    "write_image",
    "write_result",
    "write_video",
]
