"""Pages of what was found, from templates that escape all that is put into them."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ascend_overlay.errors import printable

_HERE = Path(__file__).parent
_LONGEST = 400
"""Lines of one diff that a page shows."""


def page(template: str, **values: Any) -> str:
    """Return a page.

    Args:
        template: the name of a template in this folder that extends base.html.j2.
        values: what it is given: `package`, `groups` (name, about what, and what is in it), and what it takes itself.
    """
    style, script = (Markup((_HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    return (
        _environment()
        .get_template(template)
        .render(style=style, script=script, style_hash=_hash(style), script_hash=_hash(script), **values)
    )


def _hash(text: str) -> str:
    """Return what a policy calls a text by, so that a browser takes this one and no other."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
        keep_trailing_newline=True,
    )
    environment.filters["lines"] = lines
    return environment


def _visible(value: Any) -> Any:
    """Return a text with letters that a reader would not see, or that turn others around, as Python writes them."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def lines(diff: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a diff, each with what it is."""
    every = diff.split("\n")
    for number, line in enumerate(every[:_LONGEST]):
        if line.startswith("@@"):
            yield "at", line
        elif number < 2 and line.startswith(("---", "+++")):
            yield "file", line
        else:
            yield {"+": "plus", "-": "minus"}.get(line[:1], ""), line
    if len(every) > _LONGEST:
        yield "at", f"... and {len(every) - _LONGEST} lines more, which --json has"
