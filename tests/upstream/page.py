"""Prints the tables of docs/vllm_tests.md: python tests/upstream/page.py."""

from __future__ import annotations

from collections.abc import Iterator

from not_run import BY_REASON
from selection import FILES


def tables() -> str:
    """Return the tables, and how many tests there are."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    passes, computing = sum(row.passes for row in FILES), sum(row.on_operators for row in FILES)
    yield f"{len(FILES)} files, {passes} tests, of which {computing} run operators of torch_npu.\n"
    yield "| file | overlays | tests | on operators | left out |"
    yield "| --- | --- | --- | --- | --- |"
    for row in sorted(FILES, key=lambda row: row.path):
        overlays = ", ".join(f"`{name}`" for name in row.overlays)
        yield f"| `{row.path}` | {overlays} | {row.passes} | {row.on_operators} | {row.left_out} |"
    yield "\n### Not run\n"
    yield "A file that is not run"
    for reason, paths in BY_REASON.items():
        yield f"\n- {reason}:"
        yield "\n".join(f"  `{path}`{',' if path != paths[-1] else ''}" for path in paths)


if __name__ == "__main__":
    print(tables())
