"""What was made in this browser before, as HTML."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

from magicmirror.serving.jobs import HistoryEntry
from magicmirror.ui import words
from magicmirror.ui.markup import note, pick_button
from magicmirror.ui.result_markup import stills

SHOWN_ENTRIES = 24
SHOWN_CHARS = 60


def history(entries: Sequence[HistoryEntry], keep_hours: float, now_s: float | None = None) -> str:
    """Finished work as cards, the newest first; each can be opened and removed."""
    done = [entry for entry in entries if entry.result is not None][:SHOWN_ENTRIES]
    if not done:
        return note(words.HISTORY_EMPTY.format(hours=keep_hours) if keep_hours else words.HISTORY_EMPTY_KEPT)
    now = time.time() if now_s is None else now_s
    return f'<ul class="mm-cards mm-history">{"".join(_card(entry, now) for entry in done)}</ul>'


def age(seconds: float) -> str:
    """Say roughly how long ago something was."""
    for unit_s, text in ((86400, words.DAYS_AGO), (3600, words.HOURS_AGO), (60, words.MINUTES_AGO)):
        if seconds >= unit_s:
            return text.format(count=int(seconds // unit_s))
    return words.JUST_NOW


def _card(entry: HistoryEntry, now_s: float) -> str:
    assert entry.result is not None
    job_id = entry.status.job_id
    prompt = entry.prompt if len(entry.prompt) <= SHOWN_CHARS else entry.prompt[:SHOWN_CHARS].rstrip() + " ..."
    facts = f"{words.KINDS[entry.kind]}, {age(max(now_s - entry.created_s, 0.0))}"
    mean = entry.result.mean_likeness
    if mean is not None:
        facts += f", {mean:.2f}"
    shown = stills(entry.result.takes if entry.kind == "compare" else (entry.result,))
    content = f'<span class="mm-stills">{shown}</span><span>{escape(prompt)}<br><small>{escape(facts)}</small></span>'
    opened = pick_button({"open": job_id}, content, words.HISTORY_OPEN.format(prompt=prompt), css="mm-card")
    removed = pick_button({"remove": job_id}, "&times;", words.HISTORY_REMOVE.format(prompt=prompt), css="mm-remove")
    return f"<li>{opened}{removed}</li>"
