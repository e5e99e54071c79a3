"""Every row of the table in docs/kinds_of_patch.md applies to the real vLLM, and is taken back."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import pytest
from blocks import read
from execute import REPOSITORY

from ascend_overlay import Overlay

PAGE = REPOSITORY / "docs" / "kinds_of_patch.md"
ROWS = re.findall(r"^\| (?P<hand>.+?) \| (?P<becomes>.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)[2:]
CALLS = [call.strip("`") for _, call in ROWS if call.startswith("`overlay.")]
KINDS = {"replace", "wrap", "subclass", "factory", "edit", "attribute", "add", "remove", "item", "entry", "field"}
KINDS |= {"member", "call", "model", "module_alias"}
TOPICS = ["FastAPI", "FlexibleArgumentParser", "msgspec", "pydantic", "environment variable", "torch operator"]
TOPICS += ["enumeration", "async function", "collective_rpc", "logits processor", "a line of", "from module import"]
TOPICS += ["append", "a call that registers", "MySubclass", "Class.method", "module.function"]

SCRIPT = """
import importlib, json, sys
import ascend_overlay, vllm
from ascend_overlay import Overlay, api, ref
from ascend_overlay.hooks import hookimpl

found = []
for number, call in enumerate(json.loads(sys.argv[1])):
    overlay = Overlay(f"row_{number}", reason="a row of the table")
    eval(call, {"overlay": overlay, "ref": ref})
    for patch in overlay.patches:
        if patch.module:
            importlib.import_module(patch.module)
    plugin = type("Plugin", (), {"ascend_overlay_overlays": hookimpl(lambda overlay=overlay: [overlay])})
    ascend_overlay.register(plugin, f"row_{number}")
    with ascend_overlay.enabled(only=[overlay.name], propagate=False):
        (entry,) = ascend_overlay.ledger().of(overlay.name)
        (item,) = api._engine._state.units[overlay.name].items
        effect = getattr(item.patch, "effect", lambda applied: None)(item.applied)
        found.append([call, entry.state, effect])
    found[-1].append(ascend_overlay.ledger().of(overlay.name)[-1].state)
print(json.dumps(found))
"""


def kind(call: str) -> str:
    """Return the method that a row calls."""
    tree = ast.parse(call, mode="eval").body
    assert isinstance(tree, ast.Call) and isinstance(tree.func, ast.Attribute)
    return tree.func.attr


def test_the_table_has_what_people_have_by_hand() -> None:
    assert len(CALLS) >= 24
    assert {kind(call) for call in CALLS} == KINDS
    text = "\n".join(hand for hand, _ in ROWS)
    assert [topic for topic in TOPICS if topic not in text] == []


@pytest.mark.vllm
def test_every_row_applies(site: Any, python: Any) -> None:
    blocks = [block for block in read(PAGE).blocks if "file" in block.options]
    site.write({block.options["file"]: block.text for block in blocks})
    # The row of a kind that this release lacks is run from the day on which it has it.
    there = [call for call in CALLS if hasattr(Overlay, kind(call))]
    (site.folder / "rows.py").write_text(SCRIPT, encoding="utf-8")
    done = python("rows.py", json.dumps(there), env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}, timeout=300)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == [[call, "applied", None, "reverted"] for call in there]
