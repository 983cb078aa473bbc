"""What the result side shows: one value for all of its components, for every state of a job."""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

import gradio as gr

from magicmirror.serving.jobs import JobStatus, OrderKind
from magicmirror.ui import markup, result_markup


class ResultView(NamedTuple):
    """New values of the components on the result side, in the order of ``ResultPart.outputs``.

    Every view names every component: a browser that is behind applies only the latest of several views.
    """

    status: Any
    stage: Any
    parts: Any
    summary: Any
    downloads: Any
    actions: Any
    gif: Any
    seed: Any
    generate: Any
    stop: Any
    history: Any


def running_view(status: JobStatus, kind: OrderKind, seed: Any) -> ResultView:
    """Return the view of a job on its way."""
    return ResultView(
        status=markup.progress(status, kind),
        stage=result_markup.stage_live(status.preview),
        parts="",
        summary="",
        downloads="",
        actions=gr.update(visible=False),
        gif=gr.update(visible=False),
        seed=seed,
        generate=gr.update(interactive=False),
        stop=gr.update(interactive=True),
        history=gr.skip(),
    )


def empty_view(status: str, shown_history: Any) -> ResultView:
    """Return a view without a result."""
    view = running_view(JobStatus("", "queued"), "takes", gr.skip())
    return view._replace(
        status=status,
        stage=result_markup.stage_idle(),
        generate=gr.update(interactive=True),
        stop=gr.update(interactive=False),
        history=shown_history,
    )


def unchanged() -> ResultView:
    """Return a view that leaves everything as it is."""
    return ResultView(*([gr.skip()] * len(ResultView._fields)))


def refused(reason: str) -> ResultView:
    """Return a view that says why nothing was started and leaves the rest as it is."""
    gr.Warning(escape(reason))
    return unchanged()._replace(status=markup.status_line(reason, bad=True))
