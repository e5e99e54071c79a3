"""The files of a new plugin, made of the templates beside this file and written as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import string
import tempfile
from importlib import resources
from pathlib import Path

from ascend_overlay import __version__
from ascend_overlay.commands.new import locking
from ascend_overlay.errors import ConfigError
from ascend_overlay.lockfile import NAME

VLLM = ">=0.27.1,<0.34"
"""The releases in which what the templates patch is alike."""
CPU = "0.32.0"
"""The vLLM that the workflow installs, the newest that is built for CPUs; `template/lock.txt` is of it."""

_TEMPLATES = {
    "pyproject.toml": "pyproject.txt",
    "README.md": "readme.txt",
    ".gitignore": "gitignore.txt",
    ".github/workflows/tests.yml": "workflow.txt",
    NAME: "lock.txt",
    "src/$name/__init__.py": "init.txt",
    "src/$name/plugin.py": "plugin.txt",
    "src/$name/queues.py": "queues.txt",
    "src/$name/py.typed": "typed.txt",
    "tests/test_$name.py": "tests.txt",
}


def texts(name: str) -> dict[str, str]:
    """Return the files of a plugin called `name`: path in its folder -> text."""
    values = {
        "name": name,
        "distribution": name.replace("_", "-"),
        "vllm": VLLM,
        "cpu": CPU,
        "ours": __version__,
    }
    folder = resources.files(__package__) / "template"
    return {
        string.Template(path).substitute(values): string.Template(
            (folder / template).read_text(encoding="utf-8")
        ).substitute(values)
        for path, template in _TEMPLATES.items()
    }


def write(name: str, folder: Path) -> list[str]:
    """Write the files of a plugin called `name` to `folder`, which is not there yet or empty; return their paths.

    Raises:
        ConfigError: `folder` has something in it, or cannot be written.
    """
    _see_folder(folder)
    found = texts(name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        try:
            for path, text in found.items():
                target = scratch / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
            locking.add_installed(name, scratch)
            scratch.chmod(0o777 & ~_umask())
            # Onto an empty folder, too; onto one in which something appeared meanwhile, never.
            os.rename(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise ConfigError(
            f"{str(folder)!r} cannot be written ({error.strerror or error}), and nothing of it is left; choose another "
            f"folder with --into."
        ) from error
    return sorted(found)


def _see_folder(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ConfigError(f"{str(folder)!r} is there, and is no folder; choose another with --into.")
    try:
        some = next(folder.iterdir(), None) if folder.is_dir() else None
    except OSError as error:
        raise ConfigError(
            f"{str(folder)!r} cannot be looked into ({error.strerror}); choose another with --into."
        ) from None
    if some is not None:
        raise ConfigError(
            f"{str(folder)!r} has {some.name!r} in it; choose an empty folder, or a new one, with --into."
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
