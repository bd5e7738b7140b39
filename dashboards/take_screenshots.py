"""Take pictures of every page of the dashboard in a real Chromium, light and dark.

Usage: python dashboards/take_screenshots.py --store DIR --out docs/images [--width 1440] [--height 900]

It serves the store on a free loopback port, opens each page, waits until it is drawn, and writes ``<page>-<theme>.png``
with the whole page, not only what fits the window. Runs to show are chosen from the store: one per kind of case.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright

from enginewatch_dashboards.launch import STORE_VARIABLE, command
from enginewatch_db.connect import Reader

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY_S, QUIET_MS, MAX_WAIT_MS = 60, 700, 30_000
MAX_HEIGHT = 9_000
MAX_GROWTHS = 5
"""A page may grow while it is being measured, since charts come last."""

_SETTLED = """(quiet) => new Promise((resolve) => {
  let timer = setTimeout(resolve, quiet);
  const again = () => { clearTimeout(timer); timer = setTimeout(resolve, quiet); };
  new MutationObserver(again).observe(document.body, {subtree: true, childList: true, attributes: true});
})"""
_DRAWN = """() => [...document.querySelectorAll('[data-testid="stPlotlyChart"], [data-testid="stSkeleton"]')]
  .every((chart) => chart.querySelector('.main-svg'))"""
_CONTENT = """() => {
  const page = document.querySelector('[data-testid="stMainBlockContainer"]') ?? document.querySelector('main');
  return Math.ceil(page.getBoundingClientRect().bottom + document.scrollingElement.scrollTop);
}"""

RUNS_SQL = """
WITH shown AS (
  SELECT r.run_id, r.started_at, r.valid, coalesce(s.concurrency, s.batch, 0) AS load,
    CASE WHEN s.concurrency > 1 THEN 'run-llm' WHEN s.concurrency IS NOT NULL THEN 'run-llm-single'
      WHEN s.device ILIKE '%nvidia%' THEN 'run-gpu' ELSE 'run-cpu' END AS name
  FROM runs r JOIN series s USING (series_id) WHERE r.status = 'ok'
)
SELECT name, arg_max(run_id, (valid, load, started_at))::VARCHAR AS run_id FROM shown GROUP BY name
UNION ALL
SELECT 'run-failed', arg_max(run_id, started_at)::VARCHAR FROM runs WHERE status = 'failed' HAVING count(*) > 0
"""
TREND_SQL = """
SELECT v.case_key, v.metric FROM verdicts v ORDER BY v.verdict = 'regressed' DESC, abs(v.effect_rel) DESC LIMIT 1
"""
ENGINES_SQL = """
WITH profiled AS (
  SELECT r.engine_sha256, r.case_key, s.model, s.precision, s.batch, max(r.started_at) AS last_used
  FROM runs r JOIN series s USING (series_id)
  WHERE r.engine_sha256 IS NOT NULL AND r.run_id IN (SELECT run_id FROM layers)
  GROUP BY ALL
)
SELECT e.engine_sha256 AS id, e.case_key AS "case", b.engine_sha256 AS base
FROM profiled e JOIN profiled b ON b.model = e.model AND b.batch = e.batch AND b.engine_sha256 <> e.engine_sha256
ORDER BY b.precision = 'fp32' DESC, e.last_used DESC, e.case_key DESC LIMIT 1
"""
"""Two engines of one model whose layers can be compared, from fp32 where there is one."""

LOADED_SQL = "SELECT count(*) AS n FROM runs JOIN series USING (series_id) WHERE load_mode IS NOT NULL"
LIMIT_MS = 300
"""Limit that the picture of the Serving page is taken with."""


def pages(store: Path) -> dict[str, str]:
    """Return name → path and query of what is worth a picture in this store."""
    with Reader.open(store) as reader:
        runs = {row["name"]: row["run_id"] for row in reader.console(RUNS_SQL).to_pylist()}
        judged = reader.console(TREND_SQL).to_pylist()
        engines = reader.console(ENGINES_SQL).to_pylist()
        loaded = reader.console(LOADED_SQL).to_pylist()[0]["n"]
    trend = {"case": judged[0]["case_key"], "metric": judged[0]["metric"]} if judged else {}
    query = (
        "SELECT case_key, avg(value) FILTER (WHERE metric = 'latency_p50_ms') AS latency_p50_ms\n"
        "FROM v_metrics WHERE valid GROUP BY case_key HAVING latency_p50_ms IS NOT NULL ORDER BY ALL"
    )
    return {
        "overview": "",
        "trend": f"trend?{urlencode(trend)}",
        **{name: f"run?{urlencode({'id': run_id})}" for name, run_id in runs.items()},
        **({"serving": f"serving?slo={LIMIT_MS}"} if loaded else {}),
        **({"engine": f"engine?{urlencode(engines[0])}"} if engines else {}),
        "runs": "runs",
        "sql": f"sql?{urlencode({'q': query})}",
    }


@contextmanager
def serving(store: Path) -> Iterator[str]:
    """Serve a store and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(command("127.0.0.1", port), env={**os.environ, STORE_VARIABLE: str(store.absolute())})
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + READY_S
        while True:
            try:
                with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):  # noqa: S310 - our own server
                    break
            except (urllib.error.URLError, OSError):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the dashboard did not start") from None
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait()


