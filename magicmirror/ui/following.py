"""Watching a job without holding a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from magicmirror.serving.engine import Engine
from magicmirror.serving.jobs import JobStatus

POLL_S = 0.25
"""How often a page looks at its job: often enough to look alive, rarely enough for a slow browser to keep up."""


async def follow(engine: Engine, job_id: str) -> AsyncIterator[JobStatus]:
    """Yield every new status of a job until it has ended, without holding a thread in between.

    Raises:
        JobNotFound: When the job is unknown.
    """
    version = -1
    while True:
        status = engine.status(job_id)
        if status.version > version:
            version = status.version
            yield status
        if status.ended:
            return
        await asyncio.sleep(POLL_S)
