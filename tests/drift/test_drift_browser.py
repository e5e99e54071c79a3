"""The pages in a real browser: with keys alone, on a phone, light and dark, and without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import drift_browser
import pytest
from drift_browser import Browser, Page
from drift_kit import Answers

BINARY = drift_browser.path()
pytestmark = pytest.mark.skipif(
    BINARY is None, reason="there is no chromium on PATH; Debian and Ubuntu have one: apt-get install chromium"
)

CONTRAST = """
(() => {
  const linear = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const channel = (value) => linear(value / 255);
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const found = numbers(getComputedStyle(each).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
      if (found[3] !== 0) throw new Error("half a ground");
    }
    throw new Error("no ground");
  };
  document.querySelectorAll("details").forEach((each) => { each.open = true; });
  const low = [];
  let seen = 0;
  for (const each of document.querySelectorAll("body *")) {
    const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || ["SCRIPT", "STYLE"].includes(each.tagName)) continue;
    seen += 1;
    const [one, other] = [light(numbers(getComputedStyle(each).color)), light(ground(each))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) low.push(`${each.tagName}.${each.className} ${ratio.toFixed(2)}`);
  }
  return {seen, low: [...new Set(low)]};
})()
"""
"""Returns the elements with text of their own whose contrast is less than WCAG's level AA wants."""
FOCUSED = "(document.activeElement.id || document.activeElement.tagName + '.' + document.activeElement.className)"
SHOWN = "[...document.querySelectorAll('{}')].filter((each) => each.checkVisibility()).length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser."""
    assert BINARY is not None
    with drift_browser.running(BINARY, tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(params=["drift", "grid"])
def file(request: pytest.FixtureRequest, answers: Answers) -> Path:
    """Each of the two pages."""
    return answers.place.folder / f"{request.param}.html"


@pytest.fixture
def drift(answers: Answers) -> Path:
    """The page of drift."""
    return answers.place.folder / "drift.html"


@pytest.fixture
def grid(answers: Answers) -> Path:
    """The page of check."""
    return answers.place.folder / "grid.html"


def test_it_loads_alone_and_nothing_of_it_runs_that_is_not_ours(browser: Browser, file: Path) -> None:
    page = browser.page(file)
    asked = {event["request"]["url"] for event in page.events("Network.requestWillBeSent")}
    assert asked == {file.as_uri()}
    assert page.events("Log.entryAdded") == [] and page.events("Runtime.exceptionThrown") == []
    assert page.events("Page.javascriptDialogOpening") == []
    assert page.ask("document.images.length + document.querySelectorAll('b b, main i, main script').length") == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast(browser: Browser, file: Path, dark: bool) -> None:
    page = browser.page(file, dark=dark)
    ground = page.ask("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(18, 22, 28)" if dark else "rgb(255, 255, 255)")
    found = page.ask(CONTRAST)
    assert found["seen"] > 40 and found["low"] == []


def test_a_phone_scrolls_no_sideways(browser: Browser, file: Path) -> None:
    page = browser.page(file, width=320)
    page.ask("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.ask("document.documentElement.scrollWidth") == 320
    # What is too wide scrolls in its own box, which the keyboard reaches.
    boxes = page.ask(
        "[...document.querySelectorAll('pre, .box')].filter((each) => each.scrollWidth > each.clientWidth)"
        ".map((each) => [getComputedStyle(each).overflowX, each.tabIndex, each.getAttribute('role')])"
    )
    assert boxes and all(box == ["auto", 0, "region"] for box in boxes)


def tab_to(page: Page, wanted: str) -> int:
    """Press Tab until something has the focus; return how often."""
    for count in range(1, 60):
        page.press("Tab")
        if page.ask(FOCUSED) == wanted:
            return count
    raise AssertionError(f"Tab does not reach {wanted}")


def test_the_keyboard_reaches_everything_and_shows_where_it_is(browser: Browser, file: Path) -> None:
    page = browser.page(file)
    seen = []
    for _ in range(12):
        page.press("Tab")
        seen.append(page.ask(FOCUSED))
        assert page.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid", seen
        assert page.ask("document.activeElement.getBoundingClientRect().bottom") > 0, seen
    assert seen[:3] == ["A.skip", "show-all", "filter"]
    assert ("SUMMARY." if file.stem == "drift" else "A.badge breaks") in seen


def test_the_skip_link_leads_past_the_switch(browser: Browser, file: Path) -> None:
    page = browser.page(file)
    page.press("Tab")
    page.press("Enter")
    assert page.ask(FOCUSED) == "main"


def test_the_switch_shows_one_group(browser: Browser, drift: Path) -> None:
    page = browser.page(drift)
    assert page.ask(SHOWN.format("section.group")) == 4
    tab_to(page, "show-all")
    for group in ("drop", "adapt", "review", "nothing"):
        page.press("ArrowRight")
        assert page.ask(FOCUSED) == f"show-{group}"
        assert page.ask(SHOWN.format("section.group")) == 1
        assert page.ask(SHOWN.format(f"section.group[data-group={group}]")) == 1


def test_the_filter(browser: Browser, drift: Path) -> None:
    page = browser.page(drift)
    tab_to(page, "filter")
    page.write("OLD_NAME mine")
    assert page.ask(SHOWN.format(".item")) == 1
    assert page.ask("document.getElementById('count').textContent").startswith("1 of ")
    # What is found in the group that is folded is unfolded.
    page.ask("document.getElementById('filter').value = ''")
    page.write("laid_out")
    assert page.ask(SHOWN.format(".item")) == 1
    page.press("Enter")
    assert page.ask("location.search") == ""


def test_a_diff_is_unfolded_by_a_key(browser: Browser, drift: Path) -> None:
    page = browser.page(drift)
    assert page.ask(SHOWN.format("pre.diff")) == 0
    tab_to(page, "SUMMARY.")
    page.press("Enter")
    assert page.ask(SHOWN.format("pre.diff")) == 1
    page.press("Tab")
    assert page.ask(FOCUSED) == "PRE.diff"


def test_without_javascript(browser: Browser, drift: Path) -> None:
    page = browser.page(drift, script=False)
    # A filter that would do nothing is not shown; the switch and the diffs work.
    assert page.ask(SHOWN.format("#search")) == 0 and page.ask(SHOWN.format("section.group")) == 4
    tab_to(page, "show-all")
    page.press("ArrowRight")
    assert page.ask(SHOWN.format("section.group")) == 1
    tab_to(page, "SUMMARY.")
    page.press("Enter")
    assert page.ask(SHOWN.format("pre.diff")) == 1


def test_a_cell_leads_to_what_is_behind_it(browser: Browser, grid: Path) -> None:
    page = browser.page(grid)
    tab_to(page, "A.badge breaks")
    page.press("Enter")
    heading = page.ask("document.querySelector(':target').textContent")
    assert "mine on 0.33.0" in heading
    top = page.ask("document.querySelector(':target').getBoundingClientRect().top")
    assert 0 <= top < 800


def test_the_first_column_stays(browser: Browser, grid: Path) -> None:
    page = browser.page(grid, width=320)
    page.ask("document.querySelector('.box').scrollLeft = 200")
    assert page.ask("document.querySelector('.box').scrollLeft") > 50
    left = "document.querySelector('{}').getBoundingClientRect().left"
    assert abs(page.ask(left.format("tbody th")) - page.ask(left.format(".box"))) < 3


def test_the_switch_and_the_filter_of_the_grid(browser: Browser, grid: Path) -> None:
    page = browser.page(grid)
    rows = page.ask(SHOWN.format("tr.row"))
    tab_to(page, "show-all")
    page.press("ArrowRight")
    assert 0 < page.ask(SHOWN.format("tr.row")) < rows
    page.ask("document.getElementById('show-all').click()")
    tab_to(page, "filter")
    page.write("leaner")
    assert page.ask(SHOWN.format("tr.row")) == 1
