"""MagicMirror: identity-preserved text-to-video with CogVideoX, after arXiv 2501.03931.

Public names are imported on first use, so that ``import magicmirror`` and ``--help`` stay fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from magicmirror.faces.analyzer import FaceAnalyzer
    from magicmirror.models.transformer import MagicMirrorTransformer3DModel
    from magicmirror.pipeline.pipeline import MagicMirrorPipeline
    from magicmirror.types import GenerationRequest

__version__ = "0.1.0"

_HOMES = {
    "FaceAnalyzer": "magicmirror.faces.analyzer",
    "GenerationRequest": "magicmirror.types",
    "MagicMirrorPipeline": "magicmirror.pipeline.pipeline",
    "MagicMirrorTransformer3DModel": "magicmirror.models.transformer",
}

__all__ = [
    "FaceAnalyzer",
    "GenerationRequest",
    "MagicMirrorPipeline",
    "MagicMirrorTransformer3DModel",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
