"""report.html of a run in a real browser: nothing sticks out on a phone, and axe finds nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.report import write_run_report
from tests.deploy.browsing import started_chromium
from tests.made_runs import at, made_run, put

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe (extra: test)")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with long words in it, which push a page apart if they can."""
    folder = made_run(tmp_path_factory.mktemp("run"), name="a" * 90)
    long = "Donaudampfschifffahrt" * 20
    put(at(folder, "ppo") / "answers.json", [{"prompt": long, "answers": {long: long}}])
    return write_run_report(folder)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with started_chromium() as browser:
        yield browser


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways_and_axe_finds_nothing(
    chromium: Any, report: Path, scheme: Any
) -> None:
    context = chromium.new_context(viewport={"width": 360, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(120_000)
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("requestfailed", lambda request: troubles.append(request.url))
    page.goto(report.as_uri())
    assert troubles == []
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)" if scheme == "light" else "rgb(15, 20, 25)"
    )
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    context.close()
