"""The form: its values as one thing, from components to an order and from stored settings back to components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from magicmirror.errors import PromptError
from magicmirror.pipeline.profiles import Profile
from magicmirror.serving.jobs import JobResult, OrderKind
from magicmirror.serving.orders import (
    MAX_SHOTS,
    MIN_SHOTS,
    Order,
    compare_order,
    film_order,
    image_order,
    takes_order,
)
from magicmirror.serving.requests import Fields, build_request
from magicmirror.types import FaceReference, GenerationRequest
from magicmirror.ui import words

FEW_STEPS = 10
"""A model with a default of no more was trained to do it all in so few; many steps make its pictures worse."""
MANY_STEPS = 100


@dataclass(frozen=True)
class Form:
    """What a visitor filled in.

    Args:
        kind: What is to be made.
        prompt: What the person does; in a film one line for each shot.
        negative: What to keep out.
        randomise: Whether ``seed`` is drawn anew.
        seed: Any whole number from 0.
        steps: Denoising steps.
        guidance: Classifier-free guidance.
        identity: Strength of the identity.
        takes: How many seeds are tried.
    """

    kind: OrderKind = "takes"
    prompt: str = ""
    negative: str = ""
    randomise: bool = True
    seed: float | None = None
    steps: float | None = None
    guidance: float | None = None
    identity: float = 1.0
    takes: int = 1

    @property
    def shots(self) -> tuple[str, ...]:
        """The prompts: one a line in a film, one otherwise."""
        lines = tuple(line.strip() for line in self.prompt.splitlines() if line.strip())
        return lines if self.kind == "film" else (" ".join(lines),)

    def request(self, faces: Sequence[FaceReference], profile: str) -> GenerationRequest:
        """Return the checked request for the first shot.

        Raises:
            MagicMirrorError: As ``serving.requests.build_request``.
        """
        prompt = self.shots[0] if self.shots else ""
        seed = None if self.randomise else self.seed
        fields = Fields(prompt, self.negative, seed, self.steps, self.guidance, self.identity)
        return build_request(fields, faces, profile)

    def order(self, faces: Sequence[FaceReference], profile: str) -> Order:
        """Return the checked order.

        Raises:
            MagicMirrorError: When a value cannot work; the text says which.
        """
        request = self.request(faces, profile)
        if self.kind == "film":
            if not MIN_SHOTS <= len(self.shots) <= MAX_SHOTS:
                raise PromptError(words.NEED_SHOTS.format(count=len(self.shots)))
            return film_order(request, self.shots)
        if self.kind == "compare":
            return compare_order(request)
        return image_order(request) if self.kind == "image" else takes_order(request, int(self.takes))


@dataclass(frozen=True)
class FormPart:
    """The components of the form; ``inputs`` and ``fill`` keep one order."""

    kind: gr.Radio
    prompt: gr.Textbox
    negative: gr.Textbox
    randomise: gr.Checkbox
    seed: gr.Number
    steps: gr.Slider
    guidance: gr.Slider
    identity: gr.Slider
    takes: gr.Slider

    @property
    def inputs(self) -> tuple[gr.components.Component, ...]:
        """All components, in the order of the fields."""
        return tuple(getattr(self, name) for name in FORM_FIELDS)

    def read(self, data: Mapping[Any, Any]) -> Form:
        """Return the values that an event brought."""
        values = {name: data[getattr(self, name)] for name in FORM_FIELDS}
        kind = values["kind"] if values["kind"] in words.KINDS else "takes"
        return Form(**{**values, "kind": kind, "prompt": values["prompt"] or "", "negative": values["negative"] or ""})


FORM_FIELDS = tuple(FormPart.__dataclass_fields__)


def values(form: Form) -> list[Any]:
    """Return new values of all components, in the order of ``FormPart.inputs``."""
    return [getattr(form, name) for name in FORM_FIELDS]


def form_of_result(result: JobResult, take: int | None, profile: Profile) -> Form:
    """Return the form that would make a result again, or the one take of it that is looked at."""
    if result.kind == "film" and result.takes:
        first = form_of_settings(result.takes[0].settings, profile)
        prompts = "\n".join(str(shot.settings.get("prompt", "")) for shot in result.takes)
        return replace(first, kind="film", prompt=prompts)
    shown = result if take is None or not 0 <= take < len(result.takes) else result.takes[take]
    return replace(form_of_settings(shown.settings, profile), kind="image" if result.kind == "image" else "takes")


def form_of_settings(settings: Mapping[str, Any], profile: Profile) -> Form:
    """Return the form that stored settings describe; what is missing or of a wrong form takes its default."""
    shots = _shots(settings)
    film, first = len(shots) > 1, shots[0]
    prompts = [str(shot.get("prompt", "")) for shot in shots]
    seed = first.get("seed")
    return Form(
        kind="film" if film else "image" if settings.get("num_frames") == 1 else "takes",
        prompt="\n".join(prompts),
        negative=str(first.get("negative_prompt", "") or ""),
        randomise=False,
        seed=seed if type(seed) is int and seed >= 0 else 0,
        steps=_number(first.get("num_inference_steps"), profile.num_inference_steps, 1, most_steps(profile)),
        guidance=_number(first.get("guidance_scale"), profile.guidance_scale, 1, 12),
        identity=_number(first.get("identity_scale"), 1.0, 0, 2),
    )


def are_settings(settings: Mapping[str, Any]) -> bool:
    """Whether stored settings say what was made: every shot with a text as its prompt, and whole numbers as seeds."""
    shots = _shots(settings)
    texts = [shot.get("prompt") for shot in shots]
    seeds = [shot["seed"] for shot in shots if "seed" in shot]
    return all(isinstance(text, str) and text.strip() for text in texts) and all(type(seed) is int for seed in seeds)


def _shots(settings: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return what belongs to each shot of a film; of anything else the settings themselves."""
    shots = settings.get("film")
    film = isinstance(shots, list) and len(shots) > 1 and all(isinstance(shot, dict) for shot in shots)
    return shots if film and isinstance(shots, list) else [settings]


def most_steps(profile: Profile) -> int:
    """The largest number of steps that the form offers; the API takes more."""
    return FEW_STEPS if profile.num_inference_steps <= FEW_STEPS else MANY_STEPS


def _number(value: object, default: float, low: float, high: float) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    return value if usable else default  # type: ignore[return-value]
