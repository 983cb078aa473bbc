"""How long a visitor waits for the page of a warm server: first paint, and the first page on which one can start.

    python benchmarks/page.py [--runs 5] [--json FILE]

Starts ``python app.py`` with the preview weights, waits until the model is loaded, visits it once to warm it, and then
as new visitors, each with an empty cache, in Debian's Chromium (needs the packages of requirements-dev.txt). *paint* is
the browser's first contentful paint; *meaningful* is when title, example faces, prompt and the button Generate are
there; *visitor known* is when the page has got the answer to its first call, with the history of this browser. The
processor is shared by server and browser, as on a machine of one's own.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from typing import Any

import record

START_LIMIT_S = 180
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime / 1000"
MEANINGFUL = ("h1", "#mm-examples button", "#mm-prompt textarea", "#mm-generate")


def wait_until_loaded(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the model of the server is resident."""
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
                if json.load(answer)["model_loaded"]:
                    return
        except OSError:
            pass
        time.sleep(0.3)
    raise TimeoutError("The server did not load its model.")


def visit(browser: Any, url: str) -> dict[str, float]:
    """Come as a new visitor; seconds from the request."""
    context = browser.new_context()
    page = context.new_page()
    started = time.perf_counter()
    page.goto(url, wait_until="commit")
    for part in MEANINGFUL:
        page.locator(part).first.wait_for()
    meaningful = time.perf_counter() - started
    page.locator("#mm-history p, #mm-history li").first.wait_for()
    known = time.perf_counter() - started
    paint = page.evaluate(PAINT)
    context.close()
    return {"paint": paint, "meaningful": meaningful, "visitor known": known}


def measure(runs: int) -> list[dict[str, float]]:
    """Serve the page and visit it; the first visit is left out."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        environment = {**os.environ, "MAGICMIRROR_PORT": url.rpartition(":")[2], "MAGICMIRROR_OUTPUT_DIR": folder}
        app = subprocess.Popen(
            [sys.executable, "app.py"], cwd=record.REPOSITORY, env=environment, stderr=subprocess.DEVNULL
        )
        try:
            wait_until_loaded(url, app)
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            visits = [visit(browser, url) for _ in range(runs + 1)]
            browser.close()
        finally:
            app.kill()
            app.wait()
    return visits[1:]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = record.parser(__doc__)
    parser.add_argument("--runs", type=int, default=5, help="visits after the first one")
    args = parser.parse_args()
    visits = measure(args.runs)
    results = {name: record.spread([each[name] for each in visits]) for name in visits[0]}
    rows = [[name, part["median"], part["low"], part["high"]] for name, part in results.items()]
    print(record.table(["until", "median, s", "low", "high"], rows))
    record.finish("page", {"profile": "preview", "runs": args.runs}, results, args.json)


if __name__ == "__main__":
    main()
