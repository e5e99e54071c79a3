"""`ascend-overlay scan`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ascend_overlay.commands.json_output import Write
from ascend_overlay.commands.scan import report
from ascend_overlay.commands.scan.holding import passing
from ascend_overlay.commands.watching import Onlooker
from ascend_overlay.errors import ConfigError
from ascend_overlay.releases import Release, find
from ascend_overlay.scans.judging import Verdict, judge
from ascend_overlay.scans.package import Package, opened
from ascend_overlay.scans.reading import read
from ascend_overlay.scans.releases import Judged
from ascend_overlay.scans.writing import changes_of


def run(
    wanted: str,
    releases: Sequence[str],
    *,
    only_wrong: bool,
    into: Path | None,
    write: Write | None,
    console: Console,
) -> int:
    """Print the patches of a package, as data by `write` where that is given; return 1 where one is wrong.

    Where none is, and a module of the package that names vLLM was not read, 2 is returned.

    Raises:
        OverlayError: the package or a release is not there, or the plugin cannot be written.
    """
    see(into)
    package, found, troubles, judged = scan(wanted, releases)
    labels = [each.label for each in judged]
    if into is not None:
        save(into, passing(changes_of(found, judged), f"ascend-overlay scan {wanted}", package, judged))
    if write is not None:
        write(report.to_dict(wanted, labels, found, troubles))
    else:
        report.show(console, wanted, labels, found, troubles, only_wrong=only_wrong)
        if into is not None:
            console.print(f"Written: {escape(str(into))}", soft_wrap=True)
    if any(each.wrong for each in found):
        return 1
    return 2 if any(package.speaks_of(name, "vllm") for name in package.lost) else 0


def scan(wanted: str, releases: Sequence[str]) -> tuple[Package, list[Verdict], list[str], list[Release]]:
    """Return a package, the verdicts on its patches, what was not read, and the releases that they hold for.

    Raises:
        OverlayError: there is no such package or release.
    """
    package = opened(wanted)
    with Onlooker(Console(stderr=True)) as watcher:
        known = find(list(releases) or ["installed"], watcher=watcher)
        reading = read(package, step=lambda done, total: watcher.step(f"modules of {wanted}", done, total))
    asked = [Judged(each) for each in known]
    found = judge(package, reading, asked)
    unread = (f"vLLM {each.release.label}: {said}." for each in asked for said in each.unread())
    return package, found, [*reading.troubles, *unread], known


def see(path: Path | None) -> None:
    """See that a plugin module can be written to `path`, before anything takes long; None is none.

    Raises:
        ConfigError: it cannot.
    """
    if path is None:
        return
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ConfigError(f"--write takes the name of a module, such as my_overlays.py, and got {str(path)!r}.")
    if os.path.lexists(path):
        raise _there(path)
    if not path.parent.is_dir():
        raise ConfigError(f"--write {str(path)!r} is in a folder that does not exist; make it, or name another file.")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--write {str(path)!r} is in a folder that you may not write to; name another file.")


def save(path: Path, text: str) -> None:
    """Write a plugin module, which must not be there yet, whole or not at all.

    Raises:
        ConfigError: it is there, or cannot be written.
    """
    see(path)
    try:
        with path.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except BaseException:
                path.unlink(missing_ok=True)
                raise
    except FileExistsError:
        raise _there(path) from None
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be written: {error.strerror}.") from error


def _there(path: Path) -> ConfigError:
    return ConfigError(f"{str(path)!r} is there already: name another file, or remove it.")
