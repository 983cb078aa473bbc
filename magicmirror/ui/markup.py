"""Small pieces of HTML that several parts of the page use, as plain functions from values to escaped text."""

from __future__ import annotations

import base64
import io
import json
import math
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from magicmirror.serving.jobs import JobStatus, OrderKind
from magicmirror.types import UInt8Array
from magicmirror.ui import words

PICK_SCRIPT = """
let last = null;
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-pick]');
  if (!button) return;
  last = button.dataset.pick;
  trigger('select', JSON.parse(last));
});
new MutationObserver(() => {
  if (last === null || (document.activeElement && document.activeElement !== document.body)) return;
  const again = [...element.querySelectorAll('button[data-pick]')].find((button) => button.dataset.pick === last);
  if (again) again.focus({preventScroll: true});
}).observe(element, {childList: true, subtree: true});
"""
"""A click on a button becomes a ``select`` event whose data is its ``data-pick``; the focus survives the new HTML."""

THEME_SCRIPT = """
const key = 'magicmirror-theme', body = document.body;
const wanted = localStorage.getItem(key);
if (wanted) body.classList.toggle('dark', wanted === 'dark');
element.addEventListener('click', (event) => {
  if (!event.target.closest('button')) return;
  localStorage.setItem(key, body.classList.toggle('dark') ? 'dark' : 'light');
});
"""
"""The button in the header turns the page light or dark, and this browser remembers it."""


UPLOAD_SCRIPT = """
const repairUpload = () => {
  for (const inner of document.querySelectorAll('#mm-photos button button:not([inert])')) {
    inner.inert = true;
    inner.parentElement.closest('button').addEventListener('click', (event) => {
      if (!event.target.closest('input')) inner.querySelector('input').click();
    });
  }
};
new MutationObserver(repairUpload).observe(document.body, {childList: true, subtree: true});
repairUpload();
"""
"""Gradio puts the button that uploads into another button, which screen readers and keyboards cannot tell apart."""

RADIO_SCRIPT = """
const repair = () => {
  const group = document.querySelector('#mm-kind'), choices = group ? [...group.querySelectorAll('input')] : [];
  if (!choices.length) { setTimeout(repair, 100); return; }
  const box = choices[0].closest('.wrap'), title = group.querySelector('[data-testid=block-info]');
  box.setAttribute('role', 'radiogroup');
  if (title) box.setAttribute('aria-label', title.textContent);
  group.addEventListener('keydown', (event) => {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    const all = group.querySelectorAll('input');
    if (!step) return;
    event.preventDefault();
    const next = all[([...all].indexOf(document.activeElement) + step + all.length) % all.length];
    next.focus();
    next.click();
  });
};
repair();
"""
"""Gradio gives every radio button a name of its own, so that arrow keys and screen readers know no group."""

RESTART_SCRIPT = """
const {root, api_prefix, app_id} = window.gradio_config, store = window.sessionStorage;
const before = store.getItem('magicmirror-app');
store.setItem('magicmirror-app', app_id);
element.querySelector('.mm-restarted').hidden = !before || before === String(app_id);
let missed = 0;
const look = async () => {
  let now = null;
  try {
    const answer = await fetch(`${root}${api_prefix || ''}/app_id`, {cache: 'no-store'});
    if (answer.ok) now = (await answer.json()).app_id;
  } catch (error) { console.debug(error); }
  missed = now === null ? missed + 1 : 0;
  element.querySelector('.mm-away').hidden = missed < 2;
  if (now !== null && now !== app_id) window.location.reload();
};
setInterval(() => { if (!document.hidden) look(); }, 3000);
const keepPrompt = () => {
  const prompt = document.querySelector('#mm-prompt textarea');
  if (!prompt) { setTimeout(keepPrompt, 100); return; }
  const kept = store.getItem('magicmirror-prompt');
  if (kept && !prompt.value) {
    prompt.value = kept;
    prompt.dispatchEvent(new Event('input', {bubbles: true}));
  }
  setInterval(() => store.setItem('magicmirror-prompt', prompt.value), 1000);
};
keepPrompt();
"""
"""A server that was restarted knows nothing of the pages that are open. They notice it and load themselves anew, which
finds the results and the end of the job; this tab keeps the prompt, and says that the photo has to be added again."""


def header() -> str:
    """Title, what it is for, the switch between light and dark, and alerts about the server, hidden at first."""
    return (
        f'<header class="mm-head"><h1>{escape(words.TITLE)}</h1><p>{escape(words.TAGLINE)}</p>'
        f'<button type="button" class="mm-theme" aria-label="{escape(words.DARK_MODE)}" '
        f'title="{escape(words.DARK_MODE)}"><svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="10" cy="10" r="8"/>'
        '<path d="M10 2a8 8 0 0 1 0 16z"/></svg></button></header>'
        f'<div class="mm-alert mm-away" role="alert" hidden>{escape(words.AWAY)}</div>'
        f'<div class="mm-alert mm-restarted" role="alert" hidden>{escape(words.RESTARTED)}</div>'
    )


