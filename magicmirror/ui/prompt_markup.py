"""What was noticed about a prompt, and how long the work would take, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from magicmirror.serving.jobs import Forecast
from magicmirror.serving.prompt_guide import PromptNotes
from magicmirror.ui import words

SHOWN_WORDS = 8
"""So many unknown words are enough to see the point."""


def prompt_notes(notes: Sequence[PromptNotes]) -> str:
    """Person word, length and unknown words of a prompt, or of every shot of a film; nothing for no prompt."""
    lines = "".join(_line(note, words.SHOT.format(number=index + 1) if len(notes) > 1 else "")
                    for index, note in enumerate(notes))  # fmt: skip
    return f'<div class="mm-notes" role="status" aria-label="{escape(words.PROMPT_NOTES_LABEL)}">{lines}</div>'


def forecast_line(forecast: Forecast | None) -> str:
    """How long it takes and when it starts; an empty line of the same height where nothing is known."""
    if forecast is None:
        return '<p class="mm-note mm-forecast">&nbsp;</p>'
    pattern = words.FORECAST if forecast.measured else words.FORECAST_GUESS
    text = pattern.format(time=words.duration(forecast.seconds))
    if forecast.wait_s > 1:
        text += " " + words.FORECAST_WAIT.format(time=words.duration(forecast.wait_s))
    if forecast.memory:
        text += " " + words.FORECAST_MEMORY.format(line=forecast.memory)
    return f'<p class="mm-note mm-forecast">{escape(text)}</p>'


def _line(notes: PromptNotes, title: str) -> str:
    parts = [f"<b>{escape(title)}</b>"] if title else []
    if notes.person:
        parts.append(f'<span class="mm-good">{escape(words.PERSON_FOUND.format(word=notes.person))}</span>')
    else:
        parts.append(f'<span class="mm-warn">{escape(words.PERSON_MISSING)}</span>')
    if notes.tokens is not None and notes.max_tokens is not None:
        pattern, css = (words.TOO_LONG, "mm-warn") if notes.too_long else (words.TOKENS, "mm-count")
        text = pattern.format(count=notes.tokens, limit=notes.max_tokens)
        parts.append(f'<span class="{css}">{escape(text)}</span>')
    if notes.unknown_words:
        more = " ..." if len(notes.unknown_words) > SHOWN_WORDS else ""
        named = ", ".join(notes.unknown_words[:SHOWN_WORDS]) + more
        parts.append(f'<span class="mm-warn">{escape(words.UNKNOWN_WORDS.format(words=named))}</span>')
    return f"<p>{' '.join(parts)}</p>"
