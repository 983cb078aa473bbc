"""Our component classes under one name for ``model_index.json``.

diffusers' loader reads ``["module", "class"]`` for each component, takes the module from those already imported, and
finds out how to load the class by looking for its *base* class in that same module. So all our classes, and their
base, stand here; and a saved pipeline does not change when a class moves inside ``models/``.
"""

from __future__ import annotations

from diffusers import ModelMixin

from magicmirror.models.fusion import IdentityFusion
from magicmirror.models.perceiver import FacePerceiver, IdentityPerceiver
from magicmirror.models.transformer import MagicMirrorTransformer3DModel

__all__ = ["FacePerceiver", "IdentityFusion", "IdentityPerceiver", "MagicMirrorTransformer3DModel", "ModelMixin"]


def recorded_as(component: tuple[str | None, str | None]) -> tuple[str | None, str | None]:
    """The module and class name that ``model_index.json`` gets for a component."""
    return (__name__, component[1]) if component[0] and component[0].startswith("magicmirror.models.") else component