def settle(page: Page) -> None:
    """Wait until the page has been drawn and nothing moves any more."""
    # A narrow page folds it away.
    page.locator("nav").first.wait_for(state="attached", timeout=MAX_WAIT_MS)
    page.wait_for_function("() => !document.querySelector('[data-stale=\"true\"]')", timeout=MAX_WAIT_MS)
    page.wait_for_function(_DRAWN, timeout=MAX_WAIT_MS)
    page.evaluate(_SETTLED, QUIET_MS)


def shoot(context: BrowserContext, address: str, target: Path, *, width: int, height: int) -> None:
    """Open one address and write a picture of the whole page."""
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": height})
    page.goto(address)
    settle(page)
    for _ in range(MAX_GROWTHS):
        needed = max(height, min(int(page.evaluate(_CONTENT)), MAX_HEIGHT))
        if page.viewport_size and page.viewport_size["height"] == needed:
            break
        page.set_viewport_size({"width": width, "height": needed})
        settle(page)
    page.screenshot(path=target)
    page.close()


def shoot_all(playwright: Playwright, address: str, wanted: dict[str, str], options: argparse.Namespace) -> None:
    """Write the pictures of all pages in all themes."""
    for theme in options.themes:
        with tempfile.TemporaryDirectory(prefix="enginewatch-chromium-") as profile:
            context = playwright.chromium.launch_persistent_context(
                profile, executable_path=CHROMIUM, headless=True, args=FLAGS, color_scheme=theme
            )
            for name, path in wanted.items():
                stem = name if options.bare else f"{name}-{theme}"
                target = options.out / f"{stem}{options.suffix}.png"
                shoot(context, f"{address}/{path}", target, width=options.width, height=options.height)
                sys.stdout.write(f"{target}\n")
            context.close()


def main() -> None:
    """Read the options and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="folder of the store")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--width", type=int, default=1440)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--themes", nargs="+", default=["light", "dark"], choices=["light", "dark"])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these pages")
    parser.add_argument("--bare", action="store_true", help="leave the theme out of the names, for one theme")
    parser.add_argument("--suffix", default="", help="appended to each name, for example -800")
    options = parser.parse_args()
    if options.bare and len(options.themes) > 1:
        parser.error("--bare names one theme's pictures: give --themes light or dark")
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = {name: path for name, path in pages(options.store).items() if not options.only or name in options.only}
    with serving(options.store) as address, sync_playwright() as playwright:
        shoot_all(playwright, address, wanted, options)


if __name__ == "__main__":
    main()
