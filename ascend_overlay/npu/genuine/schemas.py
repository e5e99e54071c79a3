"""The schemas of any release of torch_npu, read from its files: nothing is imported, and its torch need not be here.

libtorch_npu.so defines its operators with their schemas as text, and the text is among its read-only data. The meta
kernels are registered by name in Python files.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from ascend_overlay.errors import ConfigError

_LIBRARY = "torch_npu/lib/libtorch_npu.so"
_META = re.compile(r"torch_npu/op_plugin/meta/\w+\.py")
_SCHEMA = re.compile(rb"(?<=\x00)[A-Za-z_]\w*(?:\.\w+)?\([\x20-\x7e]*\) -> [\x20-\x7e]+(?=\x00)")
_META_KERNEL = re.compile(r"""impl\(m,\s*["']([\w.]+)["']\)|register_fake\(\s*["']npu::([\w.]+)["']""")


def read(source: Path) -> tuple[dict[str, str], frozenset[str]]:
    """Return the schemas of torch.ops.npu by the names of the operators, and the operators with a meta kernel.

    Overloads other than the default one have names with a dot, "npu_one.out". The few operators that torch_npu defines
    in Python (super_kernel_scope_begin and the like) are left out.

    Args:
        source: a wheel, or the folder that holds the package torch_npu.

    Raises:
        ConfigError: there is no torch_npu in it.
    """
    if source.is_dir():
        files = [path.relative_to(source).as_posix() for path in source.glob("torch_npu/op_plugin/meta/*.py")]
        return _read(lambda name: (source / name).read_bytes(), files, source)
    try:
        with zipfile.ZipFile(source) as archive:
            return _read(archive.read, archive.namelist(), source)
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{str(source)!r} cannot be read as a wheel: {error}.") from error


def _read(content: Callable[[str], bytes], files: list[str], source: Path) -> tuple[dict[str, str], frozenset[str]]:
    try:
        library = content(_LIBRARY)
    except (KeyError, OSError) as error:
        raise ConfigError(f"there is no {_LIBRARY} in {str(source)!r}: it is not torch_npu.") from error
    schemas = {}
    for match in _SCHEMA.finditer(library):
        text = match[0].decode()
        name = text.partition("(")[0]
        schemas[name] = text
    meta = set()
    for file in filter(_META.fullmatch, files):
        for found in _META_KERNEL.finditer(content(file).decode()):
            meta.add(found[1] or found[2])
    return dict(sorted(schemas.items())), frozenset(meta & set(schemas))
