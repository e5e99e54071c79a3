"""Samples for judging `ascend-overlay scan` by hand: what it found, and what another search for lines finds besides.

    python benchmarks/scan_sample.py PACKAGE [--count 40] [--seed 40]

First, lines that were found, drawn at random, to be read for whether they patch vLLM, and what is said to be patched.
Then the lines that look like a patch to regular expressions and were not found: all of those that begin with a name
that the file imports from vLLM, and a sample of the others.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator

from ascend_overlay.scans.package import Package, opened
from ascend_overlay.scans.reading import read

_FROM = re.compile(r"^\s*from vllm(?:\.[\w.]*)? import (\([^)]*\)|[^\n]*)", re.MULTILINE)
_IMPORT = re.compile(r"^\s*import (vllm(?:\.[\w.]+)?)(?: as (\w+))?", re.MULTILINE)
_BY_NAME = (
    re.compile(r"\s*([A-Za-z_]\w*)(?:\.\w+|\[[^\]]*\])+\s*(?::[^=]+)?[-+|]?=(?!=)"),
    re.compile(r".*\b(?:setattr|delattr)\(\s*([A-Za-z_]\w*)"),
    re.compile(r".*?\b([A-Za-z_]\w*)(?:\.\w+)*\.?register\w*\("),
    re.compile(r".*?\b([A-Za-z_]\w*)[\w.]*\.(?:append|update|pop|insert|extend|clear|setdefault|remove)\("),
    re.compile(r"\s*del ([A-Za-z_]\w*)[.\[]"),
)
_SYS_MODULES = re.compile(r"sys\.modules.*\"vllm[.\"]")
_OTHERS = re.compile(r"(?:mock\.)?patch(?:\.object|\.dict)?\(|wrap_function_wrapper|extend_enum|write_text|Patch\[")


def main() -> None:
    """Print the samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=40)
    options = parser.parse_args()
    package = opened(options.package)
    reading = read(package)
    draw = random.Random(options.seed)
    texts = {package.file(name): package.text(name).splitlines() for name in package.names}
    found = reading.findings
    print(f"{len(found)} found; {min(options.count, len(found))} of them:")
    for each in draw.sample(found, min(options.count, len(found))):
        line = texts[each.place.file][each.place.line - 1].strip()
        print(f"  {each.place} {each.kind} {'.'.join(each.target.parts)} {each.key} <<< {line}")
    lines = {(place.file, place.line) for each in found for place in (each.place, each.via) if place is not None}
    lines |= {(place.file, place.line) for _, place in reading.restores}
    by_name, others = [], []
    for file, number, text, certain in _searched(package):
        # A statement may begin some lines above.
        near = range(number - 3, number + 4) if certain else (number,)
        (by_name if certain else others).append((f"{file}:{number} {text}", any((file, at) in lines for at in near)))
    missed = [text for text, seen in by_name if not seen]
    print(f"{len(by_name)} lines begin with a name of vLLM; {len(missed)} were not found:")
    print("\n".join(f"  {text}" for text in missed))
    rest = [text for text, seen in others if not seen]
    count = min(options.count, len(rest))
    print(f"{len(others)} other lines look like it; {len(rest)} were not found; {count} of them:")
    print("\n".join(f"  {text}" for text in draw.sample(rest, count)))


def _searched(package: Package) -> Iterator[tuple[str, int, str, bool]]:
    """Yield the lines that look like a patch, and whether they begin with a name that the file imports from vLLM."""
    for module in package.names:
        text = package.text(module)
        if "vllm" not in text:
            continue
        names = {each[2] or "vllm" for each in _IMPORT.finditer(text)}
        for each in _FROM.finditer(text):
            parts = (re.sub(r"#.*", "", part).split() for part in each[1].strip("()").split(","))
            names |= {words[-1] for words in parts if words}
        for number, line in enumerate(text.splitlines(), start=1):
            if line.lstrip().startswith("#"):
                continue
            owners = [match[1] for pattern in _BY_NAME if (match := pattern.match(line))]
            certain = not names.isdisjoint(owners) or (
                "sys.modules" in line and re.search('"vllm[."]', line) is not None
            )
            assigned = bool(_BY_NAME[0].match(line) or _BY_NAME[1].match(line)) and owners[0] not in ("self", "cls")
            if certain or assigned or _OTHERS.search(line):
                yield package.file(module), number, line.strip()[:140], certain


if __name__ == "__main__":
    main()
