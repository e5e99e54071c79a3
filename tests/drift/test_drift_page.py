"""The pages, as text: nothing is fetched, all is escaped, and the same input gives the same bytes."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from drift_kit import Answers

from ascend_overlay.commands.check import html_page
from ascend_overlay.commands.check.items import By, Item
from ascend_overlay.commands.check.locked import Drifted
from ascend_overlay.commands.html import rendering

_VOID = ("meta", "input", "br")


class Document(HTMLParser):
    """The elements of a page, and whether each is closed by its own end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, (tag, self.getpos())


@pytest.fixture(scope="module", params=["drift", "grid"])
def page(request: pytest.FixtureRequest, answers: Answers) -> str:
    """Each of the two pages."""
    return str(getattr(answers, request.param))


def test_it_is_well_formed(page: str) -> None:
    document = Document(page)
    assert document.open == []
    names = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(names) == len(set(names))
    for _, attributes in document.elements:
        for key in ("for", "aria-labelledby"):
            assert attributes.get(key) in (None, *names)
        link = attributes.get("href")
        assert link is None or link.removeprefix("#") in names


def test_nothing_is_fetched(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bsrc=(?!x onerror)", page.replace("&lt;img src=x", ""))
    assert {tag for tag, _ in Document(page).elements}.isdisjoint({"link", "img", "iframe", "object", "base"})


def test_a_browser_takes_no_other_style_and_script(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None and policy[1].startswith("default-src 'none';")
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    assert not [attributes for _, attributes in Document(page).elements if any(a.startswith("on") for a in attributes)]
    assert not [attributes for _, attributes in Document(page).elements if "style" in attributes]


def test_what_is_hostile_is_text(page: str) -> None:
    assert "&lt;script&gt;alert(" in page and page.count("<script") == 1
    assert "<b>reason" not in page and "&lt;b&gt;reason&lt;/b&gt; &amp; " in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]", page)
    assert "\\x1b[31mred \\u202eturned" in page


def test_every_text_of_an_item_is_escaped() -> None:
    evil = "<i>\x1b[31m\u202e&\"'"
    item = Item(
        "adapt",
        evil,
        evil,
        evil,
        was=evil,
        now=evil + "2",
        diff=f"--- {evil}\n+{evil}",
        by=(By(evil, evil, (evil,), (evil,)),),
    )
    cell = html_page.Cell(evil, evil, evil, "fits", evil, (item,), 1, (Drifted(evil, evil),))
    for page in (
        rendering.page("drift.html.j2", package=evil, old=evil, new=evil, groups=[("adapt", evil, [item])]),
        html_page.grid([html_page.Release(evil, evil, (evil,), (cell,))], evil),
    ):
        assert "<i>" not in page and "\x1b" not in page and "\u202e" not in page
        assert page.count("&lt;i&gt;") >= 12
        Document(page)


def test_the_same_input_gives_the_same_bytes(answers: Answers) -> None:
    assert answers.drift == answers.again


def test_the_page_tells_no_place_of_the_machine(answers: Answers) -> None:
    assert str(answers.place.folder) not in answers.drift + answers.grid


def test_landmarks_and_headings(page: str) -> None:
    document = Document(page)
    tags = [tag for tag, _ in document.elements]
    for tag in ("header", "nav", "main", "footer", "h1"):
        assert tags.count(tag) == 1, tag
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert ("html", {"lang": "en"}) in document.elements
    # The first thing that Tab reaches leads past the rest.
    first = next(attributes for tag, attributes in document.elements if tag == "a")
    assert first == {"class": "skip", "href": "#main"}


def test_a_long_diff_says_what_is_left_out() -> None:
    lines = list(rendering.lines("\n".join(f"+{number}" for number in range(1000))))
    assert len(lines) == 401 and lines[-1] == ("at", "... and 600 lines more, which --json has")
    # Only its first two lines name files.
    assert [kind for kind, _ in rendering.lines("--- a\n+++ b\n@@ -1 +1 @@\n--- gone\n+++ new\n same")] == [
        "file",
        "file",
        "at",
        "minus",
        "plus",
        "",
    ]
