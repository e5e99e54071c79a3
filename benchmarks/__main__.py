"""`python -m benchmarks [--quick] [--models MODEL,...] [--json FILE] [NAME...]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import calls, check, decode, engine, idle, imports, launches, rebinding
from benchmarks.measure import Result

BENCHMARKS = {module.NAME: module for module in (idle, imports, calls, rebinding, check, engine, decode, launches)}


def main() -> int:
    """Run the benchmarks that were asked for and print a table; 1 where a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What ascend_overlay costs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: minutes in place of more than an hour")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument(
        "--models", metavar="MODEL,...", help=f"for decode: of {', '.join(decode.MODELS)} (default: all)"
    )
    parser.add_argument(
        "--vllm-ascend",
        type=Path,
        metavar="FOLDER",
        help="for launches: an environment with vllm-ascend, as examples/vllm_ascend_on_a_laptop makes it",
    )
    arguments = parser.parse_args()
    if arguments.vllm_ascend and not (arguments.vllm_ascend / "bin" / "python").exists():
        parser.error(
            f"there is no environment in {str(arguments.vllm_ascend)!r}; make one as "
            f"examples/vllm_ascend_on_a_laptop/README.md has it"
        )
    if unknown := [name for name in arguments.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(BENCHMARKS)}")
    models = arguments.models.split(",") if arguments.models else decode.MODELS
    if unknown := [name for name in models if name not in decode.MODELS]:
        parser.error(f"there is no model {unknown[0]!r}; there are: {', '.join(decode.MODELS)}")
    results: list[Result] = []
    for name in arguments.names or BENCHMARKS:
        print(f"{name}: {BENCHMARKS[name].__doc__.splitlines()[0]}", flush=True)  # type: ignore[union-attr]
        options: dict[str, Any] = {decode.NAME: {"models": models}}.get(name, {})
        if name == launches.NAME:
            options = {"vllm_ascend": arguments.vllm_ascend}
        for result in BENCHMARKS[name].run(quick=arguments.quick, **options):
            results.append(result)
            print(f"  {line(result)}", flush=True)
    if arguments.json:
        record = {"machine": machine(), "quick": arguments.quick, "results": [_plain(result) for result in results]}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return int(any(result.verdict == "missed" for result in results))


def line(result: Result) -> str:
    """Return one result as a line of text."""
    digits = 0 if result.unit in ("modules", "launches", "waits") else 3
    figures = f"{result.value:.{digits}f} {result.unit}"
    if result.runs > 1:
        figures += f" ({result.low:.{digits}f} to {result.high:.{digits}f}, {result.runs} samples)"
    goal = "" if result.goal is None else f"; goal {result.goal:g}: {result.verdict}"
    return f"{result.what}: {figures}{goal}"


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    from ascend_overlay.versions import installed

    return {
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "architecture": platform.machine(),
        **{name: installed(name) for name in ("vllm", "torch", "wrapt")},
    }


def _plain(result: Result) -> dict[str, Any]:
    return {**asdict(result), "verdict": result.verdict}


if __name__ == "__main__":
    sys.exit(main())
