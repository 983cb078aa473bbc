"""Every error that MagicMirror raises on purpose.

::

    MagicMirrorError
    ├── UserInputError            the person who asked can mend it; CLI exit status 2
    │   ├── ImageError            a picture cannot be read or written
    │   │   ├── EmptyImage        the file has no bytes
    │   │   ├── ImageFileTooLarge the file has too many bytes
    │   │   ├── ImageTooLarge     too many pixels, or a side that is too long
    │   │   │   └── CostlyImage   a small file that would cost far too much memory or time to decode
    │   │   ├── TruncatedImage    the file ends before the picture does
    │   │   ├── DamagedImage      the file contradicts its own format
    │   │   ├── MislabelledImage  the name ends in one picture format, the content is something else
    │   │   └── UnsupportedImage  a format, or a kind of a format, that is not read
    │   ├── FaceError
    │   │   ├── NoFaceFound       no face in a reference photo
    │   │   └── SeveralFaces      several comparable faces and no choice given
    │   ├── PromptError           empty prompt, no person word, too long
    │   └── VideoError            a video cannot be read or written
    ├── ConfigError               a setting, profile or argument that cannot work
    ├── WeightsError              a checkpoint is missing, wrong or of another format
    └── ServingError
        ├── QueueFull             the bounded queue has no free place
        ├── JobNotFound           unknown or expired job id
        └── JobCancelled          the job was stopped on request

A message names the offending value, and ``remedy`` says what to do about it.
"""

from __future__ import annotations


class MagicMirrorError(Exception):
    """Base of the tree.

    Args:
        message: What is wrong, with the value.
        remedy: What the reader can do; appended to the text.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message = message
        self.remedy = remedy


class UserInputError(MagicMirrorError):
    """Something in the request that its author can mend."""


class ImageError(UserInputError):
    """A picture cannot be read or written."""


class EmptyImage(ImageError):
    """The picture file has no bytes."""


class ImageFileTooLarge(ImageError):
    """The picture file has more bytes than are accepted."""


class ImageTooLarge(ImageError):
    """The picture has more pixels, or a longer side, than are accepted."""


class CostlyImage(ImageTooLarge):
    """The file is built so that decoding it would cost far more memory or time than its picture is worth."""


class TruncatedImage(ImageError):
    """The file ends before its picture does."""


class DamagedImage(ImageError):
    """The file contradicts its own format."""


class MislabelledImage(ImageError):
    """The name of the file ends in one picture format, and the content is something else."""


class UnsupportedImage(ImageError):
    """The content is of a format, or of a kind of a format, that is not read."""


class FaceError(UserInputError):
    """A reference photo has no usable face."""


class NoFaceFound(FaceError):
    """No face was detected in a reference photo."""


class SeveralFaces(FaceError):
    """Several comparable faces were found, and none was chosen."""


class PromptError(UserInputError):
    """The prompt is empty, too long or names no person."""


class VideoError(UserInputError):
    """A video cannot be read or written."""


class ConfigError(MagicMirrorError):
    """A setting, profile or argument that cannot work."""


class WeightsError(MagicMirrorError):
    """A checkpoint is missing, damaged or of another format or shape."""


class ServingError(MagicMirrorError):
    """The engine refused or ended a job."""


class QueueFull(ServingError):
    """The bounded queue has no free place."""


class JobNotFound(ServingError):
    """No job has this id (any more)."""


class JobCancelled(ServingError):
    """The job was stopped on request."""
