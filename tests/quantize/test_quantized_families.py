"""Every class of language models that transformers and vLLM both have: quantized, served, compared, as the docs say.

`pytest -m grid tests/quantize/test_quantized_families.py` runs them, in one process as long as nothing fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from families_table import STATES, documented, page
from families_worker import AGAIN
from grid import asked_for

from ascend_overlay.commands.demo import in_process

PAGE = Path(__file__).parents[2] / "docs" / "quantized_families.md"
COMMAND = (sys.executable, "-c", "from ascend_overlay.commands.cli import main; main(prog_name='ascend-overlay')")
FAMILIES = documented(PAGE.read_text(encoding="utf-8"))
_CLOSE = 0.2
"""Nats. Two layers of random weights in int8 are nearer; a wrong scale, or parts in another order, are not."""


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of the families that the selected tests ask for."""
    folder = tmp_path_factory.mktemp("families")
    asked = sorted({params["name"] for params in asked_for(request) if "name" in params})
    spec = {"folder": str(folder), "families": asked, "scheme": "w8a8_dynamic"}
    (folder / "spec.json").write_text(json.dumps(spec))
    worker = Path(__file__).with_name("families_worker.py")
    for _ in asked:
        with (folder / "log.txt").open("ab") as log:
            status = subprocess.run(
                [*COMMAND, "run", "--only", "quantization", sys.executable, str(worker), str(folder / "spec.json")],
                env=in_process.environment(folder / "cache", overlaid=True),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if status not in (0, AGAIN):
            log_text = (folder / "log.txt").read_text(errors="replace")
            print(f"a process ended with the status {status}:", log_text[-2000:])
        if all((folder / f"{name}.json").exists() for name in asked):
            break
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in asked}


@pytest.mark.grid
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_as_the_docs_say(results: dict[str, Any], name: str) -> None:
    found = results[name]
    assert found["state"] == FAMILIES[name], found["reason"]
    if found["state"] == "served":
        assert 0 < found["rms"] < _CLOSE, "the same, or far from it"
        assert found["layers"] > 0


@pytest.mark.grid
def test_the_docs_have_every_family() -> None:
    import families

    assert set(FAMILIES) == set(families.shared())


def test_the_page_is_read_as_it_is_written() -> None:
    results = {
        f"Model{number}": {"state": state, "reason": "ValueError: a | b", "layers": 1, "keep": ["*.x"], "rms": 0.1}
        for number, state in enumerate(STATES)
    }
    assert documented(page(results)) == {name: found["state"] for name, found in results.items()}


def test_most_families_are_served() -> None:
    states = list(FAMILIES.values())
    assert states.count("served") > 40 and states.count("not served quantized") <= 2
