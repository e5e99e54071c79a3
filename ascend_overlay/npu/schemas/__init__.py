"""The schemas of the operators that we have reference kernels for, in several releases of torch_npu.

One file a release, written from its wheel by ``python -m ascend_overlay.npu.schemas 2.13.0 ...``. A line is a schema,
after "meta" if torch_npu has a meta kernel for the operator, or the name alone of an operator that is not there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from packaging.version import Version

HOME = "2.13.0"
"""The release that the schemas of our reference kernels are those of."""

_FOLDER = Path(__file__).parent
_META = "meta "


@dataclass(frozen=True)
class Release:
    """What is recorded of a release.

    Attributes:
        version: the release.
        schemas: operator -> its schema; None where the release does not have it.
        meta: the operators with a meta kernel.
    """

    version: str
    schemas: Mapping[str, str | None]
    meta: frozenset[str]


@functools.cache
def releases() -> Mapping[str, Release]:
    """Return what is recorded, by release, the oldest first."""
    files = sorted(_FOLDER.glob("*.txt"), key=lambda path: Version(path.stem))
    return MappingProxyType({path.stem: _read(path) for path in files})


def text_of(release: Release) -> str:
    """Return the content of the file of a release."""
    lines = [f"# torch_npu {release.version}: written by python -m ascend_overlay.npu.schemas\n"]
    for name, schema in sorted(release.schemas.items()):
        lines.append(f"{_META if name in release.meta else ''}{schema or name}\n")
    return "".join(lines)


def path_of(version: str) -> Path:
    """Return the file of a release."""
    return _FOLDER / f"{version}.txt"


def _read(path: Path) -> Release:
    schemas: dict[str, str | None] = {}
    meta = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        schema = line.removeprefix(_META)
        name, bracket, _ = schema.partition("(")
        schemas[name] = schema if bracket else None
        if line.startswith(_META):
            meta.add(name)
    return Release(path.stem, MappingProxyType(schemas), frozenset(meta))
