"""overlay.lock: what was there, release by release, when people last looked at what their overlays rest on.

A TOML file to be kept under version control: sorted, a line for each thing, the same for the same contents.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from ascend_overlay.errors import ConfigError, LockError

NAME = "overlay.lock"
"""What the file is called."""
FORMAT = 1
_HEADING = "What overlays rest on, release by release. `ascend-overlay lock` writes this file; keep it with the code."
_AGAIN = "write it anew with `ascend-overlay lock`"

ABSENT, UNKNOWN, MODULE, ATTRIBUTE = "absent", "unknown", "module", "attribute"
"""Kinds of what is not there, of what its source does not tell for certain, and of a module and of what the objects
of a class have, of which that it is there is all that counts."""


@dataclass(frozen=True)
class Locked:
    """What a name was in a release.

    Attributes:
        fingerprint: of its source, without comments, docstrings, layout and annotations; "" where there is none.
        signature: how a function is called, or a class by its own `__init__`, without annotations; "" for others.
        kind: "function", "method", "staticmethod", "classmethod", "property", "cached_property", "decorated", "class",
            "value", "import", MODULE, ATTRIBUTE, ABSENT or UNKNOWN.
        by: the overlays that lean on it; none for what is a target.
    """

    fingerprint: str
    signature: str = ""
    kind: str = "value"
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class LockedRelease:
    """What was there in a release.

    Attributes:
        targets: the targets of patches.
        leans_on: what their implementations take from the release, each with the overlays that do.
    """

    targets: Mapping[str, Locked] = field(default_factory=dict)
    leans_on: Mapping[str, Locked] = field(default_factory=dict)


@dataclass(frozen=True)
class Lock:
    """The contents of a lock file.

    Attributes:
        releases: by the number of the release of vLLM.
        plugins: distribution -> version of the plugins whose overlays these are.
    """

    releases: Mapping[str, LockedRelease] = field(default_factory=dict)
    plugins: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Lock:
        """Read a lock file.

        Raises:
            LockError: it cannot be read, or is not what this release writes.
        """
        try:
            _see_file(Path(path))
            data = Path(path).read_bytes()
        except FileNotFoundError:
            raise LockError(f"there is no lock {os.fspath(path)!r}: correct the path, or {_AGAIN}.") from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise LockError(f"the lock {os.fspath(path)!r} cannot be read ({why}): see to the file.") from error
        try:
            return _lock(_parsed(data))
        except _Odd as odd:
            raise LockError(f"the lock {os.fspath(path)!r} {odd}: correct it, or {_AGAIN}.") from None

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the lock, whole or not at all.

        Raises:
            LockError: the file cannot be written.
        """
        target = Path(path)
        try:
            _see_file(target)
            with _replacing(target) as file:
                file.write_text(self.text(), encoding="utf-8")
        except OSError as error:
            raise LockError(
                f"the lock {os.fspath(path)!r} cannot be written ({error.strerror or error}): see to its folder, or "
                f"name another path."
            ) from error

    def text(self) -> str:
        """Return what `write` writes."""
        import tomlkit

        document = tomlkit.document()
        document.add(tomlkit.comment(_HEADING))
        document.add("format", tomlkit.item(FORMAT))
        document.add("plugins", tomlkit.item(dict(sorted(self.plugins.items()))))
        releases = tomlkit.table(is_super_table=True)
        for number in sorted(self.releases, key=_version):
            release = self.releases[number]
            table = tomlkit.table(is_super_table=True)
            for name, things in (("targets", release.targets), ("leans_on", release.leans_on)):
                rows = tomlkit.table()
                for key in sorted(things):
                    rows.add(key, _row(things[key]))
                table.add(name, rows)
            releases.add(number, table)
        document.add("releases", releases)
        return tomlkit.dumps(document)

    def of(self, version: str) -> tuple[str, LockedRelease] | None:
        """Return what is locked of a release, or of the nearest before it, with the number of that; None: of neither.

        A local label does not matter: 0.32.0+cpu is 0.32.0.
        """
        try:
            wanted = Version(Version(version).public)
        except InvalidVersion:
            return None
        earlier = [number for number in self.releases if _version(number) <= wanted]
        nearest = max(earlier, key=_version, default=None)
        return None if nearest is None else (nearest, self.releases[nearest])

    @property
    def newest(self) -> str | None:
        """The number of the newest release."""
        return max(self.releases, key=_version, default=None)

    def with_release(self, number: str, release: LockedRelease) -> Lock:
        """Return a lock that has `release` as well, in place of what it had of that number.

        Raises:
            ConfigError: it is no number.
        """
        number = public(number)
        kept = {known: what for known, what in self.releases.items() if public(known) != number}
        return replace(self, releases={**kept, number: release})


