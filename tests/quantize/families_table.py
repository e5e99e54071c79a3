"""The page about families, from what the runs left: `python families_table.py FOLDER > quantized_families.md`."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

HEAD = """# Families that were quantized and served

Every class of language models that transformers and vLLM both have, in a configuration of two layers that is made by
rule (`tests/quantize/families.py`), with random weights: quantized by `ascend-overlay quantize --scheme w8a8_dynamic`,
served by vLLM 0.32 on a CPU with the overlay `quantization`, and compared with the model in float, served in the same
way. Where the quantizer did not know a matrix, it was called again with the `--keep` that its error proposes.
`pytest -m grid tests/quantize/test_quantized_families.py` runs all of them, and holds this page against what it finds.

It shows that names, shapes and packing fit, from one end to the other. It says nothing about accuracy: the weights are
random. The distance is that of the log probabilities of all tokens after each token of two prompts, root mean square.
"""
STATES = {
    "served": "served quantized",
    "not served quantized": "served in float, and refused or wrong quantized",
    "not quantized": "served in float, and not quantized by the command",
    "not served in float": "not served in float here, so nothing was to be compared",
    "not made": "no tiny model was made by the rule",
    "ended the process": "the process ended",
}


def documented(page: str) -> dict[str, str]:
    """Return the state of each family that the page has a row for."""
    known = {text.lower(): state for state, text in STATES.items()}
    found: dict[str, str] = {}
    state = ""
    for line in page.splitlines():
        if line.startswith("## "):
            state = known[line.removeprefix("## ").rpartition(" (")[0].lower()]
        elif row := re.match(r"\| `(\w+)` \|", line):
            found[row[1]] = state
    return found


def page(results: dict[str, dict[str, Any]]) -> str:
    """Return the page."""
    counts = Counter(found["state"] for found in results.values())
    lines = [HEAD]
    for state, text in STATES.items():
        if not counts[state]:
            continue
        lines += [f"## {text[0].upper()}{text[1:]} ({counts[state]} of {len(results)})", ""]
        served = state == "served"
        lines += ["| class | layers | besides | distance, nats |" if served else "| class | reason |"]
        lines += ["| --- | --- | --- | --- |" if served else "| --- | --- |"]
        for name, found in sorted(results.items()):
            if found["state"] != state:
                continue
            if served:
                keep = ", ".join(f"`--keep '{pattern}'`" for pattern in found.get("keep", ()))
                lines.append(f"| `{name}` | {found['layers']} | {keep} | {found['rms']:.3f} |")
            else:
                lines.append(f"| `{name}` | {_short(found['reason'])} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _short(reason: str) -> str:
    text = re.sub(r"/\S*/", "", reason).replace("|", "/").replace("<", "&lt;")
    return text if len(text) <= 160 else text[:157] + "..."


def main(folder: str) -> None:
    """Print the page."""
    files = {path.stem: path for path in Path(folder).glob("*.json") if path.stem != "spec"}
    print(page({name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items()}), end="")


if __name__ == "__main__":
    main(sys.argv[1])
