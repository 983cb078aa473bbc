"""What was made, as HTML: the stage with its videos, the choice of takes or shots, likeness, facts and downloads."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from magicmirror.serving.jobs import JobResult, Take
from magicmirror.serving.orders import prompt_of
from magicmirror.types import UInt8Array
from magicmirror.ui import words
from magicmirror.ui.likeness_markup import likeness
from magicmirror.ui.markup import data_uri, file_url, pick_button

PICTURE_SUFFIXES = (".png", ".jpg")


def stage_idle(text: str = words.STAGE_IDLE) -> str:
    """The stage before anything is on it."""
    return f'<div class="mm-stage mm-empty"><p>{escape(text)}</p></div>'


def stage_live(preview: UInt8Array | None) -> str:
    """The stage while a video is made.

    Args:
        preview: (H, W, 3) uint8 RGB; ``None`` before the first step.
    """
    if preview is None:
        return '<div class="mm-stage mm-empty mm-wait"><p></p></div>'
    picture = f'<img src="{data_uri(preview, 80)}" alt="{escape(words.STAGE_LIVE)}">'
    return f'<div class="mm-stage mm-live">{picture}<span class="mm-tag">{escape(words.STAGE_LIVE)}</span></div>'


def stage(result: JobResult, index: int | None) -> str:
    """The stage with what was made.

    Args:
        result: Of the job.
        index: The take or shot that is looked at; ``None`` for the job's own video. A comparison shows all at once.
    """
    if result.kind == "compare":
        figures = "".join(
            f'<figure class="{"mm-chosen" if place == index else ""}">{_player(take, place == (index or 0))}'
            f"<figcaption>{escape(part_name(result, place))}</figcaption></figure>"
            for place, take in enumerate(result.takes)
        )
        return f'<div class="mm-compare">{figures}</div>'
    take = shown_take(result, index)
    return f'<div class="mm-stage">{_player(take, True)}</div>'


def parts_strip(result: JobResult, index: int | None) -> str:
    """Takes (best first), strengths or shots as buttons; nothing where there is only one."""
    if len(result.takes) < 2:
        return ""
    order = result.ranking if result.kind == "takes" and result.ranking else range(len(result.takes))
    cards = "".join(_card(result, place, place == index) for place in order)
    if result.kind == "film":
        whole = pick_button(
            {"take": None}, f"<b>{escape(words.WHOLE_FILM)}</b>", words.WHOLE_FILM, index is None, "mm-card mm-whole"
        )
        cards = f"<li>{whole}</li>{cards}"
    title = words.SHOTS_LIST if result.kind == "film" else words.TAKES_LIST
    if result.kind == "compare":
        title = words.IDENTITY_LABEL
    return f'<h3 class="mm-sub">{escape(title)}</h3><ul class="mm-cards">{cards}</ul>'


def summary(result: JobResult, index: int | None) -> str:
    """Likeness with its reading and curve, and the facts that make the video repeatable."""
    take = shown_take(result, index)
    settings = take.settings
    seen = sum(value is not None for value in take.likeness)
    total_s = settings.get("timings_s", {}).get("total")
    scale = settings.get("identity_scale")
    facts = [
        (words.USED_SEED, str(settings.get("seed", ""))),
        (words.STEPS_USED, str(settings.get("num_inference_steps", ""))),
    ]
    if scale is not None:
        facts.append((words.STRENGTH_USED, f"{scale:g}"))
    if len(take.likeness) > 1:
        facts.append((words.FACE_SEEN, words.FRAMES_OF.format(seen=seen, count=len(take.likeness))))
    if take.motion is not None:
        facts.append((words.MOTION_SEEN, words.MOTION_OF.format(value=take.motion)))
    if total_s is not None:
        facts.append((words.TIME_USED, words.duration(total_s)))
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    prompt = f'<p class="mm-note">{escape(words.USED_PROMPT)}: {escape(prompt_of(take))}</p>'
    return f'<section class="mm-result">{likeness(take)}<dl class="mm-facts">{items}</dl>{prompt}</section>'


def downloads(result: JobResult, index: int | None, gif: Path | None = None) -> str:
    """Links to the file, its settings, and a GIF once there is one."""
    take = shown_take(result, index)
    picture = take.video_path.suffix.lower() in PICTURE_SUFFIXES
    links = [
        (take.video_path, words.DOWNLOAD_PICTURE if picture else words.DOWNLOAD_VIDEO, "mm-download-video"),
        (take.settings_path, words.DOWNLOAD_SETTINGS, "mm-download-settings"),
    ]
    if gif is not None:
        links.append((gif, words.DOWNLOAD_GIF, "mm-download-gif"))
    return f'<div class="mm-links">{"".join(_link(*link) for link in links)}</div>'


def _link(path: Path, text: str, name: str) -> str:
    """One file as a link that looks like a button."""
    return f'<a class="mm-link" id="{name}" href="{file_url(path)}" download="{escape(path.name)}">{escape(text)}</a>'


def shown_take(result: JobResult, index: int | None) -> Take:
    """The take or shot that is looked at; the job's own video, which is the best take or the film, without one."""
    return result if index is None or not 0 <= index < len(result.takes) else result.takes[index]


def part_name(result: JobResult, place: int) -> str:
    """How a take, strength or shot is called."""
    if result.kind == "compare":
        return words.STRENGTH.format(value=result.takes[place].settings.get("identity_scale", 1.0))
    pattern = words.SHOT_NUMBER if result.kind == "film" else words.TAKE_NUMBER
    return pattern.format(number=place + 1)


def _player(take: Take, main: bool) -> str:
    """A video that plays by itself without sound, or a picture."""
    prompt, source = prompt_of(take), file_url(take.video_path)
    if take.video_path.suffix.lower() in PICTURE_SUFFIXES:
        return f'<img src="{source}" alt="{escape(words.PICTURE_ALT.format(prompt=prompt))}">'
    mark = " data-main" if main else ""
    label = escape(words.VIDEO_ALT.format(prompt=prompt))
    return f'<video src="{source}" aria-label="{label}" controls autoplay loop muted playsinline{mark}></video>'


def _card(result: JobResult, place: int, pressed: bool) -> str:
    take, name = result.takes[place], part_name(result, place)
    mean = take.mean_likeness
    score = f"{mean:.2f}" if mean is not None else "–"
    reading = words.LIKENESS_SHORT[take.level]
    content = f"{thumbnail(take)}<span><b>{escape(name)}</b><br>{score} <small>{escape(reading)}</small></span>"
    label = f"{words.SHOW_TAKE.format(name=name)}: {score}, {reading}"
    button = pick_button({"take": place}, content, label, pressed, "mm-card")
    if result.kind == "film":
        again = f"{words.RETAKE}: {name}"
        button += pick_button({"retake": place}, escape(words.RETAKE), again, css="mm-again")
    return f"<li>{button}</li>"


def thumbnail(take: Take) -> str:
    """A small still of a video or picture; the browser takes it from the file itself."""
    source = file_url(take.video_path)
    if take.video_path.suffix.lower() in PICTURE_SUFFIXES:
        return f'<img src="{source}" alt="" loading="lazy">'
    return f'<video src="{source}#t=0.5" preload="metadata" muted playsinline tabindex="-1" aria-hidden="true"></video>'


def stills(takes: Sequence[Take]) -> str:
    """Thumbnails side by side, at most three."""
    return "".join(thumbnail(take) for take in takes[:3])
