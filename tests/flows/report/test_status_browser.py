"""The status page in a real browser: on a phone and on a desk, light and dark, with no request and nothing cut off."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from flows.report.status_page import page
from tests.flows.report.test_status import NOW, many, told

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desk"])
def test_page_is_whole_in_a_browser(width, scheme, tmp_path):
    """It asks for nothing, raises nothing, is no wider than the screen, and its words can be told from what is behind them."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM.exists(), "make test-long installs it"
    file = tmp_path / "status.html"
    file.write_text(page([many(), told()], destination="duckdb:posthog.duckdb", made_at=NOW + timedelta(minutes=3)))
    asked: list[str] = []
    errors: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        shown.on("request", lambda request: asked.append(request.url))
        shown.on("pageerror", lambda error: errors.append(str(error)))
        shown.on("console", lambda message: errors.append(message.text))
        shown.goto(file.as_uri())
        shown.screenshot(path=tmp_path / "page.png", full_page=True)
        wide = shown.evaluate("document.documentElement.scrollWidth")
        contrasts = shown.evaluate(CONTRAST)
        days = shown.locator("figure rect").count()
        browser.close()

    assert asked == [file.as_uri()]
    assert errors == []
    assert wide <= width
    assert days == len(many().days)
    assert {words: ratio for words, ratio in contrasts.items() if ratio < 4.5} == {}


# WCAG's contrast of every text in HTML with the first opaque ground behind it; 4.5 is what level AA asks of small text.
CONTRAST = """
() => {
  const light = rgb => { const [r, g, b] = rgb.map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const ground = node => { for (; node; node = node.parentElement) {
    const c = numbers(getComputedStyle(node).backgroundColor); if (c.length < 4 || c[3] > 0) return c.slice(0, 3); }
    return [255, 255, 255]; };
  const found = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest('svg')) continue;
    const pair = [light(numbers(getComputedStyle(node).color).slice(0, 3)), light(ground(node))];
    found[walker.currentNode.data.trim().slice(0, 30)] = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  }
  return found;
}
"""
