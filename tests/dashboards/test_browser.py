"""The dashboard in a real Chromium: every page, light and dark, and the way from a tile to a run."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 60_000
PROBES = re.compile(r"/(overview|trend|run|engine|serving|runs|sql)/_stcore/(health|host-config)$")
"""Streamlit's front end asks here first to find out whether the app lies in a folder; 404 is its way to know."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed"),
    # Playwright's driver leaves its event loop to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def browser_page(tmp_path):
    """Open a page with a new profile in a theme: ``browser_page("dark")`` → (page, complaints)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        contexts = []

        def build(theme):
            context = playwright.chromium.launch_persistent_context(
                tmp_path / f"profile-{theme}", executable_path=str(CHROMIUM), headless=True, args=FLAGS,
                color_scheme=theme, viewport={"width": 1440, "height": 900},
            )  # fmt: skip
            contexts.append(context)
            page, complaints = context.new_page(), []
            page.set_default_timeout(WAIT_MS)
            page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
            page.on("console", lambda message: _note(message, complaints))
            page.on("response", lambda answer: _note_status(answer, complaints))
            page.on("request", lambda request: _note_foreign(request, complaints))
            return page, complaints

        yield build
        for context in contexts:
            context.close()


def _note(message, complaints):
    # A failed load is told without its address here; ``_note_status`` judges it by its address.
    if message.type == "error" and "Failed to load resource" not in message.text:
        complaints.append(f"console: {message.text}")


def _note_status(answer, complaints):
    if answer.status >= 400 and not PROBES.search(answer.url):
        complaints.append(f"{answer.status}: {answer.url}")


def _note_foreign(request, complaints):
    if not request.url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")):
        complaints.append(f"asked another host: {request.url}")


def assert_fine(page, complaints):
    assert complaints == []
    assert page.locator('[data-testid="stException"]').count() == 0
    assert page.get_by_text("This page could not be drawn").count() == 0


def shows(page, text):
    page.get_by_text(text, exact=False).first.wait_for(state="visible")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_drawn(served, browser_page, rich, theme):
    page, complaints = browser_page(theme)
    run_id = rich.runs["llama-7b/openai/bf16/c64"]
    with served(rich.workspace) as running:
        # A link straight to a page, before anyone has opened the dashboard: the first visitor of a new server.
        for path, text in (
            ("runs?status=failed", "1 run"),
            ("", "1 failed and 2 regressed"),
            ("?verdict=regressed", "1 failed and 2 regressed"),
            ("trend?case=encoder/onnxruntime/int8/b8&metric=latency_p50_ms", "all of it lies beyond 5 %"),
            (f"run?id={run_id}", "the power cap of 700 W held the clock down"),
            ("engine?case=resnet50/trtexec/fp16/b8", "Slowest layers"),
            ("serving?slo=300", "levels of 1 configuration"),
            ("sql?q=SELECT 42 AS answer", "1 row, 1 column"),
        ):
            page.goto(f"{running.url}/{path}")
            shows(page, text)
            shows(page, "Overview")
            if path.startswith(("trend", "run?", "engine", "serving")):
                page.locator(".js-plotly-plot .main-svg").first.wait_for(state="visible")
            assert_fine(page, complaints)
        background = page.evaluate("() => getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        assert background == ("rgb(255, 255, 255)" if theme == "light" else "rgb(20, 23, 28)")


def test_from_a_tile_to_the_trend_to_a_run_and_back(served, browser_page, rich):
    page, complaints = browser_page("light")
    with served(rich.workspace) as running:
        page.goto(running.url)
        page.get_by_role("link", name="encoder").first.click()
        shows(page, "latency p50 of encoder/onnxruntime/int8/b8")
        assert "case=encoder" in page.url
        # The first layer holds the values, the second one the strip below; the last trace is the judged session.
        point = page.locator(".js-plotly-plot .scatterlayer").first.locator(".point").last
        point.scroll_into_view_if_needed()
        point.wait_for(state="visible")
        box = point.bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        shows(page, "May I trust it?")
        assert re.search(r"/run\?", page.url)
        query = parse_qs(urlsplit(page.url).query)
        assert len(query["id"][0]) == 36
        assert query["case"] == ["encoder/onnxruntime/int8/b8"]
        shows(page, "encoder/onnxruntime/int8/b8")
        page.go_back()
        shows(page, "latency p50 of encoder/onnxruntime/int8/b8")
        assert "/trend" in page.url
        page.get_by_label("Metric", exact=False).last.click()
        page.get_by_role("option", name="latency p99 (ms)").click()
        shows(page, "latency p99 of encoder/onnxruntime/int8/b8")
        assert "metric=latency_p99_ms" in page.url
        page.go_back()
        shows(page, "latency p50 of encoder/onnxruntime/int8/b8")
        assert_fine(page, complaints)


def test_from_a_load_level_to_its_runs_and_back(served, browser_page, ladder):
    page, complaints = browser_page("dark")
    with served(ladder.workspace) as running:
        page.goto(f"{running.url}/serving?slo=200")
        shows(page, "at concurrency 16")
        # The last trace is the level that does not count: a cross, alone.
        point = page.locator(".js-plotly-plot .scatterlayer").first.locator(".point").last
        point.scroll_into_view_if_needed()
        point.wait_for(state="visible")
        box = point.bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_url(re.compile(r"/runs\?(.*&)?case=chat%2Fopenai%2Ffp8%2Fc256"))
        page.get_by_role("heading", name="3 runs").wait_for(state="visible")
        page.go_back()
        shows(page, "at concurrency 16")
        assert "/serving?" in page.url
        assert "slo=200" in page.url
        assert_fine(page, complaints)