def step_title(text: str) -> str:
    """Heading of one part of the form."""
    return f'<h2 class="mm-step">{escape(text)}</h2>'


def note(text: str) -> str:
    """A quiet line."""
    return f'<p class="mm-note">{escape(text)}</p>'


def alert(text: str) -> str:
    """A line that must be seen; empty text gives nothing."""
    return f'<div class="mm-alert" role="alert">{escape(text)}</div>' if text else ""


def status_line(text: str, bad: bool = False) -> str:
    """One sentence in the place of the progress bar."""
    mark = ' class="mm-bad" role="alert"' if bad else ""
    return f'<div class="mm-status" role="status"><p{mark}>{escape(text)}</p></div>'


def progress(status: JobStatus, kind: OrderKind = "takes") -> str:
    """Stage, step and time to go, with a bar; a sentence once the job has ended."""
    if status.state == "done":
        return status_line(f"{words.DONE} {words.NOTED.format(note=status.message)}" if status.message else words.DONE)
    if status.state == "cancelled":
        return status_line(words.CANCELLED)
    if status.state == "failed":
        return status_line(words.FAILED.format(reason=status.message), bad=True)
    eta = words.ETA.format(time=words.duration(math.ceil(status.eta_s))) if status.eta_s is not None else ""
    known = status.stage in ("denoising", "measuring", "writing") and status.total > 0
    percent = _percent(status) if known else 0
    value = f'aria-valuenow="{percent}"' if known else ""
    noted = note(words.NOTED.format(note=status.message)) if status.message else ""
    bar = f'<div class="mm-bar" style="width:{percent}%"></div>' if known else '<div class="mm-bar mm-busy"></div>'
    return (
        f'<div class="mm-status"><p><span>{escape(_stage_text(status, kind))}</span>'
        f'<span class="mm-eta">{escape(eta)}</span></p>'
        f'<div class="mm-track" role="progressbar" aria-label="{escape(words.PROGRESS_LABEL)}" aria-valuemin="0" '
        f'aria-valuemax="100" {value}>{bar}</div>{noted}</div>'
    )


def pick_button(pick: dict[str, Any], content: str, label: str, pressed: bool | None = None, css: str = "") -> str:
    """A button that ``PICK_SCRIPT`` reports.

    Args:
        pick: What the event carries.
        content: HTML inside the button, escaped already.
        label: What screen readers say and the pointer shows.
        pressed: State of a choice; ``None`` for a button without one.
        css: Class.
    """
    state = "" if pressed is None else f' aria-pressed="{str(pressed).lower()}"'
    data = escape(json.dumps(pick, separators=(",", ":")))
    return (
        f'<button type="button" class="{css}" title="{escape(label)}" aria-label="{escape(label)}"{state} '
        f'data-pick="{data}">{content}</button>'
    )


def data_uri(image: UInt8Array, quality: int = 88) -> str:
    """Return (H, W, 3) uint8 RGB as a JPEG inside a URI, so that a face is never a file on the server."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg_bytes(image, quality=quality)).decode()


def jpeg_bytes(image: UInt8Array, side_px: int | None = None, quality: int = 88) -> bytes:
    """Return (H, W, 3) uint8 RGB as a JPEG, made smaller where a side is longer than ``side_px``."""
    from PIL import Image

    buffer, picture = io.BytesIO(), Image.fromarray(image)
    if side_px is not None:
        picture.thumbnail((side_px, side_px))
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def file_data_uri(path: Path, side_px: int = 160) -> str:
    """Return a picture file as a small JPEG inside a URI."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as picture:
        picture.thumbnail((side_px, side_px))
        picture.convert("RGB").save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def file_url(path: Path) -> str:
    """Address of a result, escaped for an attribute; Gradio serves the output folder, whose names cannot be guessed."""
    return escape(f"gradio_api/file={quote(path.as_posix())}")


def _percent(status: JobStatus) -> int:
    """How much of all parts is done."""
    parts = max(status.parts, 1)
    done = max(status.part - 1, 0) + status.step / max(status.total, 1)
    return min(round(100 * done / parts), 100)


def _stage_text(status: JobStatus, kind: OrderKind) -> str:
    if status.state == "queued":
        position = status.queue_position
        return words.QUEUED_NEXT if position <= 1 else words.QUEUED.format(position=position)
    text = words.STAGES[status.stage].format(step=status.step, total=status.total)
    if status.parts > 1 and status.part > 0:
        return words.PART_OF.format(part=words.PARTS[kind], number=status.part, count=status.parts, text=text)
    return text