class _Odd(Exception):
    """What a lock file is that it may not be, as a clause."""


def _parsed(data: bytes) -> Mapping[str, Any]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Odd(f"is no text ({error.reason} at byte {error.start})") from None
    parse, error_class = _parser()
    try:
        return parse(text)
    except error_class as error:
        raise _Odd(f"is no TOML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise _Odd("is no TOML that can be read (it is nested too deep)") from None


def _parser() -> tuple[Callable[[str], Mapping[str, Any]], type[Exception]]:
    # The standard library's is many times as fast; Python 3.10 has none.
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib.loads, ValueError
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    def unwrapped(text: str) -> Mapping[str, Any]:
        return tomlkit.parse(text).unwrap()

    return unwrapped, TOMLKitError


def _lock(data: Mapping[str, Any]) -> Lock:
    number = data.get("format")
    if type(number) is not int:
        raise _Odd("says in no way that is known which format it has")
    if number != FORMAT:
        raise _Odd(f"has the format {number}, and this ascend_overlay reads {FORMAT}")
    _see_keys(data, {"format", "plugins", "releases"}, "")
    plugins = _table(data, "plugins", "")
    for name, version in plugins.items():
        if not isinstance(version, str):
            raise _Odd(f"has {version!r} as the version of the plugin {name!r}")
    releases = {}
    for label, table in _table(data, "releases", "").items():
        try:
            Version(label)
        except InvalidVersion:
            raise _Odd(f"has a release {label!r}, which is no number of a release") from None
        where = f"releases.{label}"
        if not isinstance(table, dict):
            raise _Odd(f"has something else than a table at {where}")
        _see_keys(table, {"targets", "leans_on"}, where)
        things = {
            name: {key: _locked(key, row, f"{where}.{name}") for key, row in _table(table, name, where).items()}
            for name in ("targets", "leans_on")
        }
        releases[label] = LockedRelease(things["targets"], things["leans_on"])
    return Lock(releases, dict(plugins))


def _locked(key: str, row: Any, where: str) -> Locked:
    if not isinstance(row, dict):
        raise _Odd(f"has {row!r} for {key!r} in {where}, where a table is due")
    _see_keys(row, {"kind", "fingerprint", "signature", "by"}, f"{where}, {key!r}")
    texts = [row.get("fingerprint"), row.get("signature", ""), row.get("kind")]
    by = row.get("by", [])
    if not all(isinstance(text, str) for text in texts) or not isinstance(by, list):
        raise _Odd(f"lacks the kind or the fingerprint of {key!r} in {where}, or has something else than text there")
    if not all(isinstance(name, str) for name in by):
        raise _Odd(f"has something else than names of overlays for {key!r} in {where}")
    return Locked(row["fingerprint"], row.get("signature", ""), row["kind"], tuple(by))


def _table(data: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    found = data.get(name, {})
    if not isinstance(found, dict):
        raise _Odd(f"has something else than a table at {f'{where}.{name}' if where else name}")
    return found


def _see_keys(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    if strange := sorted(set(table) - set(known)):
        raise _Odd(f"has {strange[0]!r}{f' in {where}' if where else ''}, which means nothing")


def _row(thing: Locked) -> Any:
    import tomlkit

    row = tomlkit.inline_table()
    row.update({"kind": thing.kind, "fingerprint": thing.fingerprint})
    if thing.signature:
        row.add("signature", thing.signature)
    if thing.by:
        row.add("by", sorted(thing.by))
    return row


def public(number: str) -> str:
    """Return the number of a release without its local label: a lock is of 0.32.0, whatever it was built for.

    Raises:
        ConfigError: it is no number.
    """
    try:
        return Version(number).public
    except InvalidVersion:
        raise ConfigError(
            f"{number!r} is no number of a release, and a lock is by release; name a vLLM that has one."
        ) from None


def _version(number: str) -> Version:
    return Version(public(number))


def _see_file(path: Path) -> None:
    """Refuse what is there and no file: a device or pipe would be waited for, or replaced."""
    mode = 0
    with contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode
    if mode and not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no file")


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield a new file that takes the place of `target` when the block is left without an exception."""
    # A link stays one.
    target = target.resolve()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        new = Path(folder, target.name)
        yield new
        os.replace(new, target)
