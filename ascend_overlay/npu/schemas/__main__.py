"""Record the schemas of releases of torch_npu: python -m ascend_overlay.npu.schemas [RELEASE | WHEEL]...

Without arguments, the releases that are recorded already are recorded again, from wheels that pip downloads. To be run
when a reference kernel is added, from an editable installation.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from packaging.utils import parse_wheel_filename

from ascend_overlay.errors import OverlayError
from ascend_overlay.npu import schemas
from ascend_overlay.npu.genuine import schemas as genuine
from ascend_overlay.npu.genuine import source
from ascend_overlay.npu.reference import KERNELS


def record(version: str, place: Path) -> schemas.Release:
    """Return what is to be recorded of a release: the operators of all reference kernels.

    Args:
        version: the release.
        place: its wheel, or the folder that the wheel is unpacked in.
    """
    found, meta = genuine.read(place)
    names = sorted(kernel.name for kernel in KERNELS)
    return schemas.Release(version, {name: found.get(name) for name in names}, meta & frozenset(names))


def main(wanted: list[str]) -> int:
    """Write the files."""
    for name in wanted or list(schemas.releases()):
        with tempfile.TemporaryDirectory() as scratch:
            wheel = Path(name) if name.endswith(".whl") else source.download(name, Path(scratch))
            release = record(str(parse_wheel_filename(wheel.name)[1]), wheel)
        path = schemas.path_of(release.version)
        path.write_text(schemas.text_of(release), encoding="utf-8")
        there = sum(schema is not None for schema in release.schemas.values())
        print(f"{path}: {there} of {len(release.schemas)} operators, {len(release.meta)} with a meta kernel")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OverlayError as error:
        sys.exit(f"Error: {error}")
